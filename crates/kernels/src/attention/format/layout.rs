//! What pages look like in every format: how numbers become codes, and where those are.

use super::super::queries::{Queries, QueryBlock};
use super::{Format, PageShape, SlotMut};
use crate::lanes::{Lanes, Reduce, ReduceKernel, all_from_zero};
use half::f16;
use half::slice::HalfBitsSliceExt;
use std::marker::PhantomData;

/// Numbers of a head at most.
const HEAD_MAX: usize = 512;

/// Larger numbers of a query count as this, so that their sums are finite.
const LARGEST_NUMBER: f32 = 1e30;

/// Blocks of a head at most, of the smallest.
const BLOCKS_MAX: usize = HEAD_MAX / 32;

/// Scales of all keys of a page, and of all values.
#[inline(always)]
fn scales_len<F: Format>(shape: PageShape) -> usize {
    blocks::<F>(shape) * shape.page_tokens
}

/// Blocks of a head.
#[inline(always)]
pub(in super::super) fn blocks<F: Format>(shape: PageShape) -> usize {
    shape.head_dim.div_ceil(F::BLOCK)
}

/// Words of all keys of a page, and of all values.
#[inline(always)]
fn codes_words<F: Format>(shape: PageShape) -> usize {
    shape.head_dim * shape.page_tokens * size_of::<F::Code>() / size_of::<u16>()
}

/// See [`super::KvType::page_len`].
pub(in super::super) fn page_len<F: Format>(shape: PageShape) -> usize {
    assert!(shape.head_dim <= HEAD_MAX, "heads of {} numbers, of {HEAD_MAX} at most", shape.head_dim);
    2 * (codes_words::<F>(shape) + scales_len::<F>(shape))
}

/// The keys of a page, `[head_dim / PER_WORD][page_tokens][PER_WORD]`, and their scales, `[blocks][page_tokens]`.
#[inline(always)]
pub(super) fn keys<F: Format>(page: &[u16], shape: PageShape) -> (&[F::Code], &[f16]) {
    let words = codes_words::<F>(shape);
    (codes::<F>(&page[..words]), page[2 * words..][..scales_len::<F>(shape)].reinterpret_cast())
}

/// The values of a page, `[page_tokens / 2][head_dim][2]`, and their scales, `[blocks][page_tokens]`.
#[inline(always)]
pub(in super::super) fn values<F: Format>(page: &[u16], shape: PageShape) -> (&[F::Code], &[f16]) {
    let words = codes_words::<F>(shape);
    (codes::<F>(&page[words..2 * words]), page[2 * words + scales_len::<F>(shape)..].reinterpret_cast())
}

/// Words as the codes they are made of.
#[inline(always)]
fn codes<F: Format>(words: &[u16]) -> &[F::Code] {
    // SAFETY: codes are integers of one byte or two, of which any bits are one, and need no more alignment than a word.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words) / size_of::<F::Code>()) }
}

fn codes_mut<F: Format>(words: &mut [u16]) -> &mut [F::Code] {
    // SAFETY: as in `codes`, and any codes make words.
    unsafe {
        std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words) / size_of::<F::Code>())
    }
}

/// Stores a key and a value: see [`super::KvType::write`].
pub(super) struct Write<'a, F> {
    pub(super) to: SlotMut<'a>,
    pub(super) key: &'a [f32],
    pub(super) value: &'a [f32],
    pub(super) format: PhantomData<F>,
}

impl<F: Format> ReduceKernel for Write<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Reduce>(self) {
        let SlotMut { page, shape, slot } = self.to;
        let PageShape { head_dim, page_tokens } = shape;
        let (keys, rest) = page.split_at_mut(codes_words::<F>(shape));
        let (values, scales) = rest.split_at_mut(codes_words::<F>(shape));
        let mut rotated = [0.0; HEAD_MAX];
        let key = &mut rotated[..head_dim];
        key.copy_from_slice(self.key);
        rotate::<L>(key, f32::from(f16::MAX) * F::LARGEST_KEY);

        let blocks = blocks::<F>(shape);
        let mut exact = [0.0; 2 * BLOCKS_MAX];
        for (block, (key, value)) in key.chunks(F::BLOCK).zip(self.value.chunks(F::BLOCK)).enumerate() {
            exact[block] = scale::<L>(key, F::LARGEST_KEY);
            exact[blocks + block] = scale::<L>(value, F::LARGEST_VALUE);
        }
        let mut rounded = [f16::ZERO; 2 * BLOCKS_MAX];
        let read = round_up::<L>(&exact, &mut rounded, 2 * blocks);
        let stored = scales.reinterpret_cast_mut::<f16>()[slot..].iter_mut().step_by(page_tokens);
        for (to, scale) in stored.zip(rounded) {
            *to = scale;
        }

        let mut codes = [0i16; HEAD_MAX];
        for (block, numbers) in key.chunks(F::BLOCK).enumerate() {
            quantize::<L>(numbers, read[block], F::LARGEST_KEY, &mut codes[block * F::BLOCK..]);
        }
        let words = keys.as_chunks_mut::<2>().0[slot..].iter_mut().step_by(page_tokens);
        for (word, codes) in words.zip(codes[..head_dim].chunks_exact(F::PER_WORD)) {
            let bits = F::word(codes).cast_unsigned() ^ F::ZERO_KEYS;
            *word = [bits as u16, (bits >> 16) as u16];
        }
        for (block, numbers) in self.value.chunks(F::BLOCK).enumerate() {
            quantize::<L>(numbers, read[blocks + block], F::LARGEST_VALUE, &mut codes[block * F::BLOCK..]);
        }
        let pairs = codes_mut::<F>(values)[slot / 2 * 2 * head_dim..].as_chunks_mut::<2>().0;
        let pairs = pairs.iter_mut().zip(&codes[..head_dim]);
        // Whole pairs are stored, which is done by vectors.
        match slot % 2 {
            0 => {
                for (to, code) in pairs {
                    *to = [F::narrow(*code), to[1]];
                }
            }
            _ => {
                for (to, code) in pairs {
                    *to = [to[0], F::narrow(*code)];
                }
            }
        }
    }
}

/// Quantizes queries: see [`super::Spec`].
pub(super) struct Prepare<'a, F> {
    pub(super) queries: &'a mut Queries,
    /// What scores are multiplied with.
    pub(super) scale: f32,
    pub(super) format: PhantomData<F>,
}

impl<F: Format> ReduceKernel for Prepare<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Reduce>(self) {
        self.queries.rotate(|query| rotate::<L>(query, LARGEST_NUMBER));
        self.queries.quantize(F::BLOCK, F::PER_WORD, |numbers, words| {
            let mut codes = [0i16; HEAD_MAX];
            let codes = &mut codes[..numbers.len()];
            let scale = scale::<L>(numbers, F::LARGEST_QUERY);
            quantize::<L>(numbers, scale, F::LARGEST_QUERY, codes);
            for (word, codes) in words.iter_mut().zip(codes.chunks_exact(F::PER_WORD)) {
                *word = F::word(codes);
            }
            let total = match F::ZERO_KEYS {
                0 => 0,
                // What the zero of each key adds to a sum: see `Lanes::first_sums`.
                _ => codes.iter().map(|&code| i32::from(code)).sum(),
            };
            QueryBlock { scale: scale * self.scale, total }
        });
    }
}

/// Turns a head, whose length is a multiple of eight, by Hadamard matrices: one of the largest power of two that it has
/// numbers, and so on with the rest. Numbers beyond `most` count as that, as sums of what is infinite would be nothing.
#[inline(always)]
fn rotate<L: Reduce>(mut head: &mut [f32], most: f32) {
    for part in head.chunks_exact_mut(L::N) {
        // What is not a number stays so: see `Lanes::max`.
        L::splat(most).min(L::splat(-most).max(L::load(part))).store(part);
    }
    while !head.is_empty() {
        let (turned, rest) = head.split_at_mut(1 << head.len().ilog2());
        let (mut half, count) = (8, turned.len());
        if count >= 64 {
            for numbers in turned.as_chunks_mut::<64>().0 {
                turn_eights::<L>(numbers);
            }
            half = 64;
        }
        while half < count {
            for pair in turned.chunks_exact_mut(2 * half) {
                let (a, b) = pair.split_at_mut(half);
                for (a, b) in a.chunks_exact_mut(L::N).zip(b.chunks_exact_mut(L::N)) {
                    let (x, y) = (L::load(a), L::load(b));
                    x.add(y).store(a);
                    x.sub(y).store(b);
                }
            }
            half *= 2;
        }
        let scale = L::splat(1.0 / (count as f32).sqrt());
        for eight in turned.as_chunks_mut::<8>().0 {
            let mut sum = L::splat(0.0);
            for (number, row) in eight.iter().zip(&HADAMARD) {
                sum = L::load(row).fma(L::splat(*number), sum);
            }
            sum.mul(scale).store(eight);
        }
        head = rest;
    }
}

/// Turns the eighths of 64 numbers with each other, in registers.
#[inline(always)]
fn turn_eights<L: Reduce>(numbers: &mut [f32; 64]) {
    let mut eights = [L::splat(0.0); 8];
    for (eight, from) in eights.iter_mut().zip(numbers.as_chunks::<8>().0) {
        *eight = L::load(from);
    }
    for half in [1, 2, 4] {
        for a in 0..8 {
            if a & half == 0 {
                let (x, y) = (eights[a], eights[a + half]);
                (eights[a], eights[a + half]) = (x.add(y), x.sub(y));
            }
        }
    }
    for (eight, to) in eights.into_iter().zip(numbers.as_chunks_mut::<8>().0) {
        eight.store(to);
    }
}

/// The Hadamard matrix of eight, not scaled: an entry is negative where the bits that its row and column have in common are
/// odd in number.
const HADAMARD: [[f32; 8]; 8] = {
    let mut matrix = [[1.0; 8]; 8];
    let mut entry = 0;
    while entry < 64usize {
        let (row, column) = (entry / 8, entry % 8);
        if (row & column).count_ones() % 2 == 1 {
            matrix[row][column] = -1.0;
        }
        entry += 1;
    }
    matrix
};

/// Rounds scales up to what f16 can tell, so that the largest code is large enough, and returns what they are then.
#[inline(always)]
fn round_up<L: Lanes>(
    exact: &[f32; 2 * BLOCKS_MAX],
    rounded: &mut [f16; 2 * BLOCKS_MAX],
    count: usize,
) -> [f32; 2 * BLOCKS_MAX] {
    let mut read = [0.0; 2 * BLOCKS_MAX];
    for first in (0..count).step_by(L::N) {
        L::load(&exact[first..]).store_f16(&mut rounded[first..]);
        L::load_f16(&rounded[first..]).store(&mut read[first..]);
    }
    for ((exact, rounded), read) in exact.iter().zip(rounded).zip(&mut read).take(count) {
        if *read < *exact {
            *rounded = f16::from_bits(rounded.to_bits() + 1);
            *read = rounded.to_f32();
        }
    }
    read
}

/// The scale of codes up to `largest` for a block, whose length is a multiple of eight; larger numbers than it can tell count
/// as that. Something that is not a number makes it so.
#[inline(always)]
fn scale<L: Lanes>(numbers: &[f32], largest: f32) -> f32 {
    let most = f32::from(f16::MAX) * largest;
    let (mut found, mut nothing) = (L::splat(0.0), L::splat(0.0));
    for part in numbers.chunks_exact(L::N) {
        // What is not a number stays so here, and is lost in the maximum.
        let number = L::splat(most).min(L::load(part).abs());
        found = number.max(found);
        nothing = number.fma(L::splat(0.0), nothing);
    }
    match all_from_zero(nothing) {
        true => found.max_lane() / largest,
        false => f32::NAN,
    }
}

/// Quantizes a block, whose length is a multiple of eight, to codes in `[-largest, largest]`.
#[inline(always)]
fn quantize<L: Lanes>(numbers: &[f32], scale: f32, largest: f32, codes: &mut [i16]) {
    // The reciprocal of less would overflow; such a block counts as zero.
    let inverse = if scale > 1e-35 { 1.0 / scale } else { 0.0 };
    let limit = L::splat(largest);
    for (part, codes) in numbers.chunks_exact(L::N).zip(codes.chunks_exact_mut(L::N)) {
        let code = L::load(part).mul(L::splat(inverse));
        code.min(limit).max(L::splat(-largest)).store_i16(codes);
    }
}

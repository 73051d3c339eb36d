//! 8-bit integers with a scale for each 32 numbers of a key or value, of the last fewer where a head has no whole blocks.
//!
//! The blocks are those of [`crate::DType::Q8_0`], `number = scale * code` with `scale = max |number| / 127`. Keys have
//! few numbers that are much larger than the others, which would get their coarse steps. So keys and queries are turned by
//! the same Hadamard matrix first: products stay what they are, and what is large is spread over all numbers of the head.
//! A page is laid out by vectors of slots:
//!
//! ```text
//! [head_dim / 4][page_tokens][4] keys, u8, codes plus 128    [page_tokens][head_dim] values, i8
//! [blocks][page_tokens] scales of keys, f16                  [blocks][page_tokens] scales of values, f16
//! ```
//! A score is made of integer products. The query is turned and quantized once, in the same blocks but with scales of f32,
//! and four of its codes are multiplied with those of a vector of slots at a time:
//!
//! ```text
//! n[b][t] = sum over d in block b of q[d] k[d][t]                              exact: at most 32 * 127 * 127
//! s[t]    = fused sum over b of n[b][t] * (scale of k[b][t] * scale of q[b])   in the order of the blocks
//! ```
//! Only the second line rounds, and it is written once, so all instruction sets give the same bits. The codes of keys are
//! unsigned for `vpdpbusd`. Values become f32, scale times code, which is exact, before they are multiplied with weights:
//! integer products would need codes of the weights of each query, and as many operations to make them as they save.
//!
//! Scales are f16, as in the files: rounding them to 11 bits moves numbers by a small part of a step, and f32 would take 6 %
//! more memory.

use super::super::SPAN_TOKENS_MAX;
use super::super::queries::{Queries, QueryBlock};
use super::super::span::Ahead;
use super::{Format, PageShape, SlotMut};
use crate::Isa;
use crate::lanes::{Lanes, Reduce, ReduceKernel, run};
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

/// Numbers that share a scale.
pub(in super::super) const BLOCK: usize = 32;

pub(in super::super) struct Q8_0;

/// What code 0 of a key is stored as.
const ZERO: u8 = 128;

/// The largest number that a block can hold: a scale is an f16.
const LARGEST: f32 = 65504.0 * 127.0;

/// Numbers of a head at most.
const HEAD_MAX: usize = 512;

impl PageShape {
    /// Blocks of a head.
    #[inline(always)]
    fn blocks(self) -> usize {
        self.head_dim.div_ceil(BLOCK)
    }

    /// Bytes of all keys of a page, and of all values.
    #[inline(always)]
    fn codes(self) -> usize {
        self.head_dim * self.page_tokens
    }

    /// Scales of all keys of a page, and of all values.
    #[inline(always)]
    fn scales(self) -> usize {
        self.blocks() * self.page_tokens
    }
}

impl Format for Q8_0 {
    const NAME: &'static str = "q8_0";

    type Value = i8;

    const SCALED: usize = BLOCK;

    /// Those of the slots: asking among the products, which are a sixth of the time, made attention slower.
    fn steps(_: usize) -> usize {
        SPAN_TOKENS_MAX
    }

    fn page_len(shape: PageShape) -> usize {
        assert!(shape.head_dim <= HEAD_MAX, "heads of {} numbers, of {HEAD_MAX} at most", shape.head_dim);
        shape.codes() + 2 * shape.scales()
    }

    fn write(isa: Isa, to: SlotMut<'_>, key: &[f32], value: &[f32]) {
        run(isa, Write { to, key, value });
    }

    fn prepare(isa: Isa, queries: &mut Queries) {
        run(isa, Prepare(queries));
    }

    #[inline(always)]
    fn products<L: Lanes, const Q: usize, const W: usize>(
        queries: &Queries,
        index: usize,
        shape: PageShape,
        slots: [(&[u16], usize); W],
        _: &mut Ahead<'_>,
    ) -> [[L; W]; Q] {
        let (mut of_queries, mut of_blocks) = ([&[] as &[i32]; Q], [&[] as &[QueryBlock]; Q]);
        for q in 0..Q {
            (of_queries[q], of_blocks[q]) = queries.codes(index + q);
        }
        let (mut keys, mut scales) = ([&[] as &[u8]; W], [&[] as &[f16]; W]);
        for (w, (page, slot)) in slots.into_iter().enumerate() {
            keys[w] = &bytes(page)[4 * slot..shape.codes()];
            scales[w] = &page.reinterpret_cast()[shape.codes() + slot..][..shape.scales() - slot];
        }
        let stride = 4 * shape.page_tokens;
        for keys in keys {
            assert!(keys.len() >= (shape.head_dim / 4 - 1) * stride + 4 * L::N, "codes of a vector of slots");
        }
        let mut scores = [[L::splat(0.0); W]; Q];
        for block in 0..shape.blocks() {
            let mut sums = [[L::first_sums(0); W]; Q];
            for q in 0..Q {
                sums[q] = [L::first_sums(of_blocks[q][block].total); W];
            }
            let fours = block * BLOCK / 4..((block + 1) * BLOCK / 4).min(shape.head_dim / 4);
            let mut factors = [&[] as &[i32]; Q];
            for q in 0..Q {
                factors[q] = &of_queries[q][fours.clone()];
            }
            for (index, four) in fours.enumerate() {
                let at = four * stride;
                // SAFETY: `four` is below a fourth of the head, and the lengths above are those.
                let load = |w: usize| L::load_codes(unsafe { keys[w].get_unchecked(at..at + 4 * L::N) });
                let mut codes = [load(0); W];
                for (w, codes) in codes.iter_mut().enumerate().skip(1) {
                    *codes = load(w);
                }
                for q in 0..Q {
                    for w in 0..W {
                        sums[q][w] = L::add_products(sums[q][w], codes[w], factors[q][index]);
                    }
                }
            }
            for w in 0..W {
                let scale = L::load_f16(&scales[w][block * shape.page_tokens..]);
                for q in 0..Q {
                    let factor = scale.mul(L::splat(of_blocks[q][block].scale));
                    scores[q][w] = L::from_ints(sums[q][w]).fma(factor, scores[q][w]);
                }
            }
        }
        scores
    }

    #[inline(always)]
    fn values(page: &[u16], shape: PageShape) -> &[i8] {
        signed(&bytes(page)[shape.codes()..2 * shape.codes()])
    }

    #[inline(always)]
    fn scales(page: &[u16], shape: PageShape) -> &[f16] {
        &page.reinterpret_cast()[shape.codes() + shape.scales()..]
    }
}

/// Stores a key and a value: see [`Format::write`].
struct Write<'a> {
    to: SlotMut<'a>,
    key: &'a [f32],
    value: &'a [f32],
}

impl ReduceKernel for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Reduce>(self) {
        let SlotMut { page, shape, slot } = self.to;
        let (codes, scales) = page.split_at_mut(shape.codes());
        let (keys, values) = bytes_mut(codes).split_at_mut(shape.codes());
        let (key_scales, value_scales) = scales.reinterpret_cast_mut::<f16>().split_at_mut(shape.scales());
        let mut of_blocks = [0.0; 2];
        let mut rounded = [f16::ZERO; 2];
        let mut rotated = [0.0; HEAD_MAX];
        let key = &mut rotated[..self.key.len()];
        key.copy_from_slice(self.key);
        // Sums of what is infinite would be nothing.
        key.iter_mut().for_each(|number| *number = number.clamp(-LARGEST, LARGEST));
        rotate(key);
        let blocks = key.chunks(BLOCK).zip(self.value.chunks(BLOCK)).enumerate();
        for (block, (key, value)) in blocks {
            let mut codes = [0i8; BLOCK];
            of_blocks[0] = quantize::<L>(key, &mut codes);
            let fours = keys.chunks_exact_mut(4 * shape.page_tokens).skip(block * BLOCK / 4);
            for (to, codes) in fours.zip(codes[..key.len()].chunks_exact(4)) {
                for (to, code) in to[4 * slot..].iter_mut().zip(codes) {
                    *to = code.cast_unsigned() ^ ZERO;
                }
            }
            of_blocks[1] = quantize::<L>(value, &mut codes);
            let to = &mut values[slot * shape.head_dim + block * BLOCK..];
            to.iter_mut().zip(&codes[..value.len()]).for_each(|(to, code)| *to = code.cast_unsigned());
            // Together: a conversion asks each time what the processor can do.
            rounded.convert_from_f32_slice(&of_blocks);
            key_scales[block * shape.page_tokens + slot] = rounded[0];
            value_scales[block * shape.page_tokens + slot] = rounded[1];
        }
    }
}

/// Quantizes queries: see [`Format::prepare`].
struct Prepare<'a>(&'a mut Queries);

impl ReduceKernel for Prepare<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Reduce>(self) {
        self.0.rotate(rotate);
        self.0.quantize(|numbers, fours| {
            let mut codes = [0i8; BLOCK];
            let scale = quantize::<L>(numbers, &mut codes);
            let mut total = 0;
            for (to, four) in fours.iter_mut().zip(codes.as_chunks::<4>().0) {
                total += four.iter().map(|&code| i32::from(code)).sum::<i32>();
                *to = i32::from_le_bytes(four.map(i8::cast_unsigned));
            }
            QueryBlock { scale, total }
        });
    }
}

/// Turns a head, whose length is a multiple of eight, by Hadamard matrices: one of the largest power of two that it has
/// numbers, and so on with the rest. Sums of two, so their order is that of the code on every instruction set.
#[inline(always)]
fn rotate(mut head: &mut [f32]) {
    while !head.is_empty() {
        let (turned, rest) = head.split_at_mut(1 << head.len().ilog2());
        for eight in turned.as_chunks_mut::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *eight;
            let [a, b, c, d, e, f, g, h] = [a + b, a - b, c + d, c - d, e + f, e - f, g + h, g - h];
            let [a, b, c, d, e, f, g, h] = [a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h];
            *eight = [a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h];
        }
        let mut half = 8;
        while half < turned.len() {
            for pair in turned.chunks_exact_mut(2 * half) {
                let (a, b) = pair.split_at_mut(half);
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        let scale = 1.0 / (turned.len() as f32).sqrt();
        turned.iter_mut().for_each(|number| *number *= scale);
        head = rest;
    }
}

/// Quantizes a block, whose length is a multiple of eight, to codes in [-127, 127]; returns the scale. Something that is
/// not a number makes the scale so.
#[inline(always)]
fn quantize<L: Lanes>(numbers: &[f32], codes: &mut [i8]) -> f32 {
    let mut largest = L::splat(0.0);
    for part in numbers.chunks_exact(L::N) {
        largest = L::load(part).abs().max(largest);
    }
    let largest = largest.max_lane().min(LARGEST);
    // Below this the reciprocal would overflow; such a block counts as zero.
    let (scale, inverse) = if largest > 1e-30 { (largest / 127.0, 127.0 / largest) } else { (0.0, 0.0) };
    for (part, codes) in numbers.chunks_exact(L::N).zip(codes.chunks_exact_mut(L::N)) {
        let inside = L::load(part).min(L::splat(largest)).max(L::splat(-largest));
        inside.mul(L::splat(inverse)).store_i8(codes);
    }
    match numbers.iter().any(|number| number.is_nan()) {
        true => f32::NAN,
        false => scale,
    }
}

/// Words as the bytes they are made of.
#[inline(always)]
fn bytes(words: &[u16]) -> &[u8] {
    // SAFETY: any byte of a word is one, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

fn bytes_mut(words: &mut [u16]) -> &mut [u8] {
    // SAFETY: as in `bytes`, and any two bytes are a word.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

#[inline(always)]
fn signed(bytes: &[u8]) -> &[i8] {
    // SAFETY: the two types have the same layout, and all bits are valid.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

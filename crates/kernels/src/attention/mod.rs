//! Attention over pages of keys and values, flash style: one pass over the pages with a running maximum and
//! sum.
//!
//! A page holds up to 64 tokens of one key-value head, f16, in one slice: the keys transposed, so that a
//! vector of slots is multiplied with one number of the query, then the values:
//!
//! ```text
//! [head_dim][page_tokens] keys    [page_tokens][head_dim] values
//! ```
//! [`Attention`] serves all queries of one key-value head that look at the same pages: the heads that share
//! it, of one or more rows of the batch. Per query and page:
//!
//! ```text
//! s[t] = scale * (sum over even d of q[d] k[d][t] + sum over odd d)     t: the slots of the row's mask
//! s    = cap * tanh(s / cap)                                            where scores have a cap
//! m'   = max(m, s);  p[t] = exp(s[t] - m')
//! acc  = exp(m - m') * acc + sum of p[t] v[t];  sum likewise;  m = m'
//! ```
//! A query's result depends on its own mask and pages only: slots outside the mask are skipped, not
//! multiplied by zero, so what they hold (even NaN) never matters, and a page without any slot leaves the
//! state as it is.

use crate::lanes::{Kernel, Lanes, Number, Reduce, ReduceKernel, exp, run, run_wide, tanh};
use crate::memory::prefetch;
use crate::{Isa, Tile, TileMut};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// The most slots a page may have: the bits of a mask.
pub const PAGE_TOKENS_MAX: usize = 64;

/// Numbers in a page of one key-value head: keys and values.
pub fn page_len(head_dim: usize, page_tokens: usize) -> usize {
    2 * head_dim * page_tokens
}

/// Stores the key and value of one token, `head_dim` numbers each, in slot `slot` of a page. What is beyond
/// the range of f16 is stored as its largest number: an infinite score would leave the token without any
/// weight. Panics unless the lengths fit (see the module docs for the layout).
pub fn write_kv(page: &mut [f16], page_tokens: usize, slot: usize, key: &[f32], value: &[f32]) {
    let head_dim = key.len();
    assert_eq!(value.len(), head_dim);
    assert_eq!(page.len(), page_len(head_dim, page_tokens), "page of {page_tokens} tokens by {head_dim}");
    assert!(slot < page_tokens, "slot {slot} of {page_tokens}");
    let (keys, values) = page.split_at_mut(head_dim * page_tokens);
    // Converted in pieces: a conversion of one number asks each time what the processor can do.
    let mut converted = [f16::ZERO; 64];
    for (rows, key) in keys.chunks_mut(64 * page_tokens).zip(key.chunks(64)) {
        let converted = &mut converted[..key.len()];
        converted.convert_from_f32_slice(key);
        for (row, &number) in rows.chunks_exact_mut(page_tokens).zip(converted.iter()) {
            row[slot] = finite(number);
        }
    }
    let values = &mut values[slot * head_dim..][..head_dim];
    values.convert_from_f32_slice(value);
    values.iter_mut().for_each(|number| *number = finite(*number));
}

/// Asks for a page before it is needed: pages of one layer lie far from each other, where the processor does not look by
/// itself, and a page is short to compute. Changes nothing else.
pub fn prefetch_page(page: &[f16]) {
    for line in page.chunks(64 / size_of::<f16>()) {
        prefetch(line.as_ptr().cast());
    }
}

/// The nearest finite number; what is not a number stays so.
fn finite(number: f16) -> f16 {
    match number.is_infinite() {
        true => f16::MAX.copysign(number),
        false => number,
    }
}

/// The query heads of one key-value head.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Heads of a row.
    pub heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// What scores are multiplied with.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub cap: Option<f32>,
}

/// The running state of the queries of one key-value head. Reusable: [`Attention::start`] keeps the memory.
#[derive(Default)]
pub struct Attention {
    head_dim: usize,
    page_tokens: usize,
    heads: usize,
    scale: f32,
    cap: Option<f32>,
    /// Per query: the largest score so far, the sum of the exponentials, and `head_dim` weighted values.
    max: Vec<f32>,
    sum: Vec<f32>,
    acc: Vec<f32>,
    /// Per query, what multiplies the values of the pages before.
    factors: Vec<f32>,
    /// Per query, the scores of the page and then their exponentials.
    scores: Vec<[f32; PAGE_TOKENS_MAX]>,
    /// The page as f32, made when several queries read it.
    page: Vec<f32>,
}

impl Attention {
    /// Begins: `rows` rows of the batch with the queries of `shape`, over pages of `page_tokens` slots. Panics
    /// unless the numbers of a head are a multiple of 8 and `page_tokens` is a multiple of 8 up to 64.
    pub fn start(&mut self, rows: usize, shape: Heads, page_tokens: usize) {
        let Heads { heads, head_dim, scale, cap } = shape;
        assert!(
            head_dim > 0 && head_dim.is_multiple_of(8),
            "head dimension {head_dim} is not a multiple of 8"
        );
        assert!(
            page_tokens > 0 && page_tokens.is_multiple_of(8) && page_tokens <= PAGE_TOKENS_MAX,
            "{page_tokens} tokens per page is not a multiple of 8 up to {PAGE_TOKENS_MAX}"
        );
        let queries = rows * heads;
        (self.head_dim, self.page_tokens, self.heads) = (head_dim, page_tokens, heads);
        (self.scale, self.cap) = (scale, cap);
        self.max.clear();
        self.max.resize(queries, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(queries, 0.0);
        self.acc.clear();
        self.acc.resize(queries * head_dim, 0.0);
        self.factors.resize(queries, 0.0);
        self.scores.resize(queries, [0.0; PAGE_TOKENS_MAX]);
        self.page.resize(page_len(head_dim, page_tokens), 0.0);
    }

    /// Takes one page in. `queries` is the rectangle `[rows][heads * head_dim]`; bit `t` of `masks[row]` says
    /// that the row attends to slot `t`. Pages are taken in the order of their tokens, the same for every
    /// batch. Panics when a shape differs from [`Attention::start`] or a mask has bits beyond the page.
    pub fn attend_page(&mut self, isa: Isa, queries: &Tile<'_, f32>, masks: &[u64], page: &[f16]) {
        let (width, rows) = (self.heads * self.head_dim, self.max.len() / self.heads.max(1));
        assert_eq!((queries.rows().len(), queries.cols().len()), (rows, width), "shape of the queries");
        assert_eq!(masks.len(), rows, "a mask per row");
        assert_eq!(page.len(), page_len(self.head_dim, self.page_tokens), "length of the page");
        let beyond = u64::MAX.checked_shl(self.page_tokens as u32).unwrap_or(0);
        let all = masks.iter().fold(0, |all, mask| all | mask);
        assert!(all & beyond == 0, "mask {all:#x} for a page of {} tokens", self.page_tokens);
        if all == 0 {
            return;
        }
        let live = masks.iter().filter(|&&mask| mask != 0).count() * self.heads;
        // A block of three queries converts as it goes; more would convert the same numbers again.
        if live <= 3 {
            self.attend(isa, queries, masks, page);
        } else {
            let mut converted = std::mem::take(&mut self.page);
            run_in(isa, self.wide(), Convert { from: page, to: &mut converted });
            self.attend(isa, queries, masks, &converted);
            self.page = converted;
        }
    }

    /// The page may hold f16 as stored, or f32 converted before; both give the same lanes.
    fn attend<T: Number>(&mut self, isa: Isa, queries: &Tile<'_, f32>, masks: &[u64], page: &[T]) {
        let (keys, values) = page.split_at(self.head_dim * self.page_tokens);
        let wide = self.wide();
        run_in(isa, wide, Score { step: Step { state: self, masks, numbers: keys }, queries });
        run(isa, OnlineSoftmax { state: self, masks });
        run_in(isa, wide, Accumulate(Step { state: self, masks, numbers: values }));
    }

    /// Whether whole vectors of 16 fill the page.
    fn wide(&self) -> bool {
        self.head_dim.is_multiple_of(16) && self.page_tokens.is_multiple_of(16)
    }

    /// Ends: writes `acc / sum` per query to the rectangle `[rows][heads * head_dim]`; zeros where nothing
    /// was attended. Panics when the shape differs from [`Attention::start`].
    pub fn finish(&self, isa: Isa, out: &mut TileMut<'_, f32>) {
        let (width, rows) = (self.heads * self.head_dim, self.max.len() / self.heads.max(1));
        assert_eq!((out.rows().len(), out.cols().len()), (rows, width), "shape of the output");
        for (query, acc) in self.acc.chunks_exact(self.head_dim).enumerate() {
            let out = &mut out.row(query / self.heads)[query % self.heads * self.head_dim..][..self.head_dim];
            let inverse = if self.sum[query] > 0.0 { 1.0 / self.sum[query] } else { 0.0 };
            out.copy_from_slice(acc);
            crate::ops::scale(isa, out, inverse);
        }
    }
}

/// Uses 16 lanes on AVX-512 when the shape allows. There is no sum across lanes (scores are sums over the
/// numbers of a head, values over slots), so the bits are those of 8 lanes.
fn run_in<K: Kernel>(isa: Isa, wide: bool, kernel: K) -> K::Output {
    if wide { run_wide(isa, kernel) } else { run(isa, kernel) }
}

/// What a step of [`Attention::attend_page`] works on.
struct Step<'a, T> {
    state: &'a mut Attention,
    masks: &'a [u64],
    /// The part of the page that it reads: keys or values.
    numbers: &'a [T],
}

/// Converts a page.
struct Convert<'a> {
    from: &'a [f16],
    to: &'a mut [f32],
}

impl Kernel for Convert<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        for (to, from) in self.to.chunks_exact_mut(L::N).zip(self.from.chunks_exact(L::N)) {
            L::load_f16(from).store(to);
        }
    }
}

/// Scores of all queries whose row attends to anything.
struct Score<'a, 'q, T> {
    step: Step<'a, T>,
    queries: &'a Tile<'q, f32>,
}

impl<T: Number> Kernel for Score<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Score { step: Step { state, masks, numbers: keys }, queries } = self;
        let (heads, head_dim) = (state.heads, state.head_dim);
        let query = |index: usize| &queries.row(index / heads)[index % heads * head_dim..][..head_dim];
        // As many queries as the registers hold sums of: 16 vectors of 8 numbers, or 32 of 16.
        let most = if L::N == 16 { 6 } else { 3 };
        let mut block = [0; 6];
        let mut filled = 0;
        for index in 0..state.max.len() {
            if masks[index / heads] == 0 {
                continue;
            }
            block[filled] = index;
            filled += 1;
            if filled == most {
                if L::N == 16 {
                    score::<L, T, 6>(state, block.map(query), block, keys);
                } else {
                    let block = [block[0], block[1], block[2]];
                    score::<L, T, 3>(state, block.map(query), block, keys);
                }
                filled = 0;
            }
        }
        let mut rest = &block[..filled];
        if let [a, b, c, ..] = *rest {
            score::<L, T, 3>(state, [a, b, c].map(query), [a, b, c], keys);
            rest = &rest[3..];
        }
        match *rest {
            [a] => score::<L, T, 1>(state, [query(a)], [a], keys),
            [a, b] => score::<L, T, 2>(state, [query(a), query(b)], [a, b], keys),
            _ => {}
        }
    }
}

/// Scores become exponentials, query by query.
struct OnlineSoftmax<'a> {
    state: &'a mut Attention,
    masks: &'a [u64],
}

impl ReduceKernel for OnlineSoftmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Reduce>(self) {
        for index in 0..self.state.max.len() {
            let mask = self.masks[index / self.state.heads];
            if mask != 0 {
                self.state.factors[index] = online_softmax::<L>(self.state, index, mask);
            }
        }
    }
}

/// Values are added, weighted by the exponentials.
struct Accumulate<'a, T>(Step<'a, T>);

impl<T: Number> Kernel for Accumulate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Step { state, masks, numbers: values } = self.0;
        let heads = state.heads;
        for (row, mask) in masks.iter().enumerate().filter(|(_, mask)| **mask != 0) {
            let (mut index, end) = (row * heads, (row + 1) * heads);
            // The heads of a row attend to the same slots, so they can share what is loaded.
            while L::N == 16 && end - index >= 3 {
                accumulate::<L, T, 3>(state, index, *mask, values);
                index += 3;
            }
            while index < end {
                accumulate::<L, T, 1>(state, index, *mask, values);
                index += 1;
            }
        }
    }
}

/// Scores of `Q` queries for every slot of the page; those outside the mask mean nothing.
#[inline(always)]
fn score<L: Lanes, T: Number, const Q: usize>(
    state: &mut Attention,
    queries: [&[f32]; Q],
    indices: [usize; Q],
    keys: &[T],
) {
    let tokens = state.page_tokens;
    let mut first = 0;
    while first < tokens {
        // Two vectors of slots where the page has them: 3 queries x 2 vectors x 2 chains fill the registers.
        if tokens - first >= 2 * L::N {
            score_slots::<L, T, Q, 2>(state, queries, indices, keys, first);
            first += 2 * L::N;
        } else {
            score_slots::<L, T, Q, 1>(state, queries, indices, keys, first);
            first += L::N;
        }
    }
}

#[inline(always)]
fn score_slots<L: Lanes, T: Number, const Q: usize, const W: usize>(
    state: &mut Attention,
    queries: [&[f32]; Q],
    indices: [usize; Q],
    keys: &[T],
    first: usize,
) {
    let mut acc = [[[L::splat(0.0); 2]; W]; Q];
    for (pair, keys) in keys.chunks_exact(2 * state.page_tokens).enumerate() {
        for part in 0..2 {
            let keys = &keys[part * state.page_tokens + first..][..W * L::N];
            let keys: [L; W] = std::array::from_fn(|w| T::load::<L>(&keys[w * L::N..]));
            for q in 0..Q {
                let number = L::splat(queries[q][2 * pair + part]);
                for w in 0..W {
                    acc[q][w][part] = keys[w].fma(number, acc[q][w][part]);
                }
            }
        }
    }
    for (acc, index) in acc.into_iter().zip(indices) {
        for (w, [even, odd]) in acc.into_iter().enumerate() {
            let mut score = even.add(odd).mul(L::splat(state.scale));
            if let Some(cap) = state.cap {
                let cap = L::splat(cap);
                score = cap.mul(tanh(score.div(cap)));
            }
            score.store(&mut state.scores[index][first + w * L::N..]);
        }
    }
}

/// Turns the scores of the mask into exponentials and updates maximum and sum; returns the factor of what
/// came before.
#[inline(always)]
fn online_softmax<L: Reduce>(state: &mut Attention, index: usize, mask: u64) -> f32 {
    let scores = &mut state.scores[index][..state.page_tokens];
    if mask.count_ones() as usize != scores.len() {
        for (slot, score) in scores.iter_mut().enumerate() {
            if mask >> slot & 1 == 0 {
                *score = f32::NEG_INFINITY;
            }
        }
    }
    let mut largest = L::splat(f32::NEG_INFINITY);
    for part in scores.chunks_exact(L::N) {
        largest = L::load(part).max(largest);
    }
    let before = state.max[index];
    let max = before.max(largest.max_lane());
    let mut sum = L::splat(0.0);
    for part in scores.chunks_exact_mut(L::N) {
        let p = exp(L::load(part).sub(L::splat(max)));
        p.store(part);
        sum = sum.add(p);
    }
    let factor = if before == max {
        1.0
    } else {
        let mut lanes = [0f32; 16];
        exp(L::splat(before - max)).store(&mut lanes);
        lanes[0]
    };
    state.max[index] = max;
    state.sum[index] = state.sum[index] * factor + sum.sum();
    factor
}

/// `acc = factor * acc + sum over the slots of the mask of p[t] v[t]`, slots in order, for `Q` queries from
/// `index`.
#[inline(always)]
fn accumulate<L: Lanes, T: Number, const Q: usize>(
    state: &mut Attention,
    index: usize,
    mask: u64,
    values: &[T],
) {
    let mut first = 0;
    while first < state.head_dim {
        let left = (state.head_dim - first) / L::N;
        // Sums that are independent of each other hide how long one takes.
        let width = match Q {
            1 if left >= 8 => 8,
            _ if left >= 4 => 4,
            _ => 1,
        };
        match width {
            8 => accumulate_numbers::<L, T, Q, 8>(state, index, mask, values, first),
            4 => accumulate_numbers::<L, T, Q, 4>(state, index, mask, values, first),
            _ => accumulate_numbers::<L, T, Q, 1>(state, index, mask, values, first),
        }
        first += width * L::N;
    }
}

#[inline(always)]
fn accumulate_numbers<L: Lanes, T: Number, const Q: usize, const W: usize>(
    state: &mut Attention,
    index: usize,
    mask: u64,
    values: &[T],
    first: usize,
) {
    let head_dim = state.head_dim;
    let at = |q: usize, w: usize| (index + q) * head_dim + first + w * L::N;
    // Loops instead of closures, which are not always inlined here.
    let mut sums = [[L::splat(0.0); W]; Q];
    for (q, sums) in sums.iter_mut().enumerate() {
        let factor = L::splat(state.factors[index + q]);
        for (w, sum) in sums.iter_mut().enumerate() {
            *sum = L::load(&state.acc[at(q, w)..]).mul(factor);
        }
    }
    let mut left = mask;
    while left != 0 {
        let slot = left.trailing_zeros() as usize;
        left &= left - 1;
        let mut p = [L::splat(0.0); Q];
        for (q, p) in p.iter_mut().enumerate() {
            *p = L::splat(state.scores[index + q][slot]);
        }
        let values = &values[slot * head_dim + first..][..W * L::N];
        for w in 0..W {
            let value = T::load::<L>(&values[w * L::N..]);
            for q in 0..Q {
                sums[q][w] = value.fma(p[q], sums[q][w]);
            }
        }
    }
    for (q, sums) in sums.into_iter().enumerate() {
        for (w, sum) in sums.into_iter().enumerate() {
            sum.store(&mut state.acc[at(q, w)..]);
        }
    }
}

#[cfg(test)]
mod tests;

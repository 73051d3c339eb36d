//! The kernel: a span of pages for all queries, block by block of those that attend to the same slots.
//!
//! Weights and values are multiplied as integers. A value is a scale times codes, so the scale goes to the weight, and what
//! that is becomes a code, for each query and block of numbers that share scales:
//!
//! ```text
//! p[t] = 2^(s[t] - largest s of the span)                                      at most 1; 0 where the mask has no slot
//! w[t] = p[t] * scale of v[t]
//! c    = largest w of the span / largest code of a weight
//! acc  = 2^(m - m') * acc + c * 2^(largest s - m') * sum over t of round(w[t] / c) * code of v[t]       the sum is exact
//! ```
//! So an error is a part of what counts most in the span, whatever lies in it that counts little, and whatever came before.

use super::format::{Format, PageShape, layout, products, steps};
use super::{Attention, SPAN_TOKENS_MAX};
use crate::lanes::{Kernel, Lanes, all_from_zero, exp2_to_one, tanh};
use crate::memory::{LINE_BYTES, Level, prefetch};
use std::f32::consts::LOG2_E;
use std::marker::PhantomData;
use std::ops::Range;

/// Partial sums of the exponentials: slot `t` of a span adds to the one at `t % SUMS`, so that vectors of 8 and of 16
/// add up in the same order.
pub(super) const SUMS: usize = 16;

/// Vectors of slots in a span, of 8 lanes each.
const VECTORS_MAX: usize = SPAN_TOKENS_MAX / 8;

/// A span, and what each row attends to of it.
pub(super) struct Span<'a> {
    /// Per row, the slots of the span that it attends to.
    pub(super) masks: &'a [u64],
    pub(super) pages: &'a [&'a [u16]],
    /// The pages that are likely to be needed next. They are asked for one by one, or by a few lines, while this span is
    /// computed: all at once would be more than the processor can have under way.
    pub(super) next: &'a [&'a [u16]],
}

/// Lines of pages that are asked for a few at a time.
pub(super) struct Ahead<'a> {
    pages: std::slice::Iter<'a, &'a [u16]>,
    /// Of the page that is asked for, what is left.
    at: *const u8,
    lines: usize,
    /// How many at a time.
    a_step: usize,
}

impl<'a> Ahead<'a> {
    /// All lines of the pages, in so many steps.
    pub(super) fn new(pages: &'a [&'a [u16]], steps: usize) -> Ahead<'a> {
        let lines: usize = pages.iter().map(|page| lines(page)).sum();
        Ahead { pages: pages.iter(), at: std::ptr::null(), lines: 0, a_step: lines.div_ceil(steps) }
    }

    /// Asks for the lines of a step, or what is left of a page.
    #[inline(always)]
    pub(super) fn step(&mut self) {
        self.ask(self.a_step);
    }

    /// Asks for what is left of a page, or for the next one.
    #[inline(always)]
    fn page(&mut self) {
        self.ask(usize::MAX);
    }

    /// Asks for all that is left.
    #[inline(always)]
    fn rest(&mut self) {
        while self.lines > 0 || self.pages.len() > 0 {
            self.page();
        }
    }

    #[inline(always)]
    fn ask(&mut self, most: usize) {
        if self.lines == 0 {
            let Some(page) = self.pages.next() else { return };
            (self.at, self.lines) = (page.as_ptr().cast(), lines(page));
        }
        let count = most.min(self.lines);
        for line in 0..count {
            prefetch(self.at.wrapping_add(line * LINE_BYTES), Level::Second);
        }
        self.at = self.at.wrapping_add(count * LINE_BYTES);
        self.lines -= count;
    }
}

fn lines(page: &[u16]) -> usize {
    size_of_val(page).div_ceil(LINE_BYTES)
}

/// Whether the loops of a block ask for lines as they go, so that memory has something to do all the time: of few queries.
/// Many queries take so long that memory is not what they wait for, and looking for lines costs them a twentieth, as it does
/// with vectors of 8. Those blocks ask for a page with each page.
#[inline(always)]
pub(super) const fn asks_by_line<L: Lanes, const Q: usize>() -> bool {
    L::N == 16 && Q <= 3
}

/// Takes the pages of a span in, which are of format `F`.
pub(super) struct AttendSpan<'a, F> {
    state: &'a mut Attention,
    span: Span<'a>,
    ahead: Ahead<'a>,
    format: PhantomData<F>,
}

impl<'a, F: Format> AttendSpan<'a, F> {
    pub(super) fn new(state: &'a mut Attention, span: Span<'a>) -> AttendSpan<'a, F> {
        let ahead = Ahead::new(span.next, steps::<F>(state.shape.head_dim));
        AttendSpan { state, span, ahead, format: PhantomData }
    }
}

impl<F: Format> Kernel for AttendSpan<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let heads = self.state.heads;
        self.prepare_scales::<L>();
        let mut row = 0;
        for same in self.span.masks.chunk_by(|a, b| a == b) {
            let (mut index, end) = (row * heads, (row + same.len()) * heads);
            row += same.len();
            if same[0] == 0 {
                continue;
            }
            let live = Live::of::<L>(same[0], self.state.shape.page_tokens);
            self.mask_scales::<L>(same[0], live.get());
            // As many queries as the registers hold sums of: 32 vectors of 16 numbers, or 16 of 8.
            while L::N == 16 && end - index >= 6 {
                self.block::<L, 6>(index, same[0], live.get());
                index += 6;
            }
            while end - index >= 3 {
                self.block::<L, 3>(index, same[0], live.get());
                index += 3;
            }
            while index < end {
                self.block::<L, 1>(index, same[0], live.get());
                index += 1;
            }
        }
        // Slots outside of the masks asked for nothing.
        self.ahead.rest();
    }
}

/// A number for each slot of a span.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct OfSlots([f32; SPAN_TOKENS_MAX]);

impl Default for OfSlots {
    fn default() -> OfSlots {
        OfSlots([0.0; SPAN_TOKENS_MAX])
    }
}

/// The code of a weight for each slot of a span.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Weights([i16; SPAN_TOKENS_MAX]);

impl Weights {
    /// The codes of two slots, the first one lowest.
    ///
    /// # Safety
    /// `pair` is below half the slots.
    #[inline(always)]
    unsafe fn pair(&self, pair: usize) -> i32 {
        // SAFETY: the caller's, and the codes are aligned to more than a word.
        unsafe { self.0.as_ptr().cast::<i32>().add(pair).read() }
    }
}

/// The scales of a block of values in a span.
#[derive(Clone, Copy, Default)]
pub(super) struct Scales {
    /// Of all slots.
    stored: OfSlots,
    /// Of the slots of a mask; zero for others of their vectors.
    of_mask: OfSlots,
    /// 0, or not a number where one of the mask is none.
    nothing: f32,
}

/// A vector of slots of a span.
#[derive(Clone, Copy, Default)]
struct Vector {
    /// Its number in the span.
    index: usize,
    /// Where it is: the page, and its first slot.
    page: usize,
    slot: usize,
}

impl Vector {
    /// Its first slot in the span.
    #[inline(always)]
    fn first<L: Lanes>(self) -> usize {
        self.index * L::N
    }

    /// The bits of a mask for it.
    #[inline(always)]
    fn bits<L: Lanes>(self, mask: u64) -> u16 {
        (mask >> self.first::<L>()) as u16 & (u16::MAX >> (16 - L::N))
    }
}

/// The vectors of slots to which a block attends at all, in order.
struct Live {
    vectors: [Vector; VECTORS_MAX],
    len: usize,
}

impl Live {
    #[inline(always)]
    fn of<L: Lanes>(mask: u64, page_tokens: usize) -> Live {
        let mut live = Live { vectors: [Vector::default(); VECTORS_MAX], len: 0 };
        let mut vector = Vector::default();
        for _ in 0..SPAN_TOKENS_MAX / L::N {
            if vector.bits::<L>(mask) != 0 {
                live.vectors[live.len] = vector;
                live.len += 1;
            }
            vector.index += 1;
            vector.slot += L::N;
            if vector.slot >= page_tokens {
                (vector.page, vector.slot) = (vector.page + 1, 0);
            }
        }
        live
    }

    #[inline(always)]
    fn get(&self) -> &[Vector] {
        &self.vectors[..self.len]
    }
}

impl<F: Format> AttendSpan<'_, F> {
    /// Converts the scales of values.
    #[inline(always)]
    fn prepare_scales<L: Lanes>(&mut self) {
        let shape = self.state.shape;
        let page_tokens = shape.page_tokens;
        self.state.scales.resize(layout::blocks::<F>(shape), Scales::default());
        for (page, words) in self.span.pages.iter().enumerate() {
            let scales = layout::values::<F>(words, shape).1;
            for (from, to) in scales.chunks_exact(page_tokens).zip(&mut self.state.scales) {
                let to = &mut to.stored.0[page * page_tokens..];
                for (from, to) in from.chunks_exact(L::N).zip(to.chunks_exact_mut(L::N)) {
                    L::load_f16(from).store(to);
                }
            }
        }
    }

    /// Takes those of the slots of a mask.
    #[inline(always)]
    fn mask_scales<L: Lanes>(&mut self, mask: u64, live: &[Vector]) {
        let none = L::splat(0.0);
        for scales in &mut self.state.scales {
            let mut nothing = none;
            for vector in live {
                let at = vector.first::<L>();
                let scale = L::load(&scales.stored.0[at..]).select(vector.bits::<L>(mask), none);
                scale.store(&mut scales.of_mask.0[at..]);
                nothing = scale.fma(none, nothing);
            }
            scales.nothing = if all_from_zero(nothing) { 0.0 } else { f32::NAN };
        }
    }

    /// Takes the span in for `Q` queries from `index`, which all attend to the slots of `mask`.
    #[inline(always)]
    fn block<L: Lanes, const Q: usize>(&mut self, index: usize, mask: u64, live: &[Vector]) {
        let mut scores = [OfSlots::default(); Q];
        let largest = self.score::<L, Q>(index, mask, live, &mut scores);
        let factors = self.weigh::<L, Q>(index, mask, live, largest, &mut scores);
        let head_dim = self.state.shape.head_dim;
        for block in 0..self.state.scales.len() {
            let Scales { of_mask, nothing, .. } = &self.state.scales[block];
            let mut weights = [Weights([0; SPAN_TOKENS_MAX]); Q];
            let mut factors = factors;
            for q in 0..Q {
                let weight = |vector: &Vector| {
                    let at = vector.first::<L>();
                    L::load(&scores[q].0[at..]).mul(L::load(&of_mask.0[at..]))
                };
                let mut largest = L::splat(0.0);
                for vector in live {
                    largest = weight(vector).max(largest);
                }
                let largest = largest.max_lane();
                // The reciprocal of less would overflow; such weights count as zero.
                let inverse = if largest > 1e-30 { F::LARGEST_WEIGHT / largest } else { 0.0 };
                for vector in live {
                    let code = weight(vector).mul(L::splat(inverse));
                    code.store_i16(&mut weights[q].0[vector.first::<L>()..]);
                }
                factors[q].1 *= largest / F::LARGEST_WEIGHT + nothing;
            }
            let numbers = block * F::BLOCK..((block + 1) * F::BLOCK).min(head_dim);
            self.accumulate::<L, Q>(index, mask, factors, &weights, numbers);
        }
    }

    /// The scores of the live slots, -inf where the mask has none, and per query the largest.
    #[inline(always)]
    fn score<L: Lanes, const Q: usize>(
        &mut self,
        index: usize,
        mask: u64,
        live: &[Vector],
        scores: &mut [OfSlots; Q],
    ) -> [f32; Q] {
        let mut largest = [L::splat(f32::NEG_INFINITY); Q];
        let mut rest = live;
        while !rest.is_empty() {
            let taken = match rest.len() {
                4.. if L::N == 16 || Q == 1 => {
                    self.score_slots::<L, Q, 4>(index, mask, rest, scores, &mut largest)
                }
                2.. => self.score_slots::<L, Q, 2>(index, mask, rest, scores, &mut largest),
                _ => self.score_slots::<L, Q, 1>(index, mask, rest, scores, &mut largest),
            };
            rest = &rest[taken..];
        }
        largest.map(|largest| largest.max_lane())
    }

    /// [`Self::score`] of the first `W` of some vectors of slots; returns `W`.
    #[inline(always)]
    fn score_slots<L: Lanes, const Q: usize, const W: usize>(
        &mut self,
        index: usize,
        mask: u64,
        vectors: &[Vector],
        scores: &mut [OfSlots; Q],
        largest: &mut [L; Q],
    ) -> usize {
        let mut slots = [(&[] as &[u16], 0); W];
        for (to, vector) in slots.iter_mut().zip(vectors) {
            *to = (self.span.pages[vector.page], vector.slot);
        }
        let sums =
            products::<F, L, Q, W>(&self.state.queries, index, self.state.shape, slots, &mut self.ahead);
        let cap = self.state.cap;
        for (q, sums) in sums.into_iter().enumerate() {
            for (mut score, vector) in sums.into_iter().zip(vectors) {
                if let Some(cap) = cap {
                    score = L::splat(cap * LOG2_E).mul(tanh(score.div(L::splat(cap))));
                }
                let score = score.select(vector.bits::<L>(mask), L::splat(f32::NEG_INFINITY));
                largest[q] = score.max(largest[q]);
                score.store(&mut scores[q].0[vector.first::<L>()..]);
            }
        }
        W
    }

    /// Turns scores into exponentials and updates maximum and sums; returns per query the factors of what came before and of
    /// this span.
    #[inline(always)]
    fn weigh<L: Lanes, const Q: usize>(
        &mut self,
        index: usize,
        mask: u64,
        live: &[Vector],
        largest: [f32; Q],
        scores: &mut [OfSlots; Q],
    ) -> [(f32, f32); Q] {
        let mut factors = [0.0; SUMS];
        for (q, largest) in largest.into_iter().enumerate() {
            let max = &mut self.state.max[index + q];
            let before = *max;
            *max = if before > largest { before } else { largest };
            (factors[q], factors[SUMS / 2 + q]) = (before - *max, largest - *max);
        }
        for factors in factors.chunks_exact_mut(L::N) {
            exp2_to_one(L::load(factors)).store(factors);
        }
        let mut of_queries = [(0.0, 0.0); Q];
        for (q, scores) in scores.iter_mut().enumerate() {
            let (before, of_span) = (factors[q], factors[SUMS / 2 + q]);
            of_queries[q] = (before, of_span);
            let largest = L::splat(largest[q]);
            // Of 8 lanes, the vectors of even number and those of odd.
            let mut added = [L::splat(0.0); 2];
            for vector in live {
                let score = &mut scores.0[vector.first::<L>()..];
                let weight = exp2_to_one(L::load(score).sub(largest));
                let weight = weight.select(vector.bits::<L>(mask), L::splat(0.0));
                weight.store(score);
                let added = &mut added[if L::N == SUMS { 0 } else { vector.index % 2 }];
                *added = added.add(weight);
            }
            let sums = &mut self.state.sums[index + q];
            for (sums, added) in sums.chunks_exact_mut(L::N).zip(added) {
                let sum = L::load(sums).mul(L::splat(before));
                added.fma(L::splat(of_span), sum).store(sums);
            }
        }
        of_queries
    }

    /// `acc = acc * before + of_span * sum over t of the codes of w[t] and v[t]`, for some numbers of a head.
    #[inline(always)]
    fn accumulate<L: Lanes, const Q: usize>(
        &mut self,
        index: usize,
        mask: u64,
        factors: [(f32, f32); Q],
        weights: &[Weights; Q],
        numbers: Range<usize>,
    ) {
        let Range { start: mut first, end } = numbers;
        while first < end {
            // Sums that are independent of each other hide how long one takes.
            first += L::N
                * match (end - first) / L::N {
                    8.. if Q == 1 => self.accumulate_numbers::<L, Q, 8>(index, mask, factors, weights, first),
                    // As many as the registers hold: see `run`.
                    4.. if L::N == 16 || Q == 1 => {
                        self.accumulate_numbers::<L, Q, 4>(index, mask, factors, weights, first)
                    }
                    2.. => self.accumulate_numbers::<L, Q, 2>(index, mask, factors, weights, first),
                    _ => self.accumulate_numbers::<L, Q, 1>(index, mask, factors, weights, first),
                };
        }
    }

    /// [`Self::accumulate`] for `W` vectors of numbers from `first`; returns `W`.
    #[inline(always)]
    fn accumulate_numbers<L: Lanes, const Q: usize, const W: usize>(
        &mut self,
        index: usize,
        mask: u64,
        factors: [(f32, f32); Q],
        weights: &[Weights; Q],
        first: usize,
    ) -> usize {
        let PageShape { head_dim, page_tokens } = self.state.shape;
        assert!(first + W * L::N <= head_dim, "numbers of a head");
        // Loops instead of closures, which are not always inlined here.
        let mut sums = [[L::first_sums(0); W]; Q];
        let all = u64::MAX >> (SPAN_TOKENS_MAX - page_tokens) & EVEN;
        // A pair of which the mask has one slot: the weight of the other one is zero.
        let pairs = mask | mask >> 1;
        for (page, words) in self.span.pages.iter().enumerate() {
            if !asks_by_line::<L, Q>() {
                self.ahead.page();
            }
            let stored = layout::values::<F>(words, self.state.shape).0;
            assert!((page + 1) * page_tokens <= SPAN_TOKENS_MAX);
            assert!(stored.len() >= page_tokens * head_dim, "values of a page");
            let mut left = pairs >> (page * page_tokens) & all;
            while left != 0 {
                let slot = left.trailing_zeros() as usize;
                left &= left - 1;
                if asks_by_line::<L, Q>() {
                    self.ahead.step();
                }
                let load = |w: usize| {
                    let at = slot * head_dim + 2 * (first + w * L::N);
                    // SAFETY: `first + W * L::N` is at most `head_dim` and `slot` below `page_tokens` and even, and of so many
                    // values the length above is.
                    F::load_values::<L>(unsafe { stored.get_unchecked(at..at + 2 * L::N) })
                };
                let mut values = [load(0); W];
                for (w, values) in values.iter_mut().enumerate().skip(1) {
                    *values = load(w);
                }
                for (sums, weights) in sums.iter_mut().zip(weights) {
                    // SAFETY: `slot` is below `page_tokens`, as `all` has no other bits, and `weights` has those of all pages.
                    let weight = unsafe { weights.pair((page * page_tokens + slot) / 2) };
                    for (sum, values) in sums.iter_mut().zip(values) {
                        *sum = L::add_pairs(*sum, values, weight);
                    }
                }
            }
        }
        let acc = &mut self.state.acc[index * head_dim..(index + Q) * head_dim];
        for (q, sums) in sums.into_iter().enumerate() {
            let (before, of_span) = (L::splat(factors[q].0), L::splat(factors[q].1));
            for (w, sum) in sums.into_iter().enumerate() {
                let at = q * head_dim + first + w * L::N;
                // SAFETY: `q` is below `Q`, whose heads these are, and the rest within one, as above.
                let acc = unsafe { acc.get_unchecked_mut(at..at + L::N) };
                L::from_ints(sum).fma(of_span, L::load(acc).mul(before)).store(acc);
            }
        }
        W
    }
}

/// The first slots of pairs.
const EVEN: u64 = u64::MAX / 3;

#[cfg(test)]
mod tests {
    use super::super::format::{i16::I16, q8_0::Q8_0};
    use super::*;

    /// As many steps as the loops of a span of 64 slots take for one query ask for every line, and half of them do not.
    #[test]
    fn the_steps_of_a_span_ask_for_all_lines_of_the_next() {
        fn check<F: Format>() {
            for (head_dim, pages) in [(64, 4), (80, 4), (128, 4), (256, 4), (64, 1), (128, 0)] {
                let page = vec![0u16; layout::page_len::<F>(PageShape { head_dim, page_tokens: 16 })];
                let of_span = vec![&page[..]; pages];
                let steps = steps::<F>(head_dim);
                let mut ahead = Ahead::new(&of_span, steps);
                // A step ends with a page, so each may take one more.
                (0..steps + pages).for_each(|_| ahead.step());
                assert!(ahead.lines == 0 && ahead.pages.len() == 0, "{} {head_dim} {pages}", F::NAME);
                let mut ahead = Ahead::new(&of_span, steps);
                (0..steps / 2).for_each(|_| ahead.step());
                assert!(
                    pages < 2 || ahead.pages.len() > 0,
                    "not all at once: {} {head_dim} {pages}",
                    F::NAME
                );
                ahead.rest();
                assert!(ahead.lines == 0 && ahead.pages.len() == 0);
            }
        }
        check::<I16>();
        check::<Q8_0>();
    }
}

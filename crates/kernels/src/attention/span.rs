//! The kernel: a span of pages for all queries, block by block of those that attend to the same slots.

use super::format::{Format, PageShape};
use super::{Attention, SPAN_TOKENS_MAX};
use crate::lanes::{Kernel, Lanes, Number, exp, tanh};
use crate::memory::{LINE_BYTES, Level, prefetch};
use std::marker::PhantomData;

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

/// From so many queries on, values with scales are converted once for all blocks of a span: of 3 queries attention then
/// takes half as long again, of 24 it takes a tenth less. Values in f16 gain nothing by it, they take a tenth longer.
const MANY: usize = 12;

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
        let ahead = Ahead::new(span.next, F::steps(state.shape.head_dim));
        AttendSpan { state, span, ahead, format: PhantomData }
    }
}

impl<F: Format> Kernel for AttendSpan<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let heads = self.state.heads;
        let made = match F::SCALED {
            0 => false,
            _ => self.prepare_values::<L>(),
        };
        let mut row = 0;
        for same in self.span.masks.chunk_by(|a, b| a == b) {
            let (mut index, end) = (row * heads, (row + same.len()) * heads);
            row += same.len();
            if same[0] == 0 {
                continue;
            }
            // As many queries as the registers hold sums of: 32 vectors of 16 numbers, or 16 of 8.
            while L::N == 16 && end - index >= 6 {
                self.block::<L, 6>(index, same[0], made);
                index += 6;
            }
            while end - index >= 3 {
                self.block::<L, 3>(index, same[0], made);
                index += 3;
            }
            while index < end {
                self.block::<L, 1>(index, same[0], made);
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

/// The vectors of slots to which a block attends at all, in order.
struct Live {
    vectors: [usize; VECTORS_MAX],
    len: usize,
}

impl Live {
    #[inline(always)]
    fn of<L: Lanes>(mask: u64) -> Live {
        let mut live = Live { vectors: [0; VECTORS_MAX], len: 0 };
        for vector in 0..SPAN_TOKENS_MAX / L::N {
            if bits::<L>(mask, vector) != 0 {
                live.vectors[live.len] = vector;
                live.len += 1;
            }
        }
        live
    }

    #[inline(always)]
    fn get(&self) -> &[usize] {
        &self.vectors[..self.len]
    }
}

/// The bits of a mask for one vector of slots.
#[inline(always)]
fn bits<L: Lanes>(mask: u64, vector: usize) -> u16 {
    (mask >> (vector * L::N)) as u16 & (u16::MAX >> (16 - L::N))
}

impl<F: Format> AttendSpan<'_, F> {
    /// Converts the scales of values, and for many queries the values too; returns whether it has. Scales are of 11 bits and
    /// codes of 8, so that their products are exact, whenever they are computed.
    #[inline(always)]
    fn prepare_values<L: Lanes>(&mut self) -> bool {
        let PageShape { head_dim, page_tokens } = self.state.shape;
        let Attention { heads, shape, scales, values, .. } = &mut *self.state;
        let of_page = head_dim.div_ceil(F::SCALED) * page_tokens;
        scales.resize(self.span.pages.len() * of_page, 0.0);
        for (page, scales) in self.span.pages.iter().zip(scales.chunks_exact_mut(of_page)) {
            let stored = F::scales(page, *shape).chunks_exact(L::N);
            stored.zip(scales.chunks_exact_mut(L::N)).for_each(|(from, to)| L::load_f16(from).store(to));
        }
        let rows = self.span.masks.iter().filter(|mask| **mask != 0).count();
        if rows * *heads < MANY {
            return false;
        }
        let all = self.span.masks.iter().fold(0, |all, mask| all | mask);
        values.resize(self.span.pages.len() * page_tokens * head_dim, 0.0);
        for (page, words) in self.span.pages.iter().enumerate() {
            let (stored, scales) = (F::values(words, *shape), &scales[page * of_page..][..of_page]);
            let values = &mut values[page * page_tokens * head_dim..][..page_tokens * head_dim];
            for (block, scales) in scales.chunks_exact(page_tokens).enumerate() {
                let numbers = block * F::SCALED..((block + 1) * F::SCALED).min(head_dim);
                let mut left = all >> (page * page_tokens) & (u64::MAX >> (SPAN_TOKENS_MAX - page_tokens));
                while left != 0 {
                    let slot = left.trailing_zeros() as usize;
                    left &= left - 1;
                    let scale = L::splat(scales[slot]);
                    let at = slot * head_dim + numbers.start..slot * head_dim + numbers.end;
                    let to = values[at.clone()].chunks_exact_mut(L::N);
                    for (from, to) in stored[at].chunks_exact(L::N).zip(to) {
                        F::Value::load::<L>(from).mul(scale).store(to);
                    }
                }
            }
        }
        true
    }

    /// Takes the span in for `Q` queries from `index`, which all attend to the slots of `mask`.
    #[inline(always)]
    fn block<L: Lanes, const Q: usize>(&mut self, index: usize, mask: u64, made: bool) {
        let live = Live::of::<L>(mask);
        let mut scores = [OfSlots([0.0; SPAN_TOKENS_MAX]); Q];
        let largest = self.score::<L, Q>(index, mask, live.get(), &mut scores);
        let factors = self.weigh::<L, Q>(index, live.get(), largest, &mut scores);
        match F::SCALED > 0 && made {
            true => self.accumulate::<L, Q, true>(index, mask, factors, &scores),
            false => self.accumulate::<L, Q, false>(index, mask, factors, &scores),
        }
    }

    /// The scores of the live slots, -inf where the mask has none, and per query the largest.
    #[inline(always)]
    fn score<L: Lanes, const Q: usize>(
        &mut self,
        index: usize,
        mask: u64,
        live: &[usize],
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
        vectors: &[usize],
        scores: &mut [OfSlots; Q],
        largest: &mut [L; Q],
    ) -> usize {
        let page_tokens = self.state.shape.page_tokens;
        let mut slots = [(&[] as &[u16], 0); W];
        for (to, &vector) in slots.iter_mut().zip(vectors) {
            let slot = vector * L::N;
            *to = (self.span.pages[slot / page_tokens], slot % page_tokens);
        }
        let sums =
            F::products::<L, Q, W>(&self.state.queries, index, self.state.shape, slots, &mut self.ahead);
        let (scale, cap) = (L::splat(self.state.scale), self.state.cap);
        for (q, sums) in sums.into_iter().enumerate() {
            for (sum, &vector) in sums.into_iter().zip(vectors) {
                let mut score = sum.mul(scale);
                if let Some(cap) = cap {
                    let cap = L::splat(cap);
                    score = cap.mul(tanh(score.div(cap)));
                }
                let score = score.select(bits::<L>(mask, vector), L::splat(f32::NEG_INFINITY));
                largest[q] = score.max(largest[q]);
                score.store(&mut scores[q].0[vector * L::N..]);
            }
        }
        W
    }

    /// Turns scores into exponentials and updates maximum and sums; returns the factors of what came before.
    #[inline(always)]
    fn weigh<L: Lanes, const Q: usize>(
        &mut self,
        index: usize,
        live: &[usize],
        largest: [f32; Q],
        scores: &mut [OfSlots; Q],
    ) -> [f32; Q] {
        let mut factors = [0.0; SUMS];
        for (q, largest) in largest.into_iter().enumerate() {
            let max = &mut self.state.max[index + q];
            let before = *max;
            *max = if before > largest { before } else { largest };
            factors[q] = before - *max;
        }
        exp(L::load(&factors)).store(&mut factors);
        for (q, scores) in scores.iter_mut().enumerate() {
            let (max, factor) = (L::splat(self.state.max[index + q]), L::splat(factors[q]));
            let sums = &mut self.state.sums[index + q];
            for sums in sums.chunks_exact_mut(L::N) {
                L::load(sums).mul(factor).store(sums);
            }
            for &vector in live {
                let (slot, sum) = (vector * L::N, vector * L::N % SUMS);
                let weight = exp(L::load(&scores.0[slot..]).sub(max));
                weight.store(&mut scores.0[slot..]);
                L::load(&sums[sum..]).add(weight).store(&mut sums[sum..]);
            }
        }
        let mut of_queries = [0.0; Q];
        of_queries.copy_from_slice(&factors[..Q]);
        of_queries
    }

    /// `acc = factor * acc + sum over the slots of the mask of p[t] v[t]`, slots in order. With `MADE` the values are those
    /// that [`Self::prepare_values`] made.
    #[inline(always)]
    fn accumulate<L: Lanes, const Q: usize, const MADE: bool>(
        &mut self,
        index: usize,
        mask: u64,
        factors: [f32; Q],
        weights: &[OfSlots; Q],
    ) {
        let head_dim = self.state.shape.head_dim;
        let mut first = 0;
        while first < head_dim {
            // Sums that are independent of each other hide how long one takes.
            first += L::N
                * match (head_dim - first) / L::N {
                    8.. if Q == 1 => {
                        self.accumulate_numbers::<L, Q, 8, MADE>(index, mask, factors, weights, first)
                    }
                    // As many as the registers hold: see `run`.
                    4.. if L::N == 16 || Q == 1 => {
                        self.accumulate_numbers::<L, Q, 4, MADE>(index, mask, factors, weights, first)
                    }
                    2.. => self.accumulate_numbers::<L, Q, 2, MADE>(index, mask, factors, weights, first),
                    _ => self.accumulate_numbers::<L, Q, 1, MADE>(index, mask, factors, weights, first),
                };
        }
    }

    /// [`Self::accumulate`] for `W` vectors of numbers from `first`; returns `W`.
    #[inline(always)]
    fn accumulate_numbers<L: Lanes, const Q: usize, const W: usize, const MADE: bool>(
        &mut self,
        index: usize,
        mask: u64,
        factors: [f32; Q],
        weights: &[OfSlots; Q],
        first: usize,
    ) -> usize {
        let PageShape { head_dim, page_tokens } = self.state.shape;
        let at = |q: usize, w: usize| (index + q) * head_dim + first + w * L::N;
        // Loops instead of closures, which are not always inlined here.
        let mut sums = [[L::splat(0.0); W]; Q];
        for (q, sums) in sums.iter_mut().enumerate() {
            let factor = L::splat(factors[q]);
            for (w, sum) in sums.iter_mut().enumerate() {
                *sum = L::load(&self.state.acc[at(q, w)..]).mul(factor);
            }
        }
        let all = u64::MAX >> (SPAN_TOKENS_MAX - page_tokens);
        for (page, words) in self.span.pages.iter().enumerate() {
            if !asks_by_line::<L, Q>() {
                self.ahead.page();
            }
            let stored = F::values(words, self.state.shape);
            let made = if MADE { &self.state.values[page * page_tokens * head_dim..] } else { &[] };
            let scales: &[f32] = match F::SCALED {
                0 => &[],
                _ => &self.state.scales[page * head_dim.div_ceil(F::SCALED) * page_tokens..],
            };
            let numbers = page_tokens * head_dim;
            assert!(first + W * L::N <= head_dim && (page + 1) * page_tokens <= SPAN_TOKENS_MAX);
            assert!(if MADE { made.len() >= numbers } else { stored.len() >= numbers }, "values of a page");
            assert!(
                F::SCALED == 0 || MADE || scales.len() >= head_dim.div_ceil(F::SCALED) * page_tokens,
                "scales of a page"
            );
            let mut left = mask >> (page * page_tokens) & all;
            while left != 0 {
                let slot = left.trailing_zeros() as usize;
                left &= left - 1;
                if asks_by_line::<L, Q>() {
                    self.ahead.step();
                }
                let mut p = [L::splat(0.0); Q];
                for (p, weights) in p.iter_mut().zip(weights) {
                    // SAFETY: `slot` is below `page_tokens`, as `all` has no other bits, and `weights` has those of all pages.
                    *p = L::splat(*unsafe { weights.0.get_unchecked(page * page_tokens + slot) });
                }
                for w in 0..W {
                    let number = first + w * L::N;
                    let at = slot * head_dim + number;
                    // SAFETY: `number + L::N` is at most `head_dim` and `slot` below `page_tokens`, and of so many values and
                    // of their scales the lengths above are.
                    let value = unsafe {
                        if MADE {
                            L::load(made.get_unchecked(at..at + L::N))
                        } else {
                            let value: L = F::Value::load(stored.get_unchecked(at..at + L::N));
                            match F::SCALED {
                                0 => value,
                                scaled => value.mul(L::splat(
                                    *scales.get_unchecked(number / scaled * page_tokens + slot),
                                )),
                            }
                        }
                    };
                    for (sums, p) in sums.iter_mut().zip(p) {
                        sums[w] = value.fma(p, sums[w]);
                    }
                }
            }
        }
        for (q, sums) in sums.into_iter().enumerate() {
            for (w, sum) in sums.into_iter().enumerate() {
                sum.store(&mut self.state.acc[at(q, w)..]);
            }
        }
        W
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::{Format, f16::F16, q8_0::Q8_0};
    use super::*;

    /// As many steps as the loops of a span of 64 slots take for one query ask for every line, and half of them do not.
    #[test]
    fn the_steps_of_a_span_ask_for_all_lines_of_the_next() {
        fn check<F: Format>() {
            for (head_dim, pages) in [(64, 4), (80, 4), (128, 4), (256, 4), (64, 1), (128, 0)] {
                let page = vec![0u16; F::page_len(PageShape { head_dim, page_tokens: 16 })];
                let of_span = vec![&page[..]; pages];
                let steps = F::steps(head_dim);
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
        check::<F16>();
        check::<Q8_0>();
    }
}

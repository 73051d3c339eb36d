//! Attention over pages of keys and values, flash style: one pass over the pages with a running maximum and
//! sum.
//!
//! A page holds up to 64 tokens of one key-value head in one slice. How, and in which number format, is the business of
//! `format`: integers of 16 or of 8 bits with scales, laid out so that a vector of slots is multiplied with two or four numbers
//! of the query.
//!
//! [`Attention`] serves all queries of one key-value head that look at the same pages: the heads that share
//! it, of one or more rows of the batch. Pages are taken in by spans, as many as have 64 slots together: what a
//! query pays once for each (maximum, factor, sums read and written) it pays for many slots. Per query and span:
//!
//! ```text
//! s[t] = scale * sum over d of q[d] k[d][t]                             t: the slots of the row's mask
//! s    = cap * tanh(s / cap)                                            where scores have a cap
//! s    = s / ln 2
//! m'   = max(m, s);  p[t] = 2^(s[t] - m'), as integers: see `span`
//! acc  = 2^(m - m') * acc + sum of p[t] v[t];  sum likewise, by t % 16;  m = m'
//! ```
//! Every [`SPLIT_SPANS`] spans begin a split, whose queries start afresh; the splits of a query are joined in order,
//! with the same two lines. So the splits of a long context can be taken in by several threads (flash decoding), and
//! the bits are the same when one thread takes all of them.
//!
//! A query's result depends on its own mask and pages only: slots outside the mask are skipped, not
//! multiplied by zero, so what they hold (even NaN) never matters, and a span without any slot leaves the
//! state as it is. Spans and splits begin at every so many pages of the sequence, so a row gets the same bits however
//! many come after it, and in whichever batch.

mod format;
mod queries;
mod span;
mod split;

use crate::lanes::{Kernel, run, run_wide};
use crate::{Isa, Tile, TileMut};
pub use format::KvType;
use format::PageShape;
use queries::Queries;
use span::{SUMS, Scales, Span};
use split::{Join, MAX, PART_EXTRA, SUM};
use std::f32::consts::LOG2_E;

/// The most slots of a span, and so of a page: the bits of a mask.
pub const SPAN_TOKENS_MAX: usize = 64;

/// A page has a multiple of so many slots: whole vectors.
const PAGE_TOKENS_MULTIPLE: usize = 8;

/// The most pages of a span: of the smallest.
pub const SPAN_PAGES_MAX: usize = SPAN_TOKENS_MAX / PAGE_TOKENS_MULTIPLE;

/// The pages of a span: as many as have [`SPAN_TOKENS_MAX`] slots together, one at least.
pub fn span_pages(page_tokens: usize) -> usize {
    (SPAN_TOKENS_MAX / page_tokens.max(1)).max(1)
}

/// Spans of a split: 256 slots, or fewer where pages do not fill a span; many enough that joining costs little, and few
/// enough that the threads end together.
pub const SPLIT_SPANS: usize = 4;

/// Numbers that [`Attention::save_split`] writes for a row.
pub fn part_len(heads: usize, head_dim: usize) -> usize {
    heads * (head_dim + PART_EXTRA)
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
    kv_type: KvType,
    shape: PageShape,
    heads: usize,
    queries: Queries,
    cap: Option<f32>,
    /// Per query: the largest score so far, the sums of the exponentials, and `head_dim` weighted values.
    max: Vec<f32>,
    sums: Vec<[f32; SUMS]>,
    acc: Vec<f32>,
    /// The parts of the splits before, joined; empty in the first split.
    joined: Vec<f32>,
    /// The part of the split that ends.
    part: Vec<f32>,
    /// Of a span, per block of a value.
    scales: Vec<Scales>,
}

impl Attention {
    /// Begins: the rectangle `queries` is `[rows][heads * head_dim]`, with the heads of `heads`, over pages of
    /// `page_tokens` slots in the format `kv_type`. Panics unless the numbers of a head are a multiple of 8 and
    /// `page_tokens` is a multiple of 8 up to 64.
    pub fn start(
        &mut self,
        isa: Isa,
        kv_type: KvType,
        queries: &Tile<'_, f32>,
        heads: Heads,
        page_tokens: usize,
    ) {
        let Heads { heads, head_dim, scale, cap } = heads;
        assert!(
            head_dim > 0 && head_dim.is_multiple_of(8),
            "head dimension {head_dim} is not a multiple of 8"
        );
        assert!(
            page_tokens > 0
                && page_tokens.is_multiple_of(PAGE_TOKENS_MULTIPLE)
                && page_tokens <= SPAN_TOKENS_MAX,
            "{page_tokens} tokens per page is not a multiple of {PAGE_TOKENS_MULTIPLE} up to {SPAN_TOKENS_MAX}"
        );
        let (rows, width) = (queries.rows().len(), heads * head_dim);
        assert_eq!(queries.cols().len(), width, "shape of the queries");
        (self.kv_type, self.shape, self.heads) = (kv_type, PageShape { head_dim, page_tokens }, heads);
        self.cap = cap;
        self.queries.fill(head_dim, queries);
        // With a cap the scores are multiplied by the second factor behind it.
        let scale = if cap.is_some() { scale } else { scale * LOG2_E };
        kv_type.prepare(isa, &mut self.queries, scale);
        self.joined.clear();
        self.start_split(rows * heads);
    }

    fn start_split(&mut self, queries: usize) {
        self.max.clear();
        self.max.resize(queries, f32::NEG_INFINITY);
        self.sums.clear();
        self.sums.resize(queries, [0.0; SUMS]);
        self.acc.clear();
        self.acc.resize(queries * self.shape.head_dim, 0.0);
    }

    /// Takes the pages of a span in: bit `t` of `masks[row]` says that the row attends to slot `t` of the span. Spans are
    /// taken in the order of their tokens, each of [`span_pages`] but for the last, the same for every batch. Panics when
    /// there are more pages or of another length than in [`Attention::start`], or a mask has bits beyond them. `next` are
    /// the pages that are likely to be needed next, of the span that comes after or of another sequence, which are asked for
    /// meanwhile: pages of one layer lie far from each other, where the processor does not look by itself, and a span is short
    /// to compute. They change no number.
    pub fn attend_span(&mut self, isa: Isa, masks: &[u64], pages: &[&[u16]], next: &[&[u16]]) {
        let PageShape { head_dim, page_tokens } = self.shape;
        assert_eq!(masks.len(), self.max.len() / self.heads.max(1), "a mask per row");
        let (len, slots) = (self.kv_type.page_len(head_dim, page_tokens), pages.len() * page_tokens);
        assert!(pages.len() <= span_pages(page_tokens), "{} pages of a span", pages.len());
        assert!(pages.iter().all(|page| page.len() == len), "length of the pages");
        let all = masks.iter().fold(0, |all, mask| all | mask);
        let beyond = u64::MAX.checked_shl(slots as u32).unwrap_or(0);
        assert!(all & beyond == 0, "mask {all:#x} for {slots} slots");
        if all == 0 {
            return;
        }
        self.kv_type.attend(isa, self.wide(), self, Span { masks, pages, next });
    }

    /// Whether whole vectors of 16 fill the page.
    fn wide(&self) -> bool {
        self.shape.head_dim.is_multiple_of(16) && self.shape.page_tokens.is_multiple_of(16)
    }

    /// Ends a split after [`SPLIT_SPANS`] spans, where others come after it, and begins the next.
    pub fn end_split(&mut self, isa: Isa) {
        self.join_part(isa);
        self.start_split(self.max.len());
    }

    /// Joins the split that ends with those before; the first one begins them.
    fn join_part(&mut self, isa: Isa) {
        let is_first = self.joined.is_empty();
        let mut part = std::mem::take(if is_first { &mut self.joined } else { &mut self.part });
        part.resize(part_len(self.max.len(), self.shape.head_dim), 0.0);
        self.write_parts(0, &mut part);
        if is_first {
            self.joined = part;
            return;
        }
        join(isa, self.shape.head_dim, &mut self.joined, &part);
        self.part = part;
    }

    /// Writes the parts of the queries from `first` on, as many as `to` has room for.
    fn write_parts(&self, first: usize, to: &mut [f32]) {
        let parts = to.chunks_exact_mut(self.shape.head_dim + PART_EXTRA);
        parts.enumerate().for_each(|(query, to)| self.write_part(first + query, to));
    }

    fn write_part(&self, query: usize, to: &mut [f32]) {
        to[..self.shape.head_dim]
            .copy_from_slice(&self.acc[query * self.shape.head_dim..][..self.shape.head_dim]);
        to[self.shape.head_dim + MAX] = self.max[query];
        to[self.shape.head_dim + SUM] = total(self.sums[query]);
    }

    /// Ends a split that was taken in alone, of a context with others: writes what [`join_splits`] makes the result of, to
    /// the rectangle `[rows][part_len]`. Panics when the shape differs from [`Attention::start`].
    pub fn save_split(&self, out: &mut TileMut<'_, f32>) {
        let (width, rows) = (part_len(self.heads, self.shape.head_dim), self.max.len() / self.heads.max(1));
        assert_eq!((out.rows().len(), out.cols().len()), (rows, width), "shape of the parts");
        (0..rows).for_each(|row| self.write_parts(row * self.heads, out.row(row)));
    }

    /// Ends: writes `acc / sum` per query to the rectangle `[rows][heads * head_dim]`; zeros where nothing
    /// was attended. Panics when the shape differs from [`Attention::start`].
    pub fn finish(&mut self, isa: Isa, out: &mut TileMut<'_, f32>) {
        let (width, rows) = (self.heads * self.shape.head_dim, self.max.len() / self.heads.max(1));
        assert_eq!((out.rows().len(), out.cols().len()), (rows, width), "shape of the output");
        if !self.joined.is_empty() {
            self.join_part(isa);
            for (row, joined) in
                self.joined.chunks_exact(part_len(self.heads, self.shape.head_dim)).enumerate()
            {
                finish_row(isa, self.shape.head_dim, joined, out.row(row));
            }
            return;
        }
        for (query, acc) in self.acc.chunks_exact(self.shape.head_dim).enumerate() {
            let out = &mut out.row(query / self.heads)[query % self.heads * self.shape.head_dim..]
                [..self.shape.head_dim];
            finish_query(isa, acc, total(self.sums[query]), out);
        }
    }
}

/// Makes the result of a row out of the parts that [`Attention::save_split`] wrote of it, in the order of the splits: for
/// some heads of `head_dim` numbers, to `out`. Panics unless there is a part, and when the lengths differ.
pub fn join_splits<'a>(
    isa: Isa,
    head_dim: usize,
    mut parts: impl Iterator<Item = &'a [f32]>,
    joined: &mut Vec<f32>,
    out: &mut [f32],
) {
    joined.clear();
    joined.extend_from_slice(parts.next().expect("a context has a split"));
    parts.for_each(|part| join(isa, head_dim, joined, part));
    finish_row(isa, head_dim, joined, out);
}

fn join(isa: Isa, head_dim: usize, joined: &mut [f32], part: &[f32]) {
    assert_eq!(joined.len(), part.len(), "length of a part");
    run_in(isa, head_dim.is_multiple_of(16), Join { joined, part, head_dim });
}

/// `acc / sum` of each head of a row, which is a part.
fn finish_row(isa: Isa, head_dim: usize, part: &[f32], out: &mut [f32]) {
    assert_eq!(part.len(), part_len(out.len() / head_dim, head_dim), "length of a part");
    for (part, out) in part.chunks_exact(head_dim + PART_EXTRA).zip(out.chunks_exact_mut(head_dim)) {
        finish_query(isa, &part[..head_dim], part[head_dim + SUM], out);
    }
}

fn finish_query(isa: Isa, acc: &[f32], sum: f32, out: &mut [f32]) {
    let inverse = if sum > 0.0 { 1.0 / sum } else { 0.0 };
    out.copy_from_slice(acc);
    crate::ops::scale(isa, out, inverse);
}

/// The sum, halves first.
fn total(mut sums: [f32; SUMS]) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
    }
    sums[0]
}

/// Uses 16 lanes on AVX-512 when the shape allows. There is no sum across lanes (scores are sums over the
/// numbers of a head, values over slots), so the bits are those of 8 lanes.
fn run_in<K: Kernel>(isa: Isa, wide: bool, kernel: K) -> K::Output {
    if wide { run_wide(isa, kernel) } else { run(isa, kernel) }
}

#[cfg(test)]
mod tests;

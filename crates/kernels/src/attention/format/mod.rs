//! How a page holds keys and values: integers with scales, one file per format.
//!
//! A page is one slice of 16-bit words, whatever is in it, so that memory has the alignment of its numbers. Some numbers of a
//! key or value, a block, of the last fewer where a head has no whole blocks, share a scale: `number = scale * code`. Keys have
//! few numbers that are much larger than the others, which would get their coarse steps. So keys and queries are turned by
//! the same Hadamard matrix first: products stay what they are, and what is large is spread over all numbers of the head.
//! A page is laid out for products of as many codes as a word of 32 bits holds, `n`:
//!
//! ```text
//! [head_dim / n][page_tokens][n] keys      [page_tokens / 2][head_dim][2] values
//! [blocks][page_tokens] scales of keys     [blocks][page_tokens] scales of values, f16
//! ```
//! A query is turned and quantized once, in the same blocks but with scales of f32. `n` of its codes are multiplied with those
//! of a vector of slots at a time, and two weights with the values of two slots:
//!
//! ```text
//! i[b][t] = sum over d in block b of q[d] k[d][t]                              exact
//! s[t]    = fused sum over b of i[b][t] * (scale of k[b][t] * scale of q[b])   in the order of the blocks
//! ```
//! Only the second line rounds, and it is written once, so all instruction sets give the same bits. How weights become codes
//! stands in [`super::span`].
//!
//! Scales are f16: they are rounded up, and codes made with what they are then, so that this moves no number by more than a
//! part of a step.
//!
//! Formats are chosen once for a span, outside of all loops: a row of [`TABLE`] has the functions that were compiled for it.

pub(super) mod i16;
pub(super) mod layout;
pub(super) mod q8_0;

use super::queries::{Queries, QueryBlock};
use super::span::{Ahead, AttendSpan, Span, asks_by_line};
use super::{Attention, SPAN_TOKENS_MAX, run_in};
use crate::Isa;
use crate::lanes::{Lanes, run};
use std::marker::PhantomData;

/// The number format of keys and values in pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(non_camel_case_types, reason = "the names of the formats in GGUF")]
pub enum KvType {
    /// 16 bits.
    #[default]
    I16,
    /// 8 bits: a little more than half the memory.
    Q8_0,
}

impl KvType {
    /// Every one.
    pub const ALL: [KvType; TABLE.len()] = [TABLE[0].kv_type, TABLE[1].kv_type];

    /// Its name in settings, such as `q8_0`; the inverse of [`KvType::from_name`].
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<KvType> {
        KvType::ALL.into_iter().find(|kv_type| kv_type.name() == name)
    }

    /// Words of 16 bits in a page of one key-value head: keys and values, and their scales.
    pub fn page_len(self, head_dim: usize, page_tokens: usize) -> usize {
        (self.spec().page_len)(PageShape { head_dim, page_tokens })
    }

    /// Stores the key and value of one token, `head_dim` numbers each, in slot `slot` of a page. What is beyond the range
    /// of the format is stored as its largest number: an infinite score would leave the token without any weight. What is
    /// not a number stays so, with the numbers that share its scale. Panics unless the lengths fit.
    pub fn write(
        self,
        isa: Isa,
        page: &mut [u16],
        page_tokens: usize,
        slot: usize,
        key: &[f32],
        value: &[f32],
    ) {
        let head_dim = key.len();
        assert_eq!(value.len(), head_dim);
        let len = self.page_len(head_dim, page_tokens);
        assert_eq!(page.len(), len, "page of {page_tokens} tokens by {head_dim}");
        assert!(slot < page_tokens, "slot {slot} of {page_tokens}");
        let shape = PageShape { head_dim, page_tokens };
        (self.spec().write)(isa, SlotMut { page, shape, slot }, key, value);
    }

    /// Makes codes of queries; scores come out multiplied by `scale`.
    pub(super) fn prepare(self, isa: Isa, queries: &mut Queries, scale: f32) {
        (self.spec().prepare)(isa, queries, scale);
    }

    pub(super) fn attend(self, isa: Isa, wide: bool, state: &mut Attention, span: Span<'_>) {
        (self.spec().attend)(isa, wide, state, span);
    }

    fn spec(self) -> &'static Spec {
        &TABLE[self as usize]
    }
}

/// The formats, in the order of the enum.
static TABLE: [Spec; 2] = [Spec::of::<i16::I16>(KvType::I16), Spec::of::<q8_0::Q8_0>(KvType::Q8_0)];

/// What [`KvType`] says of a format.
struct Spec {
    kv_type: KvType,
    name: &'static str,
    page_len: fn(PageShape) -> usize,
    write: fn(Isa, SlotMut<'_>, &[f32], &[f32]),
    prepare: fn(Isa, &mut Queries, f32),
    attend: fn(Isa, bool, &mut Attention, Span<'_>),
}

impl Spec {
    const fn of<F: Format>(kv_type: KvType) -> Spec {
        let () = F::SUMS_FIT;
        Spec {
            kv_type,
            name: F::NAME,
            page_len: layout::page_len::<F>,
            write: |isa, to, key, value| {
                run(isa, layout::Write { to, key, value, format: PhantomData::<F> });
            },
            prepare: |isa, queries, scale| {
                run(isa, layout::Prepare { queries, scale, format: PhantomData::<F> });
            },
            attend: |isa, wide, state, span| run_in(isa, wide, AttendSpan::<F>::new(state, span)),
        }
    }
}

/// Numbers of a head, and slots of a page.
#[derive(Clone, Copy, Default)]
pub(super) struct PageShape {
    pub(super) head_dim: usize,
    pub(super) page_tokens: usize,
}

/// A slot of a page that is written.
pub(super) struct SlotMut<'a> {
    pub(super) page: &'a mut [u16],
    pub(super) shape: PageShape,
    pub(super) slot: usize,
}

/// A format of pages, as kernels see it.
pub(super) trait Format {
    const NAME: &'static str;

    /// What a code is stored as: `i8` or `i16`.
    type Code: Copy;

    /// Codes in a word of 32 bits.
    const PER_WORD: usize = size_of::<i32>() / size_of::<Self::Code>();

    /// Numbers that share a scale.
    const BLOCK: usize;

    /// The largest codes.
    const LARGEST_KEY: f32;
    const LARGEST_QUERY: f32;
    const LARGEST_VALUE: f32;
    const LARGEST_WEIGHT: f32;

    /// Of a block no sum of products of keys and a query leaves 32 bits, and of a span none of values and weights.
    const SUMS_FIT: () = {
        let of_keys = Self::BLOCK as u64 * Self::LARGEST_KEY as u64 * Self::LARGEST_QUERY as u64;
        let of_values = SPAN_TOKENS_MAX as u64 * Self::LARGEST_VALUE as u64 * Self::LARGEST_WEIGHT as u64;
        assert!(of_keys <= i32::MAX as u64 && of_values <= i32::MAX as u64);
    };

    /// A word of codes 0 of keys, as it is stored; the bits of others are changed like those of 0.
    const ZERO_KEYS: u32;

    /// A word of codes for each lane.
    type Keys<L: Lanes>: Copy;

    /// A word of codes of keys for each lane: the first `PER_WORD * N`.
    fn load_keys<L: Lanes>(from: &[Self::Code]) -> Self::Keys<L>;

    /// Adds the products of the codes of keys with those of a query.
    fn add_keys<L: Lanes>(sums: L::Ints, keys: Self::Keys<L>, query: i32) -> L::Ints;

    /// The first `2 N` codes of values.
    fn load_values<L: Lanes>(from: &[Self::Code]) -> L::Pairs;

    /// The codes of a word of a query, the first ones lowest.
    fn word(codes: &[i16]) -> i32;

    /// A code, which fits.
    fn narrow(code: i16) -> Self::Code;
}

/// In how many steps the loops of a whole span ask for lines of the next: one for each word of a key, and each two slots.
pub(super) const fn steps<F: Format>(head_dim: usize) -> usize {
    head_dim / F::PER_WORD + SPAN_TOKENS_MAX / 2
}

/// The products of `Q` queries from `index` with the keys of `W` vectors of slots, each a page and its first slot. Asks for
/// some of the lines that come after.
#[inline(always)]
pub(super) fn products<F: Format, L: Lanes, const Q: usize, const W: usize>(
    queries: &Queries,
    index: usize,
    shape: PageShape,
    slots: [(&[u16], usize); W],
    ahead: &mut Ahead<'_>,
) -> [[L; W]; Q] {
    let PageShape { head_dim, page_tokens } = shape;
    let (words, blocks) = (head_dim / F::PER_WORD, layout::blocks::<F>(shape));
    let (mut of_queries, mut of_blocks) = ([&[] as &[i32]; Q], [&[] as &[QueryBlock]; Q]);
    for q in 0..Q {
        (of_queries[q], of_blocks[q]) = queries.codes(index + q);
        assert!(of_queries[q].len() == words && of_blocks[q].len() == blocks, "codes of a query");
    }
    let stride = F::PER_WORD * page_tokens;
    let (mut keys, mut scales) = ([&[] as &[F::Code]; W], [&[] as &[half::f16]; W]);
    for (w, (page, slot)) in slots.into_iter().enumerate() {
        let (codes, of_codes) = layout::keys::<F>(page, shape);
        (keys[w], scales[w]) = (&codes[F::PER_WORD * slot..], &of_codes[slot..]);
        assert!(keys[w].len() >= (words - 1) * stride + F::PER_WORD * L::N, "codes of a vector of slots");
        assert!(scales[w].len() >= (blocks - 1) * page_tokens + L::N, "scales of a vector of slots");
    }
    let mut scores = [[L::splat(0.0); W]; Q];
    #[expect(clippy::needless_range_loop, reason = "it is an index of what each query has")]
    for block in 0..blocks {
        let mut sums = [[L::first_sums(0); W]; Q];
        for q in 0..Q {
            sums[q] = [L::first_sums(of_blocks[q][block].total); W];
        }
        let of_block = F::BLOCK / F::PER_WORD;
        for word in block * of_block..((block + 1) * of_block).min(words) {
            if asks_by_line::<L, Q>() {
                ahead.step();
            }
            let at = word * stride;
            // SAFETY: `word` is below `words`, and the lengths above are those.
            let load =
                |w: usize| F::load_keys::<L>(unsafe { keys[w].get_unchecked(at..at + F::PER_WORD * L::N) });
            let mut codes = [load(0); W];
            for (w, codes) in codes.iter_mut().enumerate().skip(1) {
                *codes = load(w);
            }
            for q in 0..Q {
                // SAFETY: as above.
                let query = *unsafe { of_queries[q].get_unchecked(word) };
                for w in 0..W {
                    sums[q][w] = F::add_keys::<L>(sums[q][w], codes[w], query);
                }
            }
        }
        for w in 0..W {
            let at = block * page_tokens;
            // SAFETY: `block` is below `blocks`, and the length above is that.
            let scale = L::load_f16(unsafe { scales[w].get_unchecked(at..at + L::N) });
            for q in 0..Q {
                let factor = scale.mul(L::splat(of_blocks[q][block].scale));
                scores[q][w] = L::from_ints(sums[q][w]).fma(factor, scores[q][w]);
            }
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_the_table_is_in_the_order_of_the_enum() {
        for (index, kv_type) in KvType::ALL.into_iter().enumerate() {
            assert_eq!(kv_type as usize, index);
            assert_eq!(KvType::from_name(kv_type.name()), Some(kv_type));
        }
        assert_eq!(KvType::from_name("q4_0"), None);
        assert_eq!(KvType::default().name(), "i16");
    }
}

//! How a page holds keys and values, one file per format, each with what [`super::span`] asks of it.
//!
//! A page is one slice of 16-bit words, whatever is in it, so that memory has the alignment of its numbers. A format
//! decides where the numbers of a slot are, what becomes of a query before its products with keys, and whether values have
//! scales; softmax, masks and sums are the same code for all. Formats are chosen once for a span, outside of all loops: a
//! row of [`TABLE`] has the functions that were compiled for it.

pub(super) mod f16;
pub(super) mod q8_0;

use super::queries::Queries;
use super::span::{Ahead, AttendSpan, Span};
use super::{Attention, run_in};
use crate::Isa;
use crate::lanes::{Lanes, Number};

/// The number format of keys and values in pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[allow(non_camel_case_types, reason = "the names of the formats in GGUF")]
pub enum KvType {
    /// IEEE half precision.
    #[default]
    F16,
    /// 8 bits, scale per 32: a little more than half the memory, and scores are integer products.
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

    pub(super) fn prepare(self, isa: Isa, queries: &mut Queries) {
        (self.spec().prepare)(isa, queries);
    }

    pub(super) fn attend(self, isa: Isa, wide: bool, state: &mut Attention, span: Span<'_>) {
        (self.spec().attend)(isa, wide, state, span);
    }

    fn spec(self) -> &'static Spec {
        &TABLE[self as usize]
    }
}

/// The formats, in the order of the enum.
static TABLE: [Spec; 2] = [Spec::of::<f16::F16>(KvType::F16), Spec::of::<q8_0::Q8_0>(KvType::Q8_0)];

/// What [`KvType`] says of a format.
struct Spec {
    kv_type: KvType,
    name: &'static str,
    page_len: fn(PageShape) -> usize,
    write: fn(Isa, SlotMut<'_>, &[f32], &[f32]),
    prepare: fn(Isa, &mut Queries),
    attend: fn(Isa, bool, &mut Attention, Span<'_>),
}

impl Spec {
    const fn of<F: Format>(kv_type: KvType) -> Spec {
        Spec {
            kv_type,
            name: F::NAME,
            page_len: F::page_len,
            write: F::write,
            prepare: F::prepare,
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

    /// What values are stored as.
    type Value: Number;

    /// Numbers of a value that share a scale; 0 where there is none.
    const SCALED: usize;

    /// In how many steps the loops of a whole span ask for lines of the next: one for each slot, and those of
    /// [`Format::products`].
    fn steps(head_dim: usize) -> usize;

    /// See [`KvType::page_len`].
    fn page_len(shape: PageShape) -> usize;

    /// See [`KvType::write`], which has checked the lengths.
    fn write(isa: Isa, to: SlotMut<'_>, key: &[f32], value: &[f32]);

    /// Makes of the numbers of queries what [`Format::products`] wants.
    fn prepare(isa: Isa, queries: &mut Queries);

    /// The products of `Q` queries from `index` with the keys of `W` vectors of slots, each a page and its first slot. It may
    /// ask for some of the lines that come after, a step at a time.
    fn products<L: Lanes, const Q: usize, const W: usize>(
        queries: &Queries,
        index: usize,
        shape: PageShape,
        slots: [(&[u16], usize); W],
        ahead: &mut Ahead<'_>,
    ) -> [[L; W]; Q];

    /// The values of a page, `[page_tokens][head_dim]`.
    fn values(page: &[u16], shape: PageShape) -> &[Self::Value];

    /// Their scales, `[blocks][page_tokens]`.
    fn scales(page: &[u16], shape: PageShape) -> &[half::f16];
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
        assert_eq!(KvType::default().name(), "f16");
    }
}

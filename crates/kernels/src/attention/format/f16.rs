//! Half precision. The keys are transposed, so that a vector of slots is multiplied with one number of the query:
//!
//! ```text
//! [head_dim][page_tokens] keys    [page_tokens][head_dim] values
//! ```

use super::super::SPAN_TOKENS_MAX;
use super::super::queries::Queries;
use super::super::span::{Ahead, asks_by_line};
use super::{Format, PageShape, SlotMut};
use crate::Isa;
use crate::lanes::Lanes;
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};

pub(in super::super) struct F16;

impl Format for F16 {
    const NAME: &'static str = "f16";

    type Value = f16;

    const SCALED: usize = 0;

    /// One with each number.
    fn steps(head_dim: usize) -> usize {
        head_dim + SPAN_TOKENS_MAX
    }

    fn page_len(PageShape { head_dim, page_tokens }: PageShape) -> usize {
        2 * head_dim * page_tokens
    }

    fn write(_: Isa, SlotMut { page, shape, slot }: SlotMut<'_>, key: &[f32], value: &[f32]) {
        let PageShape { head_dim, page_tokens } = shape;
        let (keys, values) = page.reinterpret_cast_mut::<f16>().split_at_mut(head_dim * page_tokens);
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

    fn prepare(_: Isa, _: &mut Queries) {}

    #[inline(always)]
    fn products<L: Lanes, const Q: usize, const W: usize>(
        queries: &Queries,
        index: usize,
        PageShape { head_dim, page_tokens }: PageShape,
        slots: [(&[u16], usize); W],
        ahead: &mut Ahead<'_>,
    ) -> [[L; W]; Q] {
        let mut of_queries = [&[] as &[f32]; Q];
        for (q, query) in of_queries.iter_mut().enumerate() {
            *query = queries.numbers(index + q);
            assert_eq!(query.len(), head_dim, "numbers of a query");
        }
        let mut keys = [&[] as &[f16]; W];
        for (keys, (page, slot)) in keys.iter_mut().zip(slots) {
            *keys = &page.reinterpret_cast()[slot..head_dim * page_tokens];
            assert!(keys.len() >= (head_dim - 1) * page_tokens + L::N, "keys of a vector of slots");
        }
        let mut sums = [[L::splat(0.0); W]; Q];
        for number in 0..head_dim {
            if asks_by_line::<L, Q>() {
                ahead.step();
            }
            let at = number * page_tokens;
            // SAFETY: `number` is below `head_dim`, and the lengths above are those.
            let load = |w: usize| L::load_f16(unsafe { keys[w].get_unchecked(at..at + L::N) });
            // SAFETY: as above.
            let factor = |q: usize| L::splat(*unsafe { of_queries[q].get_unchecked(number) });
            // The fewer stay in registers.
            if Q > W {
                let mut vectors = [L::splat(0.0); W];
                for (w, vector) in vectors.iter_mut().enumerate() {
                    *vector = load(w);
                }
                for (q, sums) in sums.iter_mut().enumerate() {
                    let factor = factor(q);
                    for w in 0..W {
                        sums[w] = vectors[w].fma(factor, sums[w]);
                    }
                }
            } else {
                let mut factors = [L::splat(0.0); Q];
                for (q, to) in factors.iter_mut().enumerate() {
                    *to = factor(q);
                }
                for w in 0..W {
                    let vector = load(w);
                    for (sums, factor) in sums.iter_mut().zip(factors) {
                        sums[w] = vector.fma(factor, sums[w]);
                    }
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn values(page: &[u16], PageShape { head_dim, page_tokens }: PageShape) -> &[f16] {
        &page.reinterpret_cast()[head_dim * page_tokens..]
    }

    fn scales(_: &[u16], _: PageShape) -> &[f16] {
        &[]
    }
}

/// The nearest finite number; what is not a number stays so.
fn finite(number: f16) -> f16 {
    match number.is_infinite() {
        true => f16::MAX.copysign(number),
        false => number,
    }
}

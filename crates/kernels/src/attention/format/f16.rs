//! Half precision. The keys are transposed, so that a vector of slots is multiplied with one number of the query:
//!
//! ```text
//! [head_dim][page_tokens] keys    [page_tokens][head_dim] values
//! ```

use super::super::queries::Queries;
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
    ) -> [[L; W]; Q] {
        let mut of_queries = [&[] as &[f32]; Q];
        for (q, query) in of_queries.iter_mut().enumerate() {
            *query = queries.numbers(index + q);
        }
        let queries = of_queries;
        let mut keys = [&[] as &[f16]; W];
        for (keys, (page, slot)) in keys.iter_mut().zip(slots) {
            *keys = &page.reinterpret_cast()[slot..head_dim * page_tokens];
        }
        let mut sums = [[L::splat(0.0); W]; Q];
        for number in 0..head_dim {
            // The fewer stay in registers.
            if Q > W {
                let mut vectors = [L::splat(0.0); W];
                for (vector, keys) in vectors.iter_mut().zip(keys) {
                    *vector = L::load_f16(&keys[number * page_tokens..]);
                }
                for q in 0..Q {
                    let factor = L::splat(queries[q][number]);
                    for w in 0..W {
                        sums[q][w] = vectors[w].fma(factor, sums[q][w]);
                    }
                }
            } else {
                let mut factors = [L::splat(0.0); Q];
                for (factor, query) in factors.iter_mut().zip(queries) {
                    *factor = L::splat(query[number]);
                }
                for w in 0..W {
                    let vector = L::load_f16(&keys[w][number * page_tokens..]);
                    for q in 0..Q {
                        sums[q][w] = vector.fma(factors[q], sums[q][w]);
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

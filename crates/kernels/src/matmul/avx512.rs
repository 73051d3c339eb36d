//! AVX-512 VNNI: 16 output rows per vector, `vpdpbusd` on unsigned codes and signed activations.

use super::unpack::define_unpack;
use super::{Weights, prefetch, wanted};
use crate::activations::Block;
use crate::{Tile, TileMut};
use std::arch::x86_64::*;
use std::ops::Range;

const TILE_ROWS: usize = 16;

/// What an array of blocks holds until they are found.
const EMPTY: Block = Block { codes: [0; 32], scale: 0.0, sum: 0.0, first_sum: 0.0, total: 0 };

/// Computes the tile for every row of activations.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn tile<const BITS: usize, const GROUPS: usize, const ZERO: u32, const HAS_MIN: bool>(
    weights: Weights<'_>,
    x: &Tile<'_, Block>,
    out: &mut TileMut<'_, f32>,
    out_cols: Range<usize>,
) {
    let n = x.rows().len();
    let mut row = 0;
    while row < n {
        row += match n - row {
            1 => rows::<BITS, GROUPS, ZERO, HAS_MIN, 1>(weights, x, row, out, &out_cols),
            2 | 3 => rows::<BITS, GROUPS, ZERO, HAS_MIN, 2>(weights, x, row, out, &out_cols),
            4..8 => rows::<BITS, GROUPS, ZERO, HAS_MIN, 4>(weights, x, row, out, &out_cols),
            _ => rows::<BITS, GROUPS, ZERO, HAS_MIN, 8>(weights, x, row, out, &out_cols),
        };
    }
}

/// Computes the tile for `R` rows of activations from `row`; returns `R`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn rows<const BITS: usize, const GROUPS: usize, const ZERO: u32, const HAS_MIN: bool, const R: usize>(
    weights: Weights<'_>,
    x: &Tile<'_, Block>,
    row: usize,
    out: &mut TileMut<'_, f32>,
    out_cols: &Range<usize>,
) -> usize {
    let start = x.rows().start - out.rows().start;
    // Loops instead of `from_fn` and `map`: closures have this function's features, which those lack, so they are calls.
    let mut x_rows: [&[Block]; R] = [&[]; R];
    for (r, x_row) in x_rows.iter_mut().enumerate() {
        *x_row = x.row(row + r);
    }
    let blocks = x_rows[0].len();
    assert_eq!(weights.codes.len(), blocks * 4 * TILE_ROWS * BITS);
    assert_eq!(weights.scales.len(), blocks * GROUPS * TILE_ROWS);
    assert!(!HAS_MIN || weights.mins.len() == weights.scales.len());
    for x_row in x_rows {
        assert_eq!(x_row.len(), blocks);
    }

    let mut acc = [_mm512_setzero_ps(); R];
    for block in 0..blocks {
        prefetch::<BITS, GROUPS, HAS_MIN, TILE_ROWS>(weights, block, wanted(R));
        // SAFETY: `block < blocks`, and the lengths above are those of `blocks` blocks.
        let codes = unsafe { unpack::<BITS>(weights, block) };
        let mut x = [&EMPTY; R];
        for (x, x_row) in x.iter_mut().zip(x_rows) {
            // SAFETY: as above.
            *x = unsafe { x_row.get_unchecked(block) };
        }
        let sums = block_sums::<GROUPS, R>(&codes, x);
        for (group, sums) in sums.into_iter().enumerate() {
            let at = (block * GROUPS + group) * TILE_ROWS;
            // SAFETY: 16 scales per group follow `at`.
            let scale = unsafe { load_f16(weights.scales.as_ptr().add(at)) };
            let min = match HAS_MIN {
                // SAFETY: as many minimums as scales.
                true => unsafe { load_f16(weights.mins.as_ptr().add(at)) },
                false => _mm512_mul_ps(scale, _mm512_set1_ps(-((1 << ZERO) as f32))),
            };
            for (r, x) in x.into_iter().enumerate() {
                let sum = match (GROUPS, group) {
                    (1, _) => x.sum,
                    (_, 0) => x.first_sum,
                    _ => x.sum - x.first_sum,
                };
                let mut n = sums[r];
                if BITS == 8 {
                    n = _mm512_sub_epi32(n, _mm512_slli_epi32::<7>(_mm512_set1_epi32(x.total)));
                }
                let factor = _mm512_mul_ps(scale, _mm512_set1_ps(x.scale));
                acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(n), factor, acc[r]);
                if BITS != 8 {
                    acc[r] = _mm512_fmadd_ps(min, _mm512_set1_ps(sum), acc[r]);
                }
            }
        }
    }
    for (r, acc) in acc.into_iter().enumerate() {
        let out = &mut out.row(start + row + r)[out_cols.clone()];
        // Only the last tile of a matrix may have fewer rows.
        if out.len() == TILE_ROWS {
            // SAFETY: the slice has 16 values.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), acc) };
        } else {
            let mut values = [0f32; TILE_ROWS];
            // SAFETY: the array has 16 values.
            unsafe { _mm512_storeu_ps(values.as_mut_ptr(), acc) };
            out.copy_from_slice(&values[..out.len()]);
        }
    }
    R
}

define_unpack! {
    features: "avx512f,avx512bw,avx512vl,avx512vnni",
    vector: __m512i,
    load: _mm512_loadu_si512, and: _mm512_and_si512, or: _mm512_or_si512, splat: _mm512_set1_epi8,
    shift_left: _mm512_slli_epi16, shift_right: _mm512_srli_epi16,
    floats: __m512, load_half: _mm256_loadu_si256, convert: _mm512_cvtph_ps,
}

/// Per group and row of activations, the sums over the block of code times activation, one lane per output
/// row.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[inline]
fn block_sums<const GROUPS: usize, const R: usize>(
    codes: &[__m512i; 8],
    x: [&Block; R],
) -> [[__m512i; R]; GROUPS] {
    let mut sums = [[_mm512_setzero_si512(); R]; GROUPS];
    for (group, sums) in sums.iter_mut().enumerate() {
        for i in group * 8 / GROUPS..(group + 1) * 8 / GROUPS {
            for r in 0..R {
                let (x, _) = x[r].codes.as_chunks::<4>();
                let x = _mm512_set1_epi32(i32::from_ne_bytes(x[i].map(|x| x as u8)));
                sums[r] = _mm512_dpbusd_epi32(sums[r], codes[i], x);
            }
        }
    }
    sums
}

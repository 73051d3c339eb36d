//! AVX2: 8 output rows per vector, `vpmaddubsw` on unsigned codes and signed activations, or `vpdpbusd` of 256 bits
//! where the CPU has it.
//!
//! A block's codes are unpacked into 8 registers and then multiplied with one row of activations after the
//! other. The row loop is not unrolled and keeps its accumulators in the first-level cache: with four rows
//! unrolled, the compiler holds too much at once and spills more than that costs. A single row has its
//! accumulator in a register.
//!
//! A 16-bit lane of `vpmaddubsw` is at most `2 * 127 * code`, so 8 results of 4-bit codes can be added before
//! they leave 16 bits (30480 < 32768), 4 of 5-bit codes (31496), 2 of 6-bit codes (32004), and one of 8-bit
//! codes, whose sign is moved to the activation first (32512). `vpmaddwd` with ones then sums each row's four
//! inputs into 32 bits.
//!
//! `vpdpbusd` does all of that in one instruction, on codes of any bits; the 128 that codes of 8 bits count from is taken
//! off at the end. AVX-VNNI and AVX-512 VNNI have it in an encoding each, and nothing else differs: tests on a machine
//! with AVX-512 run the second, and those on a machine that has both run the first.

use super::unpack::define_unpack;
use super::{Weights, prefetch, wanted};
use crate::activations::Block;
use crate::{Tile, TileMut};
use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

/// Values of `PRODUCT`: the instruction that multiplies codes with activations, `vpmaddubsw` or an encoding of `vpdpbusd`.
pub(super) const MADD: u8 = 0;
pub(crate) const VEX: u8 = 1;
pub(crate) const EVEX: u8 = 2;

const TILE_ROWS: usize = 8;

/// Rows of activations that share the unpacked codes: as many as keep one block each in the first-level
/// cache.
const ROWS: usize = 16;

/// Computes the tile for every row of activations.
///
/// # Safety
/// The CPU has the instruction `PRODUCT`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile<
    const BITS: usize,
    const GROUPS: usize,
    const ZERO: u32,
    const HAS_MIN: bool,
    const PRODUCT: u8,
>(
    weights: Weights<'_>,
    x: &Tile<'_, Block>,
    out: &mut TileMut<'_, f32>,
    out_cols: Range<usize>,
) {
    let (n, blocks) = (x.rows().len(), x.cols().len());
    let start = x.rows().start - out.rows().start;
    assert_eq!(weights.codes.len(), blocks * 4 * TILE_ROWS * BITS);
    assert_eq!(weights.scales.len(), blocks * GROUPS * TILE_ROWS);
    assert!(!HAS_MIN || weights.mins.len() == weights.scales.len());
    let mut acc = [_mm256_setzero_ps(); ROWS];
    for first in (0..n).step_by(ROWS) {
        let rows = ROWS.min(n - first);
        if rows == 1 {
            // SAFETY: the caller's promise, and the lengths above.
            acc[0] = unsafe { one_row::<BITS, GROUPS, ZERO, HAS_MIN, PRODUCT>(weights, x.row(first)) };
        } else {
            acc = [_mm256_setzero_ps(); ROWS];
            // SAFETY: as above, and `first + rows <= n`.
            unsafe { many_rows::<BITS, GROUPS, ZERO, HAS_MIN, PRODUCT>(weights, x, first, &mut acc[..rows]) };
        }
        for (r, acc) in acc[..rows].iter().enumerate() {
            let mut values = [0f32; TILE_ROWS];
            // SAFETY: the array has eight values.
            unsafe { _mm256_storeu_ps(values.as_mut_ptr(), *acc) };
            out.row(start + first + r)[out_cols.clone()].copy_from_slice(&values[..out_cols.len()]);
        }
    }
}

/// The tile for one row.
///
/// # Safety
/// As [`tile`], and the row has as many blocks as the tile.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn one_row<
    const BITS: usize,
    const GROUPS: usize,
    const ZERO: u32,
    const HAS_MIN: bool,
    const PRODUCT: u8,
>(
    weights: Weights<'_>,
    x: &[Block],
) -> __m256 {
    let mut acc = _mm256_setzero_ps();
    for (i, x) in x.iter().enumerate() {
        prefetch::<BITS, GROUPS, HAS_MIN, TILE_ROWS>(weights, i, wanted(1));
        // SAFETY: the caller's promise.
        let (codes, factors) = unsafe {
            (
                codes::<BITS, PRODUCT>(weights, i),
                std::array::from_fn(|group| factors::<ZERO, HAS_MIN>(weights, i * GROUPS + group)),
            )
        };
        // SAFETY: the caller's promise.
        acc = unsafe { add_block::<BITS, GROUPS, PRODUCT>(&codes, &factors, x, acc) };
    }
    acc
}

/// The tile for `acc.len()` rows from row `first`.
///
/// # Safety
/// As [`tile`]; the rows are rows of `x`, and `x` has as many blocks per row as the tile.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn many_rows<
    const BITS: usize,
    const GROUPS: usize,
    const ZERO: u32,
    const HAS_MIN: bool,
    const PRODUCT: u8,
>(
    weights: Weights<'_>,
    x: &Tile<'_, Block>,
    first: usize,
    acc: &mut [__m256],
) {
    for i in 0..x.cols().len() {
        prefetch::<BITS, GROUPS, HAS_MIN, TILE_ROWS>(weights, i, wanted(ROWS));
        // SAFETY: the caller's promise.
        let (codes, factors) = unsafe {
            (
                codes::<BITS, PRODUCT>(weights, i),
                std::array::from_fn(|group| factors::<ZERO, HAS_MIN>(weights, i * GROUPS + group)),
            )
        };
        for (r, acc) in acc.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *acc = unsafe {
                let x = x.get_unchecked(first + r, i);
                add_block::<BITS, GROUPS, PRODUCT>(&codes, &factors, x, *acc)
            };
        }
    }
}

/// Adds the products of one block, for one row of activations.
///
/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn add_block<const BITS: usize, const GROUPS: usize, const PRODUCT: u8>(
    codes: &[__m256i; 8],
    factors: &[(__m256, __m256); GROUPS],
    x: &Block,
    acc: __m256,
) -> __m256 {
    // SAFETY: the caller's promise.
    let sums = unsafe { block_sums::<BITS, GROUPS, PRODUCT>(codes, x) };
    let mut acc = acc;
    for group in 0..GROUPS {
        let (scale, min) = factors[group];
        let sum = match (GROUPS, group) {
            (1, _) => x.sum,
            (_, 0) => x.first_sum,
            _ => x.sum - x.first_sum,
        };
        acc = _mm256_fmadd_ps(
            _mm256_cvtepi32_ps(sums[group]),
            _mm256_mul_ps(scale, _mm256_set1_ps(x.scale)),
            acc,
        );
        if BITS != 8 {
            acc = _mm256_fmadd_ps(min, _mm256_set1_ps(sum), acc);
        }
    }
    acc
}

/// Per group, the sums of code times activation, one lane per output row.
///
/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn block_sums<const BITS: usize, const GROUPS: usize, const PRODUCT: u8>(
    codes: &[__m256i; 8],
    x: &Block,
) -> [__m256i; GROUPS] {
    let mut sums = [_mm256_setzero_si256(); GROUPS];
    let (groups_of_four, _) = x.codes.as_chunks::<4>();
    let four = |i: usize| _mm256_set1_epi32(i32::from_ne_bytes(groups_of_four[i].map(|x| x as u8)));
    if PRODUCT != MADD {
        // Two chains, also for one group: with one of eight, the processor runs out of others to compute meanwhile.
        let mut halves = [_mm256_setzero_si256(); 2];
        for (i, &codes) in codes.iter().enumerate() {
            // SAFETY: the caller's promise.
            halves[i / 4] = unsafe { dot::<PRODUCT>(halves[i / 4], codes, four(i)) };
        }
        match GROUPS {
            1 => sums[0] = _mm256_add_epi32(halves[0], halves[1]),
            _ => sums.copy_from_slice(&halves),
        }
        if BITS == 8 {
            sums[0] = _mm256_sub_epi32(sums[0], _mm256_set1_epi32(x.total << 7));
        }
        return sums;
    }
    let product = |i: usize| match BITS {
        8 => _mm256_maddubs_epi16(_mm256_abs_epi8(codes[i]), _mm256_sign_epi8(four(i), codes[i])),
        _ => _mm256_maddubs_epi16(codes[i], four(i)),
    };
    let two = |i: usize| _mm256_add_epi16(product(i), product(i + 1));
    let pairs = |i: usize| _mm256_add_epi16(two(i), two(i + 2));
    let wide = |words: __m256i| _mm256_madd_epi16(words, _mm256_set1_epi16(1));
    let half = |i: usize| match BITS {
        4 | 5 => wide(pairs(i)),
        6 => _mm256_add_epi32(wide(two(i)), wide(two(i + 2))),
        _ => {
            let low = _mm256_add_epi32(wide(product(i)), wide(product(i + 1)));
            _mm256_add_epi32(low, _mm256_add_epi32(wide(product(i + 2)), wide(product(i + 3))))
        }
    };
    if GROUPS == 2 {
        (sums[0], sums[1]) = (half(0), half(4));
    } else if BITS == 4 {
        sums[0] = wide(_mm256_add_epi16(pairs(0), pairs(4)));
    } else {
        sums[0] = _mm256_add_epi32(half(0), half(4));
    }
    sums
}

/// Adds to each 32-bit lane its four unsigned codes times its four activations. In assembler, as the intrinsics are
/// calls in a function that may run with either encoding, or with none, and so has the features of neither.
///
/// # Safety
/// The CPU has `vpdpbusd` in the encoding `PRODUCT`.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn dot<const PRODUCT: u8>(mut sum: __m256i, codes: __m256i, x: __m256i) -> __m256i {
    // SAFETY: the instruction changes the register `sum` only, and the CPU has it.
    unsafe {
        if PRODUCT == EVEX {
            asm!(
                "{{evex}} vpdpbusd {sum}, {codes}, {x}",
                sum = inout(ymm_reg) sum, codes = in(ymm_reg) codes, x = in(ymm_reg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        } else {
            asm!(
                "{{vex}} vpdpbusd {sum}, {codes}, {x}",
                sum = inout(ymm_reg) sum, codes = in(ymm_reg) codes, x = in(ymm_reg) x,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
    }
    sum
}

/// Scale and minimum of the eight rows in group `index` of the tile.
///
/// # Safety
/// The tile has more than `index` groups.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn factors<const ZERO: u32, const HAS_MIN: bool>(
    weights: Weights<'_>,
    index: usize,
) -> (__m256, __m256) {
    let at = index * TILE_ROWS;
    // SAFETY: eight scales per group.
    let scale = unsafe { load_f16(weights.scales.as_ptr().add(at)) };
    let min = match HAS_MIN {
        // SAFETY: as many minimums as scales.
        true => unsafe { load_f16(weights.mins.as_ptr().add(at)) },
        false => _mm256_mul_ps(scale, _mm256_set1_ps(-((1 << ZERO) as f32))),
    };
    (scale, min)
}

/// The codes of block `index`, a vector per group of four inputs. For `vpmaddubsw`, those of 8 bits come out signed,
/// relative to their zero point of 128.
///
/// # Safety
/// The tile has more than `index` blocks.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn codes<const BITS: usize, const PRODUCT: u8>(weights: Weights<'_>, index: usize) -> [__m256i; 8] {
    // SAFETY: the caller's promise.
    let codes = unsafe { unpack::<BITS>(weights, index) };
    match (BITS, PRODUCT) {
        (8, MADD) => codes.map(|codes| _mm256_xor_si256(codes, _mm256_set1_epi8(-128))),
        _ => codes,
    }
}

define_unpack! {
    features: "avx2,fma,f16c",
    vector: __m256i,
    load: _mm256_loadu_si256, and: _mm256_and_si256, or: _mm256_or_si256, splat: _mm256_set1_epi8,
    shift_left: _mm256_slli_epi16, shift_right: _mm256_srli_epi16,
    floats: __m256, load_half: _mm_loadu_si128, convert: _mm256_cvtph_ps,
}

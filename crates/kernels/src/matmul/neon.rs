//! NEON: 8 output rows as two vectors of four, with `sdot` where the CPU has it, and `smmla` for pairs of rows.
//!
//! A vector of codes is two registers, which are taken one after the other: a half of the tile is what 32 registers hold
//! the codes of, beside the sums of four rows of activations. Codes of up to 6 bits are no different as signed bytes;
//! those of 8 bits come out signed, relative to their zero point of 128.
//!
//! `sdot` adds four products to each 32-bit lane. Without it, products are 16 bits: two of them are added there
//! (`2 * 127 * 128 = 32512`), and then neighbours to two 32-bit lanes for each output row, which are joined at the end.
//!
//! `smmla` multiplies eight inputs of two rows of activations with those of two rows of weights, twice as many products as `sdot`:
//!
//! ```text
//! codes of rows 0..4, as packed    vector 2p: 0 0 0 0 1 1 1 1 2 2 2 2 3 3 3 3    inputs 8p .. 8p + 4
//!                              vector 2p + 1: 0 0 0 0 1 1 1 1 2 2 2 2 3 3 3 3    inputs 8p + 4 .. 8p + 8
//! zipped, once for all rows             zip1: 0 0 0 0 0 0 0 0 1 1 1 1 1 1 1 1    zip2: rows 2 and 3 likewise
//! times eight inputs of rows a, b         sum: a0 a1 b0 b1, and of zip2: a2 a3 b2 b3
//! ```
//! A row alone has no second one to share a product with, and takes `sdot`.
//!
//! Its speed has not been measured. Nothing is prefetched by hand, unlike on x86: that would be to measure first.

use super::Weights;
use super::unpack::define_unpack;
use crate::activations::Block;
use crate::{Tile, TileMut};
use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

/// Values of `PRODUCT`: the instruction that multiplies codes with activations. With `smmla` comes `sdot`.
pub(super) const MULL: u8 = 0;
pub(super) const SDOT: u8 = 1;
pub(super) const SMMLA: u8 = 2;

const TILE_ROWS: usize = 8;

/// Output rows of a vector.
const HALF: usize = TILE_ROWS / 2;

/// Computes the tile for every row of activations.
///
/// # Safety
/// The CPU has what `PRODUCT` says.
#[target_feature(enable = "neon")]
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
    let n = x.rows().len();
    let mut row = 0;
    while row < n {
        // SAFETY: the caller's promise.
        row += unsafe {
            match n - row {
                1 => rows::<BITS, GROUPS, ZERO, HAS_MIN, PRODUCT, 1>(weights, x, row, out, &out_cols),
                2 | 3 => rows::<BITS, GROUPS, ZERO, HAS_MIN, PRODUCT, 2>(weights, x, row, out, &out_cols),
                _ => rows::<BITS, GROUPS, ZERO, HAS_MIN, PRODUCT, 4>(weights, x, row, out, &out_cols),
            }
        };
    }
}

/// Computes the tile for `R` rows of activations from `row`; returns `R`.
///
/// # Safety
/// As [`tile`].
#[target_feature(enable = "neon")]
unsafe fn rows<
    const BITS: usize,
    const GROUPS: usize,
    const ZERO: u32,
    const HAS_MIN: bool,
    const PRODUCT: u8,
    const R: usize,
>(
    weights: Weights<'_>,
    x: &Tile<'_, Block>,
    row: usize,
    out: &mut TileMut<'_, f32>,
    out_cols: &Range<usize>,
) -> usize {
    let start = x.rows().start - out.rows().start;
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

    let mut acc = [[vdupq_n_f32(0.0); R]; 2];
    for block in 0..blocks {
        for (half, acc) in acc.iter_mut().enumerate() {
            // SAFETY: `block < blocks`, and the lengths above are those of `blocks` blocks.
            let codes = unsafe { signed_codes::<BITS>(weights, block, half) };
            let mut factors = [(vdupq_n_f32(0.0), vdupq_n_f32(0.0)); GROUPS];
            for (group, factors) in factors.iter_mut().enumerate() {
                let at = (block * GROUPS + group) * TILE_ROWS + half * HALF;
                // SAFETY: eight scales per group, and as many minimums if there are any.
                *factors = unsafe { factors_at::<ZERO, HAS_MIN>(weights, at) };
            }
            // SAFETY: as above, and the caller's promise.
            unsafe {
                if PRODUCT == SMMLA && R > 1 {
                    let codes = zip_rows(&codes);
                    let (acc, _) = acc.as_chunks_mut::<2>();
                    for (acc, x_rows) in acc.iter_mut().zip(x_rows.as_chunks::<2>().0) {
                        let x = [x_rows[0].get_unchecked(block), x_rows[1].get_unchecked(block)];
                        let [a, b] = pair_sums::<GROUPS>(&codes, x);
                        acc[0] = add_sums::<BITS, GROUPS>(a, &factors, x[0], acc[0]);
                        acc[1] = add_sums::<BITS, GROUPS>(b, &factors, x[1], acc[1]);
                    }
                } else {
                    for (acc, x_row) in acc.iter_mut().zip(x_rows) {
                        let x = x_row.get_unchecked(block);
                        let sums = block_sums::<GROUPS, PRODUCT>(&codes, x);
                        *acc = add_sums::<BITS, GROUPS>(sums, &factors, x, *acc);
                    }
                }
            }
        }
    }
    let [low, high] = acc;
    for (r, (low, high)) in low.into_iter().zip(high).enumerate() {
        let mut values = [0f32; TILE_ROWS];
        // SAFETY: the array has eight values.
        unsafe {
            vst1q_f32(values.as_mut_ptr(), low);
            vst1q_f32(values.as_mut_ptr().add(HALF), high);
        }
        let out = &mut out.row(start + row + r)[out_cols.clone()];
        out.copy_from_slice(&values[..out.len()]);
    }
    R
}

/// Per group, the sums of code times activation over one block and one half of the tile, for one row of activations.
///
/// # Safety
/// The CPU has what `PRODUCT` says.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn block_sums<const GROUPS: usize, const PRODUCT: u8>(
    codes: &[int8x16_t; 8],
    x: &Block,
) -> [int32x4_t; GROUPS] {
    let mut sums = [vdupq_n_s32(0); GROUPS];
    for half in 0..2 {
        let sum = &mut sums[half * GROUPS / 2];
        let codes = [codes[4 * half], codes[4 * half + 1], codes[4 * half + 2], codes[4 * half + 3]];
        // SAFETY: a block has 32 codes; and the caller's promise.
        *sum = unsafe {
            let x = vld1q_s8(x.codes.as_ptr().add(16 * half));
            if PRODUCT == MULL { add_products(*sum, codes, x) } else { add_dots(*sum, codes, x) }
        };
    }
    sums
}

/// Codes of four rows, a vector per group of four inputs, as [`pair_sums`] takes them: for each eight inputs, a vector
/// of two rows and one of the other two.
#[target_feature(enable = "neon")]
#[inline]
fn zip_rows(codes: &[int8x16_t; 8]) -> [[int8x16_t; 2]; 4] {
    let mut zipped = [[vdupq_n_s8(0); 2]; 4];
    for (zipped, codes) in zipped.iter_mut().zip(codes.as_chunks::<2>().0) {
        let (a, b) = (vreinterpretq_s32_s8(codes[0]), vreinterpretq_s32_s8(codes[1]));
        *zipped = [vreinterpretq_s8_s32(vzip1q_s32(a, b)), vreinterpretq_s8_s32(vzip2q_s32(a, b))];
    }
    zipped
}

/// The same as [`block_sums`] for two rows of activations.
///
/// # Safety
/// The CPU has `smmla`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn pair_sums<const GROUPS: usize>(
    codes: &[[int8x16_t; 2]; 4],
    x: [&Block; 2],
) -> [[int32x4_t; GROUPS]; 2] {
    let mut sums = [[vdupq_n_s32(0); GROUPS]; 2];
    let mut squares = [[vdupq_n_s32(0); 2]; GROUPS];
    for (eight, codes) in codes.iter().enumerate() {
        let squares = &mut squares[eight * GROUPS / 4];
        // SAFETY: a block has 32 codes; and the caller's promise.
        unsafe {
            let x = vcombine_s8(
                vld1_s8(x[0].codes.as_ptr().add(8 * eight)),
                vld1_s8(x[1].codes.as_ptr().add(8 * eight)),
            );
            *squares = [multiply(squares[0], x, codes[0]), multiply(squares[1], x, codes[1])];
        }
    }
    for (group, squares) in squares.into_iter().enumerate() {
        let (low, high) = (vreinterpretq_s64_s32(squares[0]), vreinterpretq_s64_s32(squares[1]));
        sums[0][group] = vreinterpretq_s32_s64(vzip1q_s64(low, high));
        sums[1][group] = vreinterpretq_s32_s64(vzip2q_s64(low, high));
    }
    sums
}

/// Adds the sums of one block to those of one row of activations.
#[target_feature(enable = "neon")]
#[inline]
fn add_sums<const BITS: usize, const GROUPS: usize>(
    sums: [int32x4_t; GROUPS],
    factors: &[(float32x4_t, float32x4_t); GROUPS],
    x: &Block,
    acc: float32x4_t,
) -> float32x4_t {
    let mut acc = acc;
    for (group, (scale, min)) in factors.iter().enumerate() {
        let sum = match (GROUPS, group) {
            (1, _) => x.sum,
            (_, 0) => x.first_sum,
            _ => x.sum - x.first_sum,
        };
        let factor = vmulq_f32(*scale, vdupq_n_f32(x.scale));
        acc = vfmaq_f32(acc, vcvtq_f32_s32(sums[group]), factor);
        if BITS != 8 {
            acc = vfmaq_f32(acc, *min, vdupq_n_f32(sum));
        }
    }
    acc
}

/// Adds to each lane the products of 16 codes of its row with 16 activations.
///
/// # Safety
/// The CPU has `sdot`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn add_dots(sum: int32x4_t, codes: [int8x16_t; 4], x: int8x16_t) -> int32x4_t {
    // SAFETY: the caller's promise.
    unsafe {
        let sum = dot::<0>(sum, codes[0], x);
        let sum = dot::<1>(sum, codes[1], x);
        let sum = dot::<2>(sum, codes[2], x);
        dot::<3>(sum, codes[3], x)
    }
}

/// Adds to each lane its four codes times the four activations number `LANE`. In assembler, as the intrinsic is not
/// stable; the extension is named there, so that a function that may run without it need not have the feature.
///
/// # Safety
/// The CPU has `sdot`.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) unsafe fn dot<const LANE: i32>(mut sum: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction changes the register `sum` only, and the CPU has it.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sum:v}.4s, {codes:v}.16b, {x:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            codes = in(vreg) codes,
            x = in(vreg) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Adds to the lanes `a c`, `a d`, `b c` and `b d` the sums of eight products, where `a` and `b` are the halves of `x`, and
/// `c` and `d` those of `codes`. In assembler for the reasons of [`dot`].
///
/// # Safety
/// The CPU has `smmla`.
#[target_feature(enable = "neon")]
#[inline]
pub(crate) unsafe fn multiply(mut sum: int32x4_t, x: int8x16_t, codes: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction changes the register `sum` only, and the CPU has it.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {sum:v}.4s, {x:v}.16b, {codes:v}.16b",
            sum = inout(vreg) sum,
            x = in(vreg) x,
            codes = in(vreg) codes,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// The same as [`add_dots`], on every CPU.
#[target_feature(enable = "neon")]
#[inline]
fn add_products(sum: int32x4_t, codes: [int8x16_t; 4], x: int8x16_t) -> int32x4_t {
    let x = vreinterpretq_s32_s8(x);
    let x = [
        vreinterpretq_s8_s32(vdupq_laneq_s32::<0>(x)),
        vreinterpretq_s8_s32(vdupq_laneq_s32::<1>(x)),
        vreinterpretq_s8_s32(vdupq_laneq_s32::<2>(x)),
        vreinterpretq_s8_s32(vdupq_laneq_s32::<3>(x)),
    ];
    let (mut low, mut high) = (vdupq_n_s32(0), vdupq_n_s32(0));
    for i in [0, 2] {
        let products = vmull_s8(vget_low_s8(codes[i]), vget_low_s8(x[i]));
        low = vpadalq_s16(low, vmlal_s8(products, vget_low_s8(codes[i + 1]), vget_low_s8(x[i + 1])));
        let products = vmull_high_s8(codes[i], x[i]);
        high = vpadalq_s16(high, vmlal_high_s8(products, codes[i + 1], x[i + 1]));
    }
    vaddq_s32(sum, vpaddq_s32(low, high))
}

/// Scale and minimum of four rows, the first of which is number `at` in the tile.
///
/// # Safety
/// The tile has four scales from there, and as many minimums if it has any.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn factors_at<const ZERO: u32, const HAS_MIN: bool>(
    weights: Weights<'_>,
    at: usize,
) -> (float32x4_t, float32x4_t) {
    // SAFETY: the caller's promise.
    let scale = unsafe { load_f16(weights.scales.as_ptr().add(at)) };
    let min = match HAS_MIN {
        // SAFETY: the caller's promise.
        true => unsafe { load_f16(weights.mins.as_ptr().add(at)) },
        false => vmulq_f32(scale, vdupq_n_f32(-((1 << ZERO) as f32))),
    };
    (scale, min)
}

/// The codes of half of the rows of block `index`, a vector per group of four inputs.
///
/// # Safety
/// The tile has more than `index` blocks, and `half` is 0 or 1.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn signed_codes<const BITS: usize>(weights: Weights<'_>, index: usize, half: usize) -> [int8x16_t; 8] {
    // Vectors are half as long as those of the tile, so the second half begins a vector later and ends with the tile.
    let weights = Weights { codes: &weights.codes[half * 4 * HALF..], ..weights };
    // SAFETY: the caller's promise.
    let mut codes = unsafe { unpack::<BITS>(weights, index) };
    if BITS == 8 {
        for codes in &mut codes {
            *codes = veorq_s8(*codes, vdupq_n_s8(-128));
        }
    }
    codes
}

#[target_feature(enable = "neon")]
#[inline]
fn widen(bits: uint16x4_t) -> float32x4_t {
    vcvt_f32_f16(vreinterpret_f16_u16(bits))
}

// Shifts to the right bring the sign along, which the masks take away.
define_unpack! {
    features: "neon",
    vector: int8x16_t,
    load: vld1q_s8, and: vandq_s8, or: vorrq_s8, splat: vdupq_n_s8,
    shift_left: vshlq_n_s8, shift_right: vshrq_n_s8,
    floats: float32x4_t, load_half: vld1_u16, convert: widen,
}

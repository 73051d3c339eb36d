//! NEON lanes: two vectors of four, so that sums are those of eight lanes.

use super::{Lanes, Reduce, ReduceKernel};
use crate::matmul::dot;
use half::{bf16, f16};
use std::arch::aarch64::*;

#[target_feature(enable = "neon")]
pub(super) fn run_neon<K: ReduceKernel>(kernel: K) -> K::Output {
    kernel.run::<Neon<false>>()
}

/// With `sdot`.
///
/// # Safety
/// The CPU has it, and NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn run_neon_dot<K: ReduceKernel>(kernel: K) -> K::Output {
    kernel.run::<Neon<true>>()
}

/// Lanes 0-3 and 4-7; products of bytes are those of `sdot` where the CPU has it.
#[derive(Clone, Copy)]
pub(super) struct Neon<const DOT: bool>(float32x4_t, float32x4_t);

/// An expression of intrinsics without pointers.
macro_rules! value {
    ($e:expr) => {
        // SAFETY: value intrinsics need nothing but NEON, which `run` proved before it chose this type.
        unsafe { $e }
    };
}

/// An expression of loads or stores through a slice that is long enough: `N` elements, or as many as are said.
macro_rules! memory {
    ($slice:expr, $e:expr) => {
        memory!($slice, Self::N, $e)
    };
    ($slice:expr, $len:expr, $e:expr) => {{
        assert!($slice.len() >= $len);
        // SAFETY: the slice is as long, no alignment is needed, and `run` proved NEON.
        unsafe { $e }
    }};
}

impl<const DOT: bool> Neon<DOT> {
    #[inline(always)]
    fn map(self, f: impl Fn(float32x4_t) -> float32x4_t) -> Self {
        Self(f(self.0), f(self.1))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Self(f(self.0, other.0), f(self.1, other.1))
    }
}

/// `a > b ? a : b`. The instruction for a maximum gives NaN where either is that.
#[inline(always)]
fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    value!(vbslq_f32(vcgtq_f32(a, b), a, b))
}

/// Adds to each lane the products of its four bytes. A pair of them is at most 2 * 127 * 127 = 32258.
#[inline(always)]
fn add_fours(sums: int32x4_t, codes: int8x16_t, factors: int8x16_t) -> int32x4_t {
    value!({
        let low = vpaddlq_s16(vmull_s8(vget_low_s8(codes), vget_low_s8(factors)));
        let high = vpaddlq_s16(vmull_high_s8(codes, factors));
        vaddq_s32(sums, vpaddq_s32(low, high))
    })
}

/// Lanes whose bit in `bits` is set: those of `one`, else of `other`.
#[inline(always)]
fn select_bits(bits: u32, of_lanes: [u32; 4], one: float32x4_t, other: float32x4_t) -> float32x4_t {
    value!(vbslq_f32(vtstq_u32(vdupq_n_u32(bits), vld1q_u32(of_lanes.as_ptr())), one, other))
}

impl<const DOT: bool> Lanes for Neon<DOT> {
    const N: usize = 8;
    /// Less 128.
    type Codes = (int8x16_t, int8x16_t);
    /// The first of each pair, and the second.
    type Pairs = (int16x8_t, int16x8_t);
    type Ints = (int32x4_t, int32x4_t);

    #[inline(always)]
    fn splat(value: f32) -> Self {
        let lanes = value!(vdupq_n_f32(value));
        Self(lanes, lanes)
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        memory!(from, Self(vld1q_f32(from.as_ptr()), vld1q_f32(from.as_ptr().add(4))))
    }
    #[inline(always)]
    fn load_f16(from: &[f16]) -> Self {
        let bits = memory!(from, vld1q_u16(from.as_ptr().cast()));
        let widen = |bits| value!(vcvt_f32_f16(vreinterpret_f16_u16(bits)));
        Self(widen(value!(vget_low_u16(bits))), widen(value!(vget_high_u16(bits))))
    }
    #[inline(always)]
    fn load_bf16(from: &[bf16]) -> Self {
        let bits = memory!(from, vld1q_u16(from.as_ptr().cast()));
        value!(Self(
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(bits))),
            vreinterpretq_f32_u32(vshll_high_n_u16::<16>(bits)),
        ))
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        memory!(to, {
            vst1q_f32(to.as_mut_ptr(), self.0);
            vst1q_f32(to.as_mut_ptr().add(4), self.1);
        });
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [f16]) {
        let narrow = |lanes| value!(vreinterpret_u16_f16(vcvt_f16_f32(lanes)));
        memory!(to, vst1q_u16(to.as_mut_ptr().cast(), vcombine_u16(narrow(self.0), narrow(self.1))));
    }
    #[inline(always)]
    fn store_i8(self, to: &mut [i8]) {
        let bytes = value!({
            let words = |lanes| vqmovn_s32(vcvtnq_s32_f32(lanes));
            vqmovn_s16(vcombine_s16(words(self.0), words(self.1)))
        });
        memory!(to, vst1_s8(to.as_mut_ptr(), bytes));
    }
    #[inline(always)]
    fn store_i16(self, to: &mut [i16]) {
        let words = value!({
            let words = |lanes| vqmovn_s32(vcvtnq_s32_f32(lanes));
            vcombine_s16(words(self.0), words(self.1))
        });
        memory!(to, vst1q_s16(to.as_mut_ptr(), words));
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| value!(vaddq_f32(a, b)))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| value!(vsubq_f32(a, b)))
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| value!(vmulq_f32(a, b)))
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| value!(vdivq_f32(a, b)))
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        value!(Self(vfmaq_f32(addend.0, self.0, factor.0), vfmaq_f32(addend.1, self.1, factor.1)))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, larger)
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| value!(vbslq_f32(vcltq_f32(a, b), a, b)))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.map(|lanes| value!(vabsq_f32(lanes)))
    }
    #[inline(always)]
    fn round(self) -> Self {
        self.map(|lanes| value!(vrndnq_f32(lanes)))
    }
    #[inline(always)]
    fn pow2(self) -> Self {
        self.map(|lanes| {
            value!({
                let exponent = vaddq_s32(vcvtnq_s32_f32(lanes), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
            })
        })
    }
    #[inline(always)]
    fn zero_below(self, value: Self, limit: Self) -> Self {
        let reached = value.zip(limit, |a, b| value!(vreinterpretq_f32_u32(vcgeq_f32(a, b))));
        self.zip(reached, |lanes, reached| {
            value!(vreinterpretq_f32_u32(vandq_u32(
                vreinterpretq_u32_f32(lanes),
                vreinterpretq_u32_f32(reached)
            )))
        })
    }
    #[inline(always)]
    fn select(self, bits: u16, other: Self) -> Self {
        let bits = u32::from(bits);
        Self(
            select_bits(bits, [1, 2, 4, 8], self.0, other.0),
            select_bits(bits, [16, 32, 64, 128], self.1, other.1),
        )
    }
    #[inline(always)]
    fn load_pairs(from: &[i16]) -> (int16x8_t, int16x8_t) {
        let int16x8x2_t(first, second) = memory!(from, 2 * Self::N, vld2q_s16(from.as_ptr()));
        (first, second)
    }
    #[inline(always)]
    fn load_pairs_i8(from: &[i8]) -> (int16x8_t, int16x8_t) {
        let int8x8x2_t(first, second) = memory!(from, 2 * Self::N, vld2_s8(from.as_ptr()));
        value!((vmovl_s8(first), vmovl_s8(second)))
    }
    #[inline(always)]
    fn add_pairs(
        (low, high): (int32x4_t, int32x4_t),
        (first, second): (int16x8_t, int16x8_t),
        factors: i32,
    ) -> (int32x4_t, int32x4_t) {
        let of = [factors as i16, (factors >> 16) as i16];
        value!({
            let low = vmlal_n_s16(low, vget_low_s16(first), of[0]);
            let high = vmlal_high_n_s16(high, first, of[0]);
            (vmlal_n_s16(low, vget_low_s16(second), of[1]), vmlal_high_n_s16(high, second, of[1]))
        })
    }
    #[inline(always)]
    fn load_codes(from: &[i8]) -> (int8x16_t, int8x16_t) {
        let zero = value!(vdupq_n_s8(-128));
        let less = |codes| value!(veorq_s8(codes, zero));
        memory!(from, 4 * Self::N, (less(vld1q_s8(from.as_ptr())), less(vld1q_s8(from.as_ptr().add(16)))))
    }
    #[inline(always)]
    fn first_sums(_: i32) -> (int32x4_t, int32x4_t) {
        value!((vdupq_n_s32(0), vdupq_n_s32(0)))
    }
    #[inline(always)]
    fn add_products(
        (low, high): (int32x4_t, int32x4_t),
        codes: (int8x16_t, int8x16_t),
        factors: i32,
    ) -> (int32x4_t, int32x4_t) {
        let factors = value!(vreinterpretq_s8_s32(vdupq_n_s32(factors)));
        match DOT {
            // SAFETY: this type is chosen where the CPU has `sdot` only.
            true => unsafe { (dot::<0>(low, codes.0, factors), dot::<0>(high, codes.1, factors)) },
            false => (add_fours(low, codes.0, factors), add_fours(high, codes.1, factors)),
        }
    }
    #[inline(always)]
    fn from_ints((low, high): (int32x4_t, int32x4_t)) -> Self {
        value!(Self(vcvtq_f32_s32(low), vcvtq_f32_s32(high)))
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        let four = larger(self.0, self.1);
        let two = larger(four, value!(vextq_f32::<2>(four, four)));
        let (a, b) = value!((vgetq_lane_f32::<0>(two), vgetq_lane_f32::<1>(two)));
        if a > b { a } else { b }
    }
}

impl<const DOT: bool> Reduce for Neon<DOT> {
    #[inline(always)]
    fn sum(self) -> f32 {
        value!({
            let four = vaddq_f32(self.0, self.1);
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        })
    }
}

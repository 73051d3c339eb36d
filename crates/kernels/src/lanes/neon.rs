//! NEON lanes: two vectors of four, so that sums are those of eight lanes.

use super::{Lanes, Reduce, ReduceKernel};
use half::{bf16, f16};
use std::arch::aarch64::*;

#[target_feature(enable = "neon")]
pub(super) fn run_neon<K: ReduceKernel>(kernel: K) -> K::Output {
    kernel.run::<Neon>()
}

/// Lanes 0-3 and 4-7.
#[derive(Clone, Copy)]
pub(super) struct Neon(float32x4_t, float32x4_t);

/// An expression of intrinsics without pointers.
macro_rules! value {
    ($e:expr) => {
        // SAFETY: value intrinsics need nothing but NEON, which `run` proved before it chose this type.
        unsafe { $e }
    };
}

/// An expression of loads or stores through a slice that is long enough.
macro_rules! memory {
    ($slice:expr, $e:expr) => {{
        assert!($slice.len() >= Self::N);
        // SAFETY: the slice has `N` elements, no alignment is needed, and `run` proved NEON.
        unsafe { $e }
    }};
}

impl Neon {
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

/// Lanes whose bit in `bits` is set: those of `one`, else of `other`.
#[inline(always)]
fn select_bits(bits: u32, of_lanes: [u32; 4], one: float32x4_t, other: float32x4_t) -> float32x4_t {
    value!(vbslq_f32(vtstq_u32(vdupq_n_u32(bits), vld1q_u32(of_lanes.as_ptr())), one, other))
}

impl Lanes for Neon {
    const N: usize = 8;

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
    fn store_i8(self, to: &mut [i8]) {
        let bytes = value!({
            let words = |lanes| vqmovn_s32(vcvtnq_s32_f32(lanes));
            vqmovn_s16(vcombine_s16(words(self.0), words(self.1)))
        });
        memory!(to, vst1_s8(to.as_mut_ptr(), bytes));
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
    fn max_lane(self) -> f32 {
        let four = larger(self.0, self.1);
        let two = larger(four, value!(vextq_f32::<2>(four, four)));
        let (a, b) = value!((vgetq_lane_f32::<0>(two), vgetq_lane_f32::<1>(two)));
        if a > b { a } else { b }
    }
}

impl Reduce for Neon {
    #[inline(always)]
    fn sum(self) -> f32 {
        value!({
            let four = vaddq_f32(self.0, self.1);
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        })
    }
}

//! AVX2 and AVX-512 lanes: one intrinsic per operation.

use super::{Kernel, Lanes, Reduce, ReduceKernel};
use half::{bf16, f16};
use std::arch::x86_64::*;

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run_avx2<K: ReduceKernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

#[derive(Clone, Copy)]
pub(super) struct Avx2(__m256);

#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

/// An expression of intrinsics without pointers.
macro_rules! value {
    ($e:expr) => {
        // SAFETY: value intrinsics need nothing but the CPU feature, which `run` proved before it chose this
        // type.
        unsafe { $e }
    };
}

/// An expression of one load or store through a slice that is long enough: `N` elements, or as many as are said.
macro_rules! memory {
    ($slice:expr, $e:expr) => {
        memory!($slice, Self::N, $e)
    };
    ($slice:expr, $len:expr, $e:expr) => {{
        assert!($slice.len() >= $len);
        // SAFETY: the slice is as long, no alignment is needed, and `run` proved the CPU feature.
        unsafe { $e }
    }};
}

impl Lanes for Avx2 {
    const N: usize = 8;
    /// Less 128.
    type Codes = __m256i;
    type Pairs = __m256i;
    type Ints = __m256i;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(value!(_mm256_set1_ps(value)))
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        Self(memory!(from, _mm256_loadu_ps(from.as_ptr())))
    }
    #[inline(always)]
    fn load_f16(from: &[f16]) -> Self {
        Self(memory!(from, _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast()))))
    }
    #[inline(always)]
    fn load_bf16(from: &[bf16]) -> Self {
        let bits = memory!(from, _mm_loadu_si128(from.as_ptr().cast()));
        Self(value!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))))
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        memory!(to, _mm256_storeu_ps(to.as_mut_ptr(), self.0));
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [f16]) {
        let halves = value!(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
        memory!(to, _mm_storeu_si128(to.as_mut_ptr().cast(), halves));
    }
    #[inline(always)]
    fn store_i8(self, to: &mut [i8]) {
        let bytes = value!({
            let ints = _mm256_cvtps_epi32(self.0);
            let words = _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256::<1>(ints));
            _mm_packs_epi16(words, words)
        });
        memory!(to, _mm_storel_epi64(to.as_mut_ptr().cast(), bytes));
    }
    #[inline(always)]
    fn store_i16(self, to: &mut [i16]) {
        let words = value!({
            let ints = _mm256_cvtps_epi32(self.0);
            _mm_packs_epi32(_mm256_castsi256_si128(ints), _mm256_extracti128_si256::<1>(ints))
        });
        memory!(to, _mm_storeu_si128(to.as_mut_ptr().cast(), words));
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(value!(_mm256_add_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(value!(_mm256_sub_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(value!(_mm256_mul_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(value!(_mm256_div_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        Self(value!(_mm256_fmadd_ps(self.0, factor.0, addend.0)))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(value!(_mm256_max_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(value!(_mm256_min_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self(value!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)))
    }
    #[inline(always)]
    fn round(self) -> Self {
        Self(value!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)))
    }
    #[inline(always)]
    fn pow2(self) -> Self {
        Self(value!({
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }))
    }
    #[inline(always)]
    fn zero_below(self, value: Self, limit: Self) -> Self {
        Self(value!(_mm256_and_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(value.0, limit.0), self.0)))
    }
    #[inline(always)]
    fn select(self, bits: u16, other: Self) -> Self {
        Self(value!({
            let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let set = _mm256_and_si256(_mm256_set1_epi32(i32::from(bits)), lanes);
            let set = _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, lanes));
            _mm256_blendv_ps(other.0, self.0, set)
        }))
    }
    #[inline(always)]
    fn load_pairs(from: &[i16]) -> __m256i {
        memory!(from, 2 * Self::N, _mm256_loadu_si256(from.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_pairs_i8(from: &[i8]) -> __m256i {
        memory!(from, 2 * Self::N, _mm256_cvtepi8_epi16(_mm_loadu_si128(from.as_ptr().cast())))
    }
    #[inline(always)]
    fn add_pairs(sums: __m256i, codes: __m256i, factors: i32) -> __m256i {
        value!(_mm256_add_epi32(sums, _mm256_madd_epi16(codes, _mm256_set1_epi32(factors))))
    }
    #[inline(always)]
    fn load_codes(from: &[i8]) -> __m256i {
        let codes = memory!(from, 4 * Self::N, _mm256_loadu_si256(from.as_ptr().cast()));
        value!(_mm256_xor_si256(codes, _mm256_set1_epi8(-128)))
    }
    #[inline(always)]
    fn first_sums(_: i32) -> __m256i {
        value!(_mm256_setzero_si256())
    }
    /// The sign of each factor moves to its code, as one operand is unsigned: pairs are at most 2 * 127 * 127 = 32258.
    #[inline(always)]
    fn add_products(sums: __m256i, codes: __m256i, factors: i32) -> __m256i {
        value!({
            let factors = _mm256_set1_epi32(factors);
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(factors), _mm256_sign_epi8(codes, factors));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }
    #[inline(always)]
    fn from_ints(ints: __m256i) -> Self {
        Self(value!(_mm256_cvtepi32_ps(ints)))
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        value!({
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        })
    }
}

impl Reduce for Avx2 {
    #[inline(always)]
    fn sum(self) -> f32 {
        value!({
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        })
    }
}

impl Lanes for Avx512 {
    const N: usize = 16;
    type Codes = __m512i;
    type Pairs = __m512i;
    type Ints = __m512i;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(value!(_mm512_set1_ps(value)))
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        Self(memory!(from, _mm512_loadu_ps(from.as_ptr())))
    }
    #[inline(always)]
    fn load_f16(from: &[f16]) -> Self {
        Self(memory!(from, _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()))))
    }
    #[inline(always)]
    fn load_bf16(from: &[bf16]) -> Self {
        let bits = memory!(from, _mm256_loadu_si256(from.as_ptr().cast()));
        Self(value!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))))
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        memory!(to, _mm512_storeu_ps(to.as_mut_ptr(), self.0));
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [f16]) {
        let halves = value!(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
        memory!(to, _mm256_storeu_si256(to.as_mut_ptr().cast(), halves));
    }
    #[inline(always)]
    fn store_i8(self, to: &mut [i8]) {
        let bytes = value!(_mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(self.0)));
        memory!(to, _mm_storeu_si128(to.as_mut_ptr().cast(), bytes));
    }
    #[inline(always)]
    fn store_i16(self, to: &mut [i16]) {
        let words = value!(_mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(self.0)));
        memory!(to, _mm256_storeu_si256(to.as_mut_ptr().cast(), words));
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(value!(_mm512_add_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(value!(_mm512_sub_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(value!(_mm512_mul_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(value!(_mm512_div_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        Self(value!(_mm512_fmadd_ps(self.0, factor.0, addend.0)))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(value!(_mm512_max_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(value!(_mm512_min_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self(value!(_mm512_abs_ps(self.0)))
    }
    #[inline(always)]
    fn round(self) -> Self {
        Self(value!(_mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(self.0)))
    }
    #[inline(always)]
    fn pow2(self) -> Self {
        Self(value!({
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }))
    }
    #[inline(always)]
    fn shift(self, n: Self) -> Self {
        Self(value!(_mm512_scalef_ps(self.0, n.0)))
    }
    #[inline(always)]
    fn times_pow2(self, n: Self) -> Self {
        self.shift(n)
    }
    #[inline(always)]
    fn zero_below(self, value: Self, limit: Self) -> Self {
        Self(value!(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(value.0, limit.0), self.0)))
    }
    #[inline(always)]
    fn select(self, bits: u16, other: Self) -> Self {
        Self(value!(_mm512_mask_blend_ps(bits, other.0, self.0)))
    }
    #[inline(always)]
    fn load_pairs(from: &[i16]) -> __m512i {
        memory!(from, 2 * Self::N, _mm512_loadu_si512(from.as_ptr().cast()))
    }
    #[inline(always)]
    fn load_pairs_i8(from: &[i8]) -> __m512i {
        memory!(from, 2 * Self::N, _mm512_cvtepi8_epi16(_mm256_loadu_si256(from.as_ptr().cast())))
    }
    #[inline(always)]
    fn add_pairs(sums: __m512i, codes: __m512i, factors: i32) -> __m512i {
        value!(_mm512_dpwssd_epi32(sums, codes, _mm512_set1_epi32(factors)))
    }
    #[inline(always)]
    fn load_codes(from: &[i8]) -> __m512i {
        memory!(from, 4 * Self::N, _mm512_loadu_si512(from.as_ptr().cast()))
    }
    #[inline(always)]
    fn first_sums(total: i32) -> __m512i {
        value!(_mm512_set1_epi32(-128 * total))
    }
    #[inline(always)]
    fn add_products(sums: __m512i, codes: __m512i, factors: i32) -> __m512i {
        value!(_mm512_dpbusd_epi32(sums, codes, _mm512_set1_epi32(factors)))
    }
    #[inline(always)]
    fn from_ints(ints: __m512i) -> Self {
        Self(value!(_mm512_cvtepi32_ps(ints)))
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        value!(_mm512_reduce_max_ps(self.0))
    }
}

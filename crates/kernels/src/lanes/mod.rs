//! Eight f32 lanes: float algorithms are written once over [`Lanes`] and run on every instruction set.
//!
//! Whatever the hardware's width, a [`ReduceKernel`] sees groups of eight, so the order of every sum is fixed
//! and all instruction sets give the same bits. A [`Kernel`] never combines lanes and takes any width.
//! [`run`] and [`run_wide`] are the only places that enter code compiled for an instruction set.
//!
//! Everything between `run` and the intrinsics must be `#[inline(always)]`: it has no `#[target_feature]` of
//! its own and takes that of the entry function it is inlined into.

#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::Isa;
use crate::isa::Kind;
use half::{bf16, f16};

/// A vector of f32. Only [`run`] may choose an implementation, since calling one on a CPU without its
/// instructions is undefined; it asks an [`Isa`] for the proof.
pub(crate) trait Lanes: Copy {
    /// Number of lanes.
    const N: usize;

    /// Four codes for each lane.
    type Codes: Copy;
    /// Two codes of 16 bits for each lane.
    type Pairs: Copy;
    /// An i32 for each lane.
    type Ints: Copy;

    fn splat(value: f32) -> Self;
    /// The first `N` values. Panics when there are fewer; so do the other loads and stores.
    fn load(from: &[f32]) -> Self;
    fn load_f16(from: &[f16]) -> Self;
    fn load_bf16(from: &[bf16]) -> Self;
    fn store(self, to: &mut [f32]);
    /// Rounds to nearest, ties to even.
    fn store_f16(self, to: &mut [f16]);
    /// Rounds to nearest, ties to even, and saturates to [-128, 127].
    fn store_i8(self, to: &mut [i8]);

    /// Rounds to nearest, ties to even, and saturates to [-32768, 32767]. What is not a number, or beyond an i32, becomes some
    /// number.
    fn store_i16(self, to: &mut [i16]);

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self * factor + addend`, rounded once.
    fn fma(self, factor: Self, addend: Self) -> Self;
    /// `self > other ? self : other`, so a NaN in `self` is dropped.
    fn max(self, other: Self) -> Self;
    /// `self < other ? self : other`.
    fn min(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// To the nearest integer, ties to even.
    fn round(self) -> Self;
    /// 2 to the power of `self`, an integer in [-126, 127].
    fn pow2(self) -> Self;
    /// `self` times 2 to the power of `n`, integers in [-126, 127] of which no product is subnormal.
    #[inline(always)]
    fn shift(self, n: Self) -> Self {
        self.mul(n.pow2())
    }
    /// `self` times 2 to the power of `n`, integers in [-126, 128] of which no product is subnormal or infinite.
    #[inline(always)]
    fn times_pow2(self, n: Self) -> Self {
        // 2^128 is not a float, so the power is applied in two steps.
        let half = n.mul(Self::splat(0.5)).round();
        self.mul(half.pow2()).mul(n.sub(half).pow2())
    }
    /// Lanes where `self >= limit`, zero elsewhere.
    fn zero_below(self, value: Self, limit: Self) -> Self;
    /// Lanes whose bit in `bits` is set, those of `other` elsewhere.
    fn select(self, bits: u16, other: Self) -> Self;
    /// The first `2 N` codes.
    fn load_pairs(from: &[i16]) -> Self::Pairs;
    /// The first `2 N` codes, of 8 bits.
    fn load_pairs_i8(from: &[i8]) -> Self::Pairs;
    /// Adds to each lane the products of its two codes with the two factors in `factors`, the lower one first. The sum wraps
    /// around.
    fn add_pairs(sums: Self::Ints, codes: Self::Pairs, factors: i32) -> Self::Ints;
    /// The first `4 N` codes: in [-127, 127], stored plus 128 in bytes without sign.
    fn load_codes(from: &[i8]) -> Self::Codes;
    /// What sums of products with factors begin with that add up to `total`: nothing, or what takes the 128 off again.
    fn first_sums(total: i32) -> Self::Ints;
    /// Adds to each lane the products of its four codes and the four bytes of `factors`, also in [-127, 127]: exactly.
    fn add_products(sums: Self::Ints, codes: Self::Codes, factors: i32) -> Self::Ints;
    fn from_ints(ints: Self::Ints) -> Self;
    /// The largest lane. Of any width, as the order of a maximum does not matter.
    fn max_lane(self) -> f32;
}

/// A vector of eight lanes, which can be combined into one number. Sixteen would add up in another order, so
/// wider vectors do not implement it.
pub(crate) trait Reduce: Lanes {
    /// Sum of the lanes as `((0+4)+(2+6)) + ((1+5)+(3+7))`.
    fn sum(self) -> f32;
}

/// A number format that is read as lanes of f32.
pub(crate) trait Number: Copy {
    /// The first `N` numbers. Panics when there are fewer.
    fn load<L: Lanes>(from: &[Self]) -> L;
}

impl Number for f32 {
    #[inline(always)]
    fn load<L: Lanes>(from: &[f32]) -> L {
        L::load(from)
    }
}

impl Number for f16 {
    #[inline(always)]
    fn load<L: Lanes>(from: &[f16]) -> L {
        L::load_f16(from)
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn load<L: Lanes>(from: &[bf16]) -> L {
        L::load_bf16(from)
    }
}

/// A float algorithm that never combines lanes, so that it gives the same bits for vectors of any width.
pub(crate) trait Kernel {
    type Output;
    /// Implementations are `#[inline(always)]`.
    fn run<L: Lanes>(self) -> Self::Output;
}

/// A float algorithm that combines lanes and therefore always runs with eight.
pub(crate) trait ReduceKernel {
    type Output;
    /// Implementations are `#[inline(always)]`.
    fn run<L: Reduce>(self) -> Self::Output;
}

impl<K: Kernel> ReduceKernel for K {
    type Output = K::Output;

    #[inline(always)]
    fn run<L: Reduce>(self) -> K::Output {
        Kernel::run::<L>(self)
    }
}

/// Runs a kernel with eight lanes on the instruction set. AVX-512 machines run it as AVX2, see the module
/// docs.
#[inline]
pub(crate) fn run<K: ReduceKernel>(isa: Isa, kernel: K) -> K::Output {
    match isa.0 {
        Kind::Scalar => ReduceKernel::run::<[f32; 8]>(kernel),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of these kinds exists only on a CPU with AVX2, FMA and F16C.
        Kind::Avx2 | Kind::AvxVnni { .. } | Kind::Avx512Vnni => unsafe { x86::run_avx2(kernel) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: an `Isa` of these kinds exists only on a CPU with NEON.
        Kind::Neon | Kind::NeonDot | Kind::NeonI8mm => unsafe { neon::run_neon(kernel) },
    }
}

/// Runs a kernel with the widest vectors of the instruction set, 8 lanes, or 16 with AVX-512, and with its products of
/// bytes.
#[inline]
pub(crate) fn run_wide<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa.0 {
        Kind::Scalar => ReduceKernel::run::<[f32; 8]>(kernel),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of either kind exists only on a CPU with AVX2, FMA and F16C.
        Kind::Avx2 | Kind::AvxVnni { .. } => unsafe { x86::run_avx2(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` of this kind exists only on a CPU with AVX-512 F, BW, VL, VNNI.
        Kind::Avx512Vnni => unsafe { x86::run_avx512(kernel) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: an `Isa` of this kind exists only on a CPU with NEON.
        Kind::Neon => unsafe { neon::run_neon(kernel) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: an `Isa` of either kind exists only on a CPU with NEON and `sdot`.
        Kind::NeonDot | Kind::NeonI8mm => unsafe { neon::run_neon_dot(kernel) },
    }
}

/// Whether every lane is zero or more. A maximum drops what is not a number, this finds it.
#[inline(always)]
pub(crate) fn all_from_zero<L: Lanes>(lanes: L) -> bool {
    L::splat(-1.0).zero_below(lanes, L::splat(0.0)).max_lane() < 0.0
}

/// e^x: relative error below 2e-7 for x in [-87.3, 88.7]; 0 below that range, and e^88.7 above it.
///
/// `e^x = 2^n e^r` with `n = round(x / ln 2)` and `|r| <= ln 2 / 2`; polynomial of Cephes `expf`.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(x: L) -> L {
    let clamped = x.min(L::splat(88.7)).max(L::splat(-87.3));
    let n = clamped.mul(L::splat(std::f32::consts::LOG2_E)).round();
    // ln 2 in two parts, so that n * ln 2 loses nothing.
    let r = n.fma(L::splat(-0.693_359_4), clamped);
    let r = n.fma(L::splat(2.121_944_4e-4), r);
    let mut p = L::splat(1.987_569_2e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = p.fma(r, L::splat(c));
    }
    let p = p.fma(r.mul(r), r.add(L::splat(1.0)));
    p.times_pow2(n).zero_below(x, L::splat(-87.3))
}

/// 2^x for x of at most 0: relative error below 2e-7, and exactly 1 for 0; 2^-125 below -125 and for what is not a number.
///
/// `2^x = 2^n 2^r` with `n = round(x)`; the polynomial was fitted for `|r| <= 1/2` with a value of 1 at 0.
#[inline(always)]
pub(crate) fn exp2_to_one<L: Lanes>(x: L) -> L {
    let x = x.max(L::splat(-125.0));
    let n = x.round();
    let r = x.sub(n);
    let mut p = L::splat(1.330_060_5e-3);
    for c in [9.669_691e-3, 5.550_558_5e-2, 2.402_228_3e-1, std::f32::consts::LN_2, 1.0] {
        p = p.fma(r, L::splat(c));
    }
    p.shift(n)
}

/// The hyperbolic tangent: absolute error below 2e-7.
#[inline(always)]
pub(crate) fn tanh<L: Lanes>(x: L) -> L {
    let one = L::splat(1.0);
    one.sub(L::splat(2.0).div(exp(x.add(x)).add(one)))
}

/// Calls `f` with the vectors of equally long slices; the last, partial one is padded with `pad`.
#[inline(always)]
pub(crate) fn for_each<L: Lanes>(values: &[f32], pad: f32, mut f: impl FnMut(L)) {
    let mut chunks = values.chunks_exact(L::N);
    for chunk in &mut chunks {
        f(L::load(chunk));
    }
    if !chunks.remainder().is_empty() {
        f(load_padded(chunks.remainder(), pad));
    }
}

/// Loads up to `N` values and fills up with `pad`.
#[inline(always)]
pub(crate) fn load_padded<L: Lanes>(values: &[f32], pad: f32) -> L {
    let mut padded = [pad; 16];
    padded[..values.len()].copy_from_slice(values);
    L::load(&padded)
}

/// Replaces every value by `f(value, other)` for slices of equal length.
#[inline(always)]
pub(crate) fn update<L: Lanes>(values: &mut [f32], other: &[f32], f: impl Fn(L, L) -> L) {
    assert_eq!(values.len(), other.len());
    let mut chunks = values.chunks_exact_mut(L::N);
    let mut others = other.chunks_exact(L::N);
    for (chunk, other) in (&mut chunks).zip(&mut others) {
        f(L::load(chunk), L::load(other)).store(chunk);
    }
    let rest = chunks.into_remainder();
    if !rest.is_empty() {
        let mut padded = [0.0; 16];
        f(load_padded(rest, 0.0), load_padded(others.remainder(), 0.0)).store(&mut padded);
        rest.copy_from_slice(&padded[..rest.len()]);
    }
}

/// Replaces every value by `f(value)`.
#[inline(always)]
pub(crate) fn map<L: Lanes>(values: &mut [f32], f: impl Fn(L) -> L) {
    let mut chunks = values.chunks_exact_mut(L::N);
    for chunk in &mut chunks {
        f(L::load(chunk)).store(chunk);
    }
    let rest = chunks.into_remainder();
    if !rest.is_empty() {
        let mut padded = [0.0; 16];
        f(load_padded(rest, 0.0)).store(&mut padded);
        rest.copy_from_slice(&padded[..rest.len()]);
    }
}

#[cfg(test)]
mod tests;

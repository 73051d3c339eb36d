//! Lanes in an array: the specification of the vector implementations.

use super::{Lanes, Reduce};
use half::{bf16, f16};
use std::array::from_fn;

impl Lanes for [f32; 8] {
    const N: usize = 8;
    type Codes = [[i8; 4]; 8];
    type Pairs = [[i16; 2]; 8];
    type Ints = [i32; 8];

    #[inline(always)]
    fn splat(value: f32) -> Self {
        [value; 8]
    }
    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        from_fn(|i| from[i])
    }
    #[inline(always)]
    fn load_f16(from: &[f16]) -> Self {
        from_fn(|i| from[i].to_f32())
    }
    #[inline(always)]
    fn load_bf16(from: &[bf16]) -> Self {
        from_fn(|i| from[i].to_f32())
    }
    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..8].copy_from_slice(&self);
    }
    #[inline(always)]
    fn store_f16(self, to: &mut [f16]) {
        to[..8].copy_from_slice(&self.map(f16::from_f32));
    }
    #[inline(always)]
    fn store_i8(self, to: &mut [i8]) {
        to[..8].copy_from_slice(&self.map(|x| x.round_ties_even() as i8));
    }
    #[inline(always)]
    fn store_i16(self, to: &mut [i16]) {
        to[..8].copy_from_slice(&self.map(|x| x.round_ties_even() as i16));
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        from_fn(|i| self[i] + other[i])
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        from_fn(|i| self[i] - other[i])
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        from_fn(|i| self[i] * other[i])
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        from_fn(|i| self[i] / other[i])
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        from_fn(|i| self[i].mul_add(factor[i], addend[i]))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        from_fn(|i| if self[i] > other[i] { self[i] } else { other[i] })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        from_fn(|i| if self[i] < other[i] { self[i] } else { other[i] })
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.map(f32::abs)
    }
    #[inline(always)]
    fn round(self) -> Self {
        self.map(f32::round_ties_even)
    }
    #[inline(always)]
    fn pow2(self) -> Self {
        self.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn zero_below(self, value: Self, limit: Self) -> Self {
        from_fn(|i| if value[i] >= limit[i] { self[i] } else { 0.0 })
    }
    #[inline(always)]
    fn select(self, bits: u16, other: Self) -> Self {
        from_fn(|i| if bits >> i & 1 == 1 { self[i] } else { other[i] })
    }
    #[inline(always)]
    fn load_pairs(from: &[i16]) -> [[i16; 2]; 8] {
        from_fn(|i| [from[2 * i], from[2 * i + 1]])
    }
    #[inline(always)]
    fn load_pairs_i8(from: &[i8]) -> [[i16; 2]; 8] {
        from_fn(|i| [from[2 * i], from[2 * i + 1]].map(i16::from))
    }
    #[inline(always)]
    fn add_pairs(sums: [i32; 8], codes: [[i16; 2]; 8], factors: i32) -> [i32; 8] {
        let factors = [factors as i16, (factors >> 16) as i16].map(i32::from);
        // What lies in slots that nobody attends to may be anything.
        let product = |code: i16, factor: i32| i32::from(code).wrapping_mul(factor);
        from_fn(|i| {
            sums[i]
                .wrapping_add(product(codes[i][0], factors[0]))
                .wrapping_add(product(codes[i][1], factors[1]))
        })
    }
    #[inline(always)]
    fn load_codes(from: &[i8]) -> [[i8; 4]; 8] {
        from_fn(|i| from_fn(|j| from[4 * i + j] ^ -128))
    }
    #[inline(always)]
    fn first_sums(_: i32) -> [i32; 8] {
        [0; 8]
    }
    #[inline(always)]
    fn add_products(sums: [i32; 8], codes: [[i8; 4]; 8], factors: i32) -> [i32; 8] {
        let factors = factors.to_le_bytes().map(|factor| i32::from(factor.cast_signed()));
        from_fn(|i| sums[i] + (0..4).map(|j| i32::from(codes[i][j]) * factors[j]).sum::<i32>())
    }
    #[inline(always)]
    fn from_ints(ints: [i32; 8]) -> Self {
        ints.map(|int| int as f32)
    }
    #[inline(always)]
    fn max_lane(self) -> f32 {
        let [a, b, c, d]: [f32; 4] = from_fn(|i| if self[i] > self[i + 4] { self[i] } else { self[i + 4] });
        let (e, f) = (if a > c { a } else { c }, if b > d { b } else { d });
        if e > f { e } else { f }
    }
}

impl Reduce for [f32; 8] {
    #[inline(always)]
    fn sum(self) -> f32 {
        let [a, b, c, d] = from_fn(|i| self[i] + self[i + 4]);
        (a + c) + (b + d)
    }
}

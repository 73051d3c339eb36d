//! Elementwise sums and scaling, and the gate of feed-forward layers.

use crate::Isa;
use crate::lanes::{Kernel, Lanes, exp, map, run_wide, update};

/// `values += other`. Panics unless the lengths are equal.
pub fn add(isa: Isa, values: &mut [f32], other: &[f32]) {
    run_wide(isa, Add { values, other });
}

/// `values *= factor`.
pub fn scale(isa: Isa, values: &mut [f32], factor: f32) {
    run_wide(isa, Scale { values, factor });
}

/// `values = silu(values) * other` with `silu(x) = x / (1 + e^-x)`, the gate of llama. Panics unless the
/// lengths are equal.
pub fn silu_mul(isa: Isa, values: &mut [f32], other: &[f32]) {
    run_wide(isa, SiluMul { values, other });
}

struct Add<'a> {
    values: &'a mut [f32],
    other: &'a [f32],
}

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        update::<L>(
            self.values,
            self.other,
            #[inline(always)]
            |value, other| value.add(other),
        );
    }
}

struct Scale<'a> {
    values: &'a mut [f32],
    factor: f32,
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let factor = L::splat(self.factor);
        map::<L>(
            self.values,
            #[inline(always)]
            |value| value.mul(factor),
        );
    }
}

struct SiluMul<'a> {
    values: &'a mut [f32],
    other: &'a [f32],
}

impl Kernel for SiluMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        update::<L>(
            self.values,
            self.other,
            #[inline(always)]
            |x, other| {
                let denominator = L::splat(1.0).add(exp(L::splat(0.0).sub(x)));
                x.div(denominator).mul(other)
            },
        );
    }
}

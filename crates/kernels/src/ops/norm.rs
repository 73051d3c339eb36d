//! Normalization of a row.

use super::dot;
use crate::Isa;
use crate::lanes::{Kernel, Lanes, Reduce, ReduceKernel, for_each, map, run, run_wide, update};

/// `out = x / sqrt(mean(x^2) + eps) * weight`. Panics unless the lengths are equal.
pub fn rms_norm(isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    out.copy_from_slice(x);
    let mean = dot(isa, x, x) / x.len() as f32;
    run_wide(isa, ScaleBy { values: out, weight, factor: 1.0 / (mean + eps).sqrt() });
}

/// `out = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`. Panics unless the lengths are equal.
pub fn layer_norm(isa: Isa, x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    out.copy_from_slice(x);
    let mean = run(isa, Sum(x)) / x.len() as f32;
    run_wide(isa, Subtract { values: out, number: mean });
    let variance = dot(isa, out, out) / x.len() as f32;
    run_wide(isa, ScaleBy { values: out, weight, factor: 1.0 / (variance + eps).sqrt() });
    if let Some(bias) = bias {
        super::add(isa, out, bias);
    }
}

struct Sum<'a>(&'a [f32]);

impl ReduceKernel for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Reduce>(self) -> f32 {
        let mut sum = L::splat(0.0);
        for_each::<L>(
            self.0,
            0.0,
            #[inline(always)]
            |x| sum = sum.add(x),
        );
        sum.sum()
    }
}

/// `values -= number`.
struct Subtract<'a> {
    values: &'a mut [f32],
    number: f32,
}

impl Kernel for Subtract<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let number = L::splat(self.number);
        map::<L>(
            self.values,
            #[inline(always)]
            |x| x.sub(number),
        );
    }
}

/// `values = values * factor * weight`.
struct ScaleBy<'a> {
    values: &'a mut [f32],
    weight: &'a [f32],
    factor: f32,
}

impl Kernel for ScaleBy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let factor = L::splat(self.factor);
        update::<L>(
            self.values,
            self.weight,
            #[inline(always)]
            |x, weight| x.mul(factor).mul(weight),
        );
    }
}

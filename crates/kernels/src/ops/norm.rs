//! Normalization of a row.

use crate::Isa;
use crate::lanes::{Kernel, Lanes, for_each, run, update};

/// `out = x / sqrt(mean(x^2) + eps) * weight`. Panics unless the lengths are equal.
pub fn rms_norm(isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    out.copy_from_slice(x);
    let mean = run(isa, SumOfSquares { x, less: 0.0 }) / x.len() as f32;
    run(isa, ScaleBy { values: out, weight, less: 0.0, factor: 1.0 / (mean + eps).sqrt() });
}

/// `out = (x - mean) / sqrt(variance + eps) * weight + bias`. Panics unless the lengths are equal.
pub fn layer_norm(isa: Isa, x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    out.copy_from_slice(x);
    let mean = run(isa, Sum(x)) / x.len() as f32;
    let variance = run(isa, SumOfSquares { x, less: mean }) / x.len() as f32;
    run(isa, ScaleBy { values: out, weight, less: mean, factor: 1.0 / (variance + eps).sqrt() });
    super::add(isa, out, bias);
}

struct Sum<'a>(&'a [f32]);

impl Kernel for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self) -> f32 {
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

/// Sum of `(x - less)^2`.
struct SumOfSquares<'a> {
    x: &'a [f32],
    less: f32,
}

impl Kernel for SumOfSquares<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self) -> f32 {
        let less = L::splat(self.less);
        let mut sum = L::splat(0.0);
        // The padding is `less`, so it adds nothing.
        for_each::<L>(
            self.x,
            self.less,
            #[inline(always)]
            |x| {
                let x = x.sub(less);
                sum = x.fma(x, sum);
            },
        );
        sum.sum()
    }
}

/// `values = (values - less) * factor * weight`.
struct ScaleBy<'a> {
    values: &'a mut [f32],
    weight: &'a [f32],
    less: f32,
    factor: f32,
}

impl Kernel for ScaleBy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (less, factor) = (L::splat(self.less), L::splat(self.factor));
        update::<L>(
            self.values,
            self.weight,
            #[inline(always)]
            |x, weight| x.sub(less).mul(factor).mul(weight),
        );
    }
}

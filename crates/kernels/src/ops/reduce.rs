//! Reductions of a row, mostly of logits.

use crate::Isa;
use crate::lanes::{Kernel, Lanes, Reduce, ReduceKernel, exp, for_each, map, run, run_wide};

/// The largest value; minus infinity for an empty slice.
pub fn max(isa: Isa, values: &[f32]) -> f32 {
    run_wide(isa, Max(values))
}

/// Index of the first of the largest values; 0 for an empty slice or when no value is above minus infinity.
pub fn argmax(isa: Isa, values: &[f32]) -> usize {
    /// Values that are compared without asking after each whether it was found.
    const STRIDE: usize = 64;
    let max = max(isa, values);
    let has_max = |values: &[f32]| values.iter().fold(false, |found, &value| found | (value == max));
    let first = values.chunks(STRIDE).position(has_max).unwrap_or(0) * STRIDE;
    values[first..].iter().position(|&value| value == max).map_or(0, |at| first + at)
}

/// Sum of the products. Panics unless the lengths are equal.
pub fn dot(isa: Isa, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    run(isa, Dot(a, b))
}

/// `ln(sum(e^x))`, safe for large values; minus infinity when nothing is above that.
pub fn log_sum_exp(isa: Isa, values: &[f32]) -> f32 {
    let max = max(isa, values);
    if max == f32::NEG_INFINITY {
        return max;
    }
    max + run(isa, SumExp { values, max }).ln()
}

/// `values = e^((x - max) / divisor)`, with [`log_sum_exp`]'s accuracy; minus infinity and what is not a
/// number give 0.
pub fn exp_scaled(isa: Isa, values: &mut [f32], max: f32, divisor: f32) {
    run_wide(isa, ExpScaled { values, max, divisor });
}

struct ExpScaled<'a> {
    values: &'a mut [f32],
    max: f32,
    divisor: f32,
}

impl Kernel for ExpScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (max, divisor) = (L::splat(self.max), L::splat(self.divisor));
        map::<L>(
            self.values,
            #[inline(always)]
            |x| exp(x.sub(max).div(divisor)),
        );
    }
}

struct Max<'a>(&'a [f32]);

impl Kernel for Max<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Lanes>(self) -> f32 {
        // Four chains, as each step of one waits for the step before.
        let mut chains = [L::splat(f32::NEG_INFINITY); 4];
        let mut fours = self.0.chunks_exact(4 * L::N);
        for four in &mut fours {
            for (chain, values) in chains.iter_mut().zip(four.chunks_exact(L::N)) {
                *chain = L::load(values).max(*chain);
            }
        }
        let [a, b, c, d] = chains;
        let mut max = a.max(b).max(c.max(d));
        for_each::<L>(
            fours.remainder(),
            f32::NEG_INFINITY,
            #[inline(always)]
            |x| max = x.max(max),
        );
        max.max_lane()
    }
}

struct Dot<'a>(&'a [f32], &'a [f32]);

impl ReduceKernel for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Reduce>(self) -> f32 {
        let (a, b) = (self.0.chunks_exact(L::N), self.1.chunks_exact(L::N));
        let rest = (a.remainder(), b.remainder());
        let mut sum = L::splat(0.0);
        for (a, b) in a.zip(b) {
            sum = L::load(a).fma(L::load(b), sum);
        }
        let (a, b) =
            (crate::lanes::load_padded::<L>(rest.0, 0.0), crate::lanes::load_padded::<L>(rest.1, 0.0));
        a.fma(b, sum).sum()
    }
}

/// Sum of `e^(x - max)`.
struct SumExp<'a> {
    values: &'a [f32],
    max: f32,
}

impl ReduceKernel for SumExp<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<L: Reduce>(self) -> f32 {
        let max = L::splat(self.max);
        let mut sum = L::splat(0.0);
        for_each::<L>(
            self.values,
            f32::NEG_INFINITY,
            #[inline(always)]
            |x| sum = sum.add(exp(x.sub(max))),
        );
        sum.sum()
    }
}

//! Joining what queries took in from two splits of a context.
//!
//! The part of a query is its `head_dim` weighted values, the largest score and the sum of the exponentials.

use crate::lanes::{Kernel, Lanes, exp2_to_one};

/// Where the largest score stands, behind the values.
pub(super) const MAX: usize = 0;
/// Where the sum stands, behind the values.
pub(super) const SUM: usize = 1;
/// Numbers of a query behind its values.
pub(super) const PART_EXTRA: usize = 2;

/// Joins the parts of the next split, query by query, to those of the splits before.
pub(super) struct Join<'a> {
    pub(super) joined: &'a mut [f32],
    pub(super) part: &'a [f32],
    pub(super) head_dim: usize,
}

impl Kernel for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let len = self.head_dim + PART_EXTRA;
        for (joined, part) in self.joined.chunks_exact_mut(len).zip(self.part.chunks_exact(len)) {
            let ((acc, joined), (values, part)) =
                (joined.split_at_mut(self.head_dim), part.split_at(self.head_dim));
            let (before, largest) = (joined[MAX], part[MAX]);
            // Nothing was attended there.
            if largest == f32::NEG_INFINITY {
                continue;
            }
            let max = if before > largest { before } else { largest };
            let mut factors = [0.0; 16];
            (factors[0], factors[1]) = (before - max, largest - max);
            exp2_to_one(L::load(&factors)).store(&mut factors);
            joined[MAX] = max;
            joined[SUM] = joined[SUM] * factors[0] + part[SUM] * factors[1];
            let (of_acc, of_values) = (L::splat(factors[0]), L::splat(factors[1]));
            for (acc, values) in acc.chunks_exact_mut(L::N).zip(values.chunks_exact(L::N)) {
                L::load(values).fma(of_values, L::load(acc).mul(of_acc)).store(acc);
            }
        }
    }
}

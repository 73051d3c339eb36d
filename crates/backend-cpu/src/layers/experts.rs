//! The feed-forward part of a layer with experts.
//!
//! ```text
//! for each row x:                                        each row by itself
//!     p = softmax(router x); chosen = the `used` largest of p
//!     delta = sum over chosen of p * down_e(activation(gate_e x) * up_e x)
//! ```
//! The code differs in one way: rows are first sorted by expert, a copy for each that a row has chosen, so that an expert's
//! weights are read once for all its rows. A row's sum is in the order of its choice, so no row depends on
//! others.

use super::Forward;
use super::product::input;
use crate::network::{Dense, ExpertWeights};
use kernels::{Activations, Matrix, Tile, matmul, ops};
use std::ops::Range;

/// The rows of `gathered` and of all that is computed from it that one expert has.
struct Share<'a> {
    expert: &'a Dense,
    rows: Range<usize>,
}

/// Which experts a row goes through, the one that counts most first, and how much each counts.
fn choose(scores: &mut [f32], used: usize, normalized: bool) -> Vec<(usize, f32)> {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - max).exp());
    let sum: f32 = scores.iter().sum();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Of equal ones the first.
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(used);
    let sum = if normalized { order.iter().map(|&expert| scores[expert]).sum() } else { sum };
    order.into_iter().map(|expert| (expert, scores[expert] / sum)).collect()
}

impl Forward<'_> {
    /// From the normed rows to `delta`.
    pub(super) fn experts(&self, weights: &ExpertWeights) {
        let (state, buffers, isa) = (self.state, self.row_buffers(), self.network.isa);
        let rows = state.prepared.rows();
        let choices = self.choices(weights);
        // Where in the sorted order each choice is: `[row][rank]`.
        let used = choices.len() / rows;
        let mut order: Vec<usize> = (0..choices.len()).collect();
        order.sort_by_key(|&choice| (choices[choice].0, choice));
        let mut places = vec![0; choices.len()];
        order.iter().enumerate().for_each(|(place, &choice)| places[choice] = place);
        let same = order.chunk_by(|&a, &b| choices[a].0 == choices[b].0);
        let mut start = 0;
        let shares: Vec<Share<'_>> = same
            .map(|of_one| {
                let rows = start..start + of_one.len();
                start = rows.end;
                Share { expert: &weights.experts[choices[of_one[0]].0], rows }
            })
            .collect();

        let first = &weights.experts[0];
        self.by_rows(order.len(), |range| {
            let normed = buffers.normed.read_rows(0..rows);
            let mut gathered = buffers.gathered.write_rows(range.clone());
            for (index, &choice) in order[range.clone()].iter().enumerate() {
                gathered.row(index).copy_from_slice(normed.row(choice / used));
            }
            if first.up.matrix.dtype().is_quantized()
                || first.gate.as_ref().is_some_and(|gate| gate.matrix.dtype().is_quantized())
            {
                buffers.gathered_codes.quantize(isa, range, gathered.as_mut_slice());
            }
        });
        self.inner_of_experts(&shares, order.len());
        self.by_rows(order.len(), |range| {
            if first.down.matrix.dtype().is_quantized() {
                let inner = state.gate.read_rows(range.clone());
                buffers.gated_codes.quantize(isa, range, inner.as_slice());
            }
        });
        let inner = state.gate.read_rows(0..order.len());
        self.of_experts(
            &shares,
            order.len(),
            |expert| &expert.down.matrix,
            |share, cols| {
                let out = &state.of_experts;
                self.expert_product(
                    &share.expert.down.matrix,
                    &buffers.gated_codes,
                    &inner,
                    out,
                    share,
                    cols,
                );
            },
        );
        drop(inner);
        self.barrier();
        let share = self.worker.part(rows, 1);
        let computed = state.of_experts.read_rows(0..order.len());
        let mut delta = state.delta.write_rows(share.clone());
        for row in share.clone() {
            let out = delta.row(row - share.start);
            out.fill(0.0);
            for choice in row * used..(row + 1) * used {
                let weight = choices[choice].1;
                let values = computed.row(places[choice]);
                out.iter_mut().zip(values).for_each(|(out, value)| *out = weight.mul_add(*value, *out));
            }
        }
        drop((computed, delta));
        self.barrier();
    }

    /// Expert and weight of each choice of each row, `[row][rank]`.
    fn choices(&self, weights: &ExpertWeights) -> Vec<(usize, f32)> {
        let (buffers, isa, rows) = (self.row_buffers(), self.network.isa, self.state.prepared.rows());
        let experts = self.network.hyper.experts.expect("a model with experts");
        self.by_rows(rows, |range| {
            let normed = buffers.normed.read_rows(range.clone());
            let mut routes = buffers.routes.write_rows(range.clone());
            let mut scores = vec![0.0; experts.count];
            for index in 0..range.len() {
                let x = normed.row(index);
                for (score, row) in scores.iter_mut().zip(weights.router.chunks_exact(x.len())) {
                    *score = ops::dot(isa, row, x);
                }
                let chosen = choose(&mut scores, experts.used, experts.normalized);
                for (route, (expert, weight)) in routes.row(index).chunks_exact_mut(2).zip(chosen) {
                    // Small integers are exact.
                    route.copy_from_slice(&[expert as f32, weight]);
                }
            }
        });
        let routes = buffers.routes.read_rows(0..rows);
        routes.as_slice().chunks_exact(2).map(|route| (route[0] as usize, route[1])).collect()
    }

    /// `gate = activation(gate x) * up x` of all gathered rows. Ends with a barrier.
    fn inner_of_experts(&self, shares: &[Share<'_>], rows: usize) {
        let (state, buffers, isa) = (self.state, self.row_buffers(), self.network.isa);
        let activation = self.network.hyper.activation;
        let values = buffers.gathered.read_rows(0..rows);
        let codes = &buffers.gathered_codes;
        self.of_experts(
            shares,
            rows,
            |expert| &expert.up.matrix,
            |share, cols| {
                let Dense { gate, up, .. } = share.expert;
                let up_out = if gate.is_some() { &state.up } else { &state.gate };
                self.expert_product(&up.matrix, codes, &values, up_out, share, cols.clone());
                if let Some(gate) = gate {
                    self.expert_product(&gate.matrix, codes, &values, &state.gate, share, cols.clone());
                }
                let mut inner = state.gate.write(share.rows.clone(), cols.clone());
                if gate.is_some() {
                    let up = state.up.read(share.rows.clone(), cols);
                    (0..share.rows.len())
                        .for_each(|row| ops::gate(isa, activation, inner.row(row), up.row(row)));
                } else {
                    (0..share.rows.len()).for_each(|row| ops::activate(isa, activation, inner.row(row)));
                }
            },
        );
        drop(values);
        self.barrier();
    }

    fn expert_product(
        &self,
        matrix: &Matrix,
        codes: &Activations,
        values: &Tile<'_, f32>,
        out: &crate::state::Buffer,
        share: &Share<'_>,
        cols: Range<usize>,
    ) {
        matmul(matrix, input(matrix, codes, values), &mut out.write(share.rows.clone(), cols));
    }

    /// Shares out the columns of a matrix of all experts that have rows.
    fn of_experts(
        &self,
        shares: &[Share<'_>],
        rows: usize,
        matrix: impl Fn(&Dense) -> &Matrix,
        work: impl Fn(&Share<'_>, Range<usize>),
    ) {
        // All experts of a layer have matrices of one shape; those beside each other may differ in format.
        let unit = |expert: &Dense| {
            let gate = expert.gate.as_ref().map_or(1, |gate| gate.matrix.tile_rows());
            matrix(expert).tile_rows().max(gate)
        };
        let units = |share: &Share<'_>| matrix(share.expert).rows().div_ceil(unit(share.expert));
        self.columns(rows, shares.iter().map(units).sum(), |mut range| {
            for share in shares {
                let (unit, count) = (unit(share.expert), units(share));
                let overlap = range.start.min(count)..range.end.min(count);
                if !overlap.is_empty() {
                    work(share, overlap.start * unit..(overlap.end * unit).min(matrix(share.expert).rows()));
                }
                range = range.start.saturating_sub(count)..range.end.saturating_sub(count);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_chosen_and_the_first_of_equals() {
        let scores = || vec![1.0, 3.0, 2.0, 3.0];
        let all: f32 = scores().iter().map(|score: &f32| (score - 3.0).exp()).sum();
        let chosen = choose(&mut scores(), 2, false);
        assert_eq!(chosen, [(1, 1.0 / all), (3, 1.0 / all)]);
        assert_eq!(choose(&mut scores(), 2, true), [(1, 0.5), (3, 0.5)]);
        assert_eq!(choose(&mut [0.0, 9.0], 1, true), [(1, 1.0)]);
    }
}

//! The feed-forward part of a layer.

use super::Forward;
use super::product::{Product, Source};
use kernels::ops;

/// Numbers of the matrices in [`crate::network::Layer::linears`].
const GATE: usize = 4;
const UP: usize = 5;
const DOWN: usize = 6;

impl Forward<'_> {
    /// From the residual stream to `delta`.
    pub(super) fn feed_forward(&self, layer: usize) {
        let weights = &self.network.layers[layer].feed_forward;
        let (state, buffers) = (self.state, self.row_buffers());
        self.norm(true, &weights.norm, layer, GATE, &[&weights.gate, &weights.up]);
        self.gated(layer);
        self.by_rows(state.prepared.rows(), |rows| {
            self.prepare_inputs(&state.gate, &buffers.gated_codes, rows, layer, DOWN, &[&weights.down]);
        });
        let source = Source { values: &state.gate, codes: &buffers.gated_codes };
        let product = Product { linear: &weights.down, index: DOWN, out: &state.delta };
        self.products(layer, DOWN, source, &[product]);
    }

    /// `gate = silu(gate x) * up x`: a worker computes the same columns of both, so it can join them at once.
    fn gated(&self, layer: usize) {
        let weights = &self.network.layers[layer].feed_forward;
        let (state, buffers) = (self.state, self.row_buffers());
        let source = Source { values: &buffers.normed, codes: &buffers.normed_codes };
        let gate = Product { linear: &weights.gate, index: GATE, out: &state.gate };
        let up = Product { linear: &weights.up, index: UP, out: &state.up };
        let unit = weights.gate.matrix.tile_rows().max(weights.up.matrix.tile_rows());
        let outputs = weights.gate.matrix.rows();
        let values = source.values.read_rows(0..source.values.rows());
        self.columns(state.prepared.rows(), outputs.div_ceil(unit), |range| {
            let cols = range.start * unit..(range.end * unit).min(outputs);
            for product in [&gate, &up] {
                self.product(layer, GATE, source, &values, product, cols.clone());
            }
            let rows = 0..state.prepared.rows();
            let mut gate = state.gate.write(rows.clone(), cols.clone());
            let up = state.up.read(rows.clone(), cols);
            for row in rows {
                ops::silu_mul(self.network.isa, gate.row(row), up.row(row));
            }
        });
        drop(values);
        self.worker.barrier();
    }
}

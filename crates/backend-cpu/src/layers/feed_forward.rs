//! The feed-forward part of a layer.

use super::Forward;
use super::product::{Product, Source, blocks};
use kernels::ops;

/// Numbers of the matrices in [`crate::network::Layer::linears`].
const GATE: usize = 4;
const UP: usize = 5;
const DOWN: usize = 6;

impl Forward<'_> {
    /// From the residual stream to `delta`.
    pub(super) fn feed_forward(&self, layer: usize) {
        let part = &self.network.layers[layer].feed_forward;
        let (state, lane) = (self.state, self.lane());
        self.norm(true, &part.norm, layer, GATE, &[&part.gate, &part.up]);
        self.gated(layer);
        self.by_rows(state.plan.rows(), |rows| {
            self.ready(&state.gate, &lane.gated_codes, rows, layer, DOWN, &[&part.down]);
        });
        let source = Source { values: &state.gate, codes: &lane.gated_codes };
        let product = Product { linear: &part.down, index: DOWN, out: &state.delta };
        self.products(layer, DOWN, source, &[product]);
    }

    /// `gate = silu(gate x) * up x`: a worker computes the same columns of both, so it can join them at once.
    fn gated(&self, layer: usize) {
        let part = &self.network.layers[layer].feed_forward;
        let (state, lane) = (self.state, self.lane());
        let source = Source { values: &lane.normed, codes: &lane.normed_codes };
        let gate = Product { linear: &part.gate, index: GATE, out: &state.gate };
        let up = Product { linear: &part.up, index: UP, out: &state.up };
        let unit = part.gate.matrix.tile_rows().max(part.up.matrix.tile_rows());
        let outputs = part.gate.matrix.rows();
        let values = source.values.read_rows(0..source.values.rows());
        self.columns(state.plan.rows(), outputs.div_ceil(unit), |range| {
            let cols = range.start * unit..(range.end * unit).min(outputs);
            for rows in blocks(state.plan.rows()) {
                for product in [&gate, &up] {
                    self.product(layer, GATE, source, &values, product, rows.clone(), cols.clone());
                }
                let mut gate = state.gate.write(rows.clone(), cols.clone());
                let up = state.up.read(rows.clone(), cols.clone());
                for row in 0..rows.len() {
                    ops::silu_mul(self.network.isa, gate.row(row), up.row(row));
                }
            }
        });
        drop(values);
        self.worker.barrier();
    }
}

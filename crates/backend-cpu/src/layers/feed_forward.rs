//! The feed-forward part of a layer.

use super::Forward;
use super::product::{Product, Source};
use crate::network::{Dense, FeedForwardWeights, Inner};
use crate::profile::Operation;
use kernels::ops;

/// Numbers of the matrices in [`crate::network::LINEARS`].
const GATE: usize = 4;
const UP: usize = 5;
const DOWN: usize = 6;

impl Forward<'_> {
    /// From the residual stream to `delta`.
    pub(super) fn feed_forward(&self, layer: usize) {
        let weights = &self.network.layers[layer].feed_forward;
        match &weights.inner {
            Inner::Dense(dense) => self.dense(layer, weights, dense),
            Inner::Experts(experts) => {
                let before = Some(&self.network.layers[layer].attention.end);
                self.norm(before, weights.norm.as_ref(), layer, GATE, &[]);
                self.watch.begin(Operation::Experts);
                self.experts(experts);
            }
        }
    }

    fn dense(&self, layer: usize, part: &FeedForwardWeights, weights: &Dense) {
        let (state, buffers) = (self.state, self.row_buffers());
        let before = Some(&self.network.layers[layer].attention.end);
        match &weights.gate {
            Some(gate) => {
                self.norm(before, part.norm.as_ref(), layer, GATE, &[gate, &weights.up]);
                let gate = Product { linear: gate, index: GATE, out: &state.gate };
                let up = Product { linear: &weights.up, index: UP, out: &state.up };
                self.inner(layer, GATE, &[gate, up]);
            }
            None => {
                self.norm(before, part.norm.as_ref(), layer, UP, &[&weights.up]);
                self.inner(layer, UP, &[Product { linear: &weights.up, index: UP, out: &state.gate }]);
            }
        }
        self.watch.begin(Operation::Rows);
        self.by_rows(state.prepared.rows(), |rows| {
            self.prepare_inputs(&state.gate, &buffers.gated_codes, rows, layer, DOWN, &[&weights.down]);
        });
        let source = Source { values: &state.gate, codes: &buffers.gated_codes };
        let product = Product { linear: &weights.down, index: DOWN, out: &state.delta };
        self.watch.begin(Operation::FeedForwardOutput);
        self.products(layer, DOWN, source, &[product]);
    }

    /// `gate = activation(gate x) * up x`, or of one product `gate = activation(up x)`: a worker computes the same
    /// columns of both, so it can join them at once.
    fn inner(&self, layer: usize, first: usize, products: &[Product<'_>]) {
        let (state, buffers, isa) = (self.state, self.row_buffers(), self.network.isa);
        let activation = self.network.hyper.activation;
        self.watch.begin(Operation::FeedForwardInner);
        let source = Source { values: &buffers.normed, codes: &buffers.normed_codes };
        let unit = products.iter().map(|p| p.linear.matrix.tile_rows()).max().unwrap_or(1);
        let outputs = products[0].linear.matrix.rows();
        let values = source.values.read_rows(0..source.values.rows());
        self.columns(state.prepared.rows(), outputs.div_ceil(unit), |range| {
            let cols = range.start * unit..(range.end * unit).min(outputs);
            for product in products {
                self.product(layer, first, source, &values, product, cols.clone());
            }
            let rows = 0..state.prepared.rows();
            let mut inner = products[0].out.write(rows.clone(), cols.clone());
            match products.get(1) {
                None => rows.for_each(|row| ops::activate(isa, activation, inner.row(row))),
                Some(up) => {
                    let up = up.out.read(rows.clone(), cols);
                    rows.for_each(|row| ops::gate(isa, activation, inner.row(row), up.row(row)));
                }
            }
        });
        drop(values);
        self.barrier();
    }
}

//! Matrix products of all rows, with bias and adapters, split between the workers by output columns.

use super::Forward;
use crate::network::Linear;
use crate::state::Buffer;
use kernels::{Activations, Input, Matrix, Tile, matmul};
use std::ops::Range;

/// Up to this many rows a product is limited by memory, and each worker takes one contiguous part of the
/// weights.
const ROWS_STREAMED: usize = 16;

/// The most tiles of weights per task when workers take tasks as they can.
const TASK_TILES: usize = 8;

/// What products read: the same rows as f32 and as codes.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) values: &'a Buffer,
    pub(super) codes: &'a Activations,
}

/// One product of a group: matrix number `index` of its layer, and where the result goes.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) linear: &'a Linear,
    pub(super) index: usize,
    pub(super) out: &'a Buffer,
}

impl Forward<'_> {
    /// Computes products that read the same rows. Ends with a barrier.
    pub(super) fn products(&self, layer: usize, first: usize, source: Source<'_>, products: &[Product<'_>]) {
        let unit = products.iter().map(|p| p.linear.matrix.tile_rows()).max().unwrap_or(1);
        let units = |p: &Product<'_>| p.linear.matrix.rows().div_ceil(unit);
        let values = source.values.read_rows(0..source.values.rows());
        self.columns(self.state.prepared.rows(), products.iter().map(units).sum(), |mut range| {
            for product in products {
                let overlap = range.start.min(units(product))..range.end.min(units(product));
                if !overlap.is_empty() {
                    let cols = overlap.start * unit..(overlap.end * unit).min(product.linear.matrix.rows());
                    self.product(layer, first, source, &values, product, cols);
                }
                range = range.start.saturating_sub(units(product))..range.end.saturating_sub(units(product));
            }
        });
        drop(values);
        self.barrier();
    }

    /// Shares out `units` of output columns for a product of `rows` rows; `work` gets ranges of them.
    pub(super) fn columns(&self, rows: usize, units: usize, work: impl Fn(Range<usize>)) {
        if self.worker.size() == 1 || rows <= ROWS_STREAMED {
            work(self.worker.part(units, 1));
        } else {
            // As many tasks for each worker, about equally long: else one waits for the other at the end.
            let tasks = units.div_ceil(TASK_TILES).next_multiple_of(self.worker.size());
            for task in self.worker.tasks(tasks) {
                work(task * units / tasks..(task + 1) * units / tasks);
            }
        }
    }

    /// Computes one rectangle of a product with its bias and adapters.
    pub(super) fn product(
        &self,
        layer: usize,
        first: usize,
        source: Source<'_>,
        values: &Tile<'_, f32>,
        product: &Product<'_>,
        cols: Range<usize>,
    ) {
        let (isa, rows) = (self.network.isa, 0..self.state.prepared.rows());
        let mut out = product.out.write(rows.clone(), cols.clone());
        matmul(&product.linear.matrix, input(&product.linear.matrix, source.codes, values), &mut out);
        if let Some(bias) = &product.linear.bias {
            for row in 0..rows.len() {
                kernels::ops::add(isa, out.row(row), &bias[cols.clone()]);
            }
        }
        if !self.state.prepared.adapted() {
            return;
        }
        let activations = self.row_buffers().lora_activations.read_rows(rows.clone());
        let rank_stride = self.row_buffers().lora_activations.cols() / 3;
        for sequence in &self.state.prepared.sequences {
            let lora = sequence.adapter.and_then(|id| self.state.adapters.get(id, layer, product.index));
            let Some(lora) = lora else { continue };
            let overlap = sequence.rows.start.max(rows.start)..sequence.rows.end.min(rows.end);
            for row in overlap.start..overlap.end.max(overlap.start) {
                let activations = &activations.row(row - rows.start)[(product.index - first) * rank_stride..]
                    [..lora.rank()];
                lora.up(isa, activations, cols.start, out.row(row - rows.start));
            }
        }
    }
}

/// Codes for a quantized matrix, values for a float one.
pub(super) fn input<'a>(matrix: &Matrix, codes: &'a Activations, values: &'a Tile<'a, f32>) -> Input<'a> {
    match matrix.dtype().is_quantized() {
        true => Input::Quantized(codes),
        false => Input::Float(values),
    }
}

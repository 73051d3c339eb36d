//! From the residual stream to the answers, for the rows with output requests.

use super::Forward;
use crate::prepared_batch::OutputRow;
use crate::profile::Operation;
use crate::sample::Distribution;
use crate::state::{Buffer, LOGIT_ROWS};
use backend::{OutputKind, Value};
use kernels::{Input, matmul, ops};
use std::sync::PoisonError;

impl Forward<'_> {
    /// Answers every request, some rows at a time, so that their logits need bounded memory.
    pub(super) fn answer(&self) {
        for chunk in self.state.prepared.output_rows.chunks(LOGIT_ROWS) {
            self.watch.begin(Operation::Rows);
            self.output_norm(chunk);
            let outputs = &self.state.prepared.batch.outputs;
            let hidden_only =
                |row: &OutputRow| outputs[row.requests.clone()].iter().all(|o| o.kind == OutputKind::Hidden);
            if !chunk.iter().all(hidden_only) {
                self.watch.begin(Operation::Head);
                self.logits(chunk.len());
            }
            self.watch.begin(Operation::Answer);
            for index in self.worker.tasks(chunk.len()) {
                self.answer_row(index, &chunk[index]);
            }
            self.barrier();
        }
    }

    /// Gathers the rows at the head of `normed`, after the last sum and norm, and prepares them for the output
    /// matrix.
    fn output_norm(&self, output_rows: &[OutputRow]) {
        let (buffers, state, isa) = (self.row_buffers(), self.state, self.network.isa);
        let output = self.network.output();
        let end = &self.network.layers[self.network.layers.len() - 1].feed_forward.end;
        self.by_rows(output_rows.len(), |indices| {
            let mut normed = buffers.normed.write_rows(indices.clone());
            let rows = 0..state.prepared.rows();
            let (x, delta) = (buffers.x.read_rows(rows.clone()), state.delta.read_rows(rows));
            for (index, output_row) in output_rows[indices.clone()].iter().enumerate() {
                let mut sum = x.row(output_row.row).to_vec();
                self.join(end, &mut sum, delta.row(output_row.row), normed.row(index));
                match &self.network.output_norm {
                    Some(norm) => norm.apply(isa, &sum, normed.row(index)),
                    None => normed.row(index).copy_from_slice(&sum),
                }
            }
            if let Some(projections) = &self.network.projections {
                let mut narrow = buffers.narrow.write_rows(indices.clone());
                for index in 0..indices.len() {
                    self.network.project(&projections.out, normed.row(index), narrow.row(index));
                }
            }
            drop(normed);
            if output.dtype().is_quantized() {
                let mut rest = vec![0.0; output.cols()];
                let values = self.output_inputs().read_rows(indices.clone());
                for index in indices.clone() {
                    let values = values.row(index - indices.start);
                    buffers.output_codes.quantize(isa, 2 * index..2 * index + 1, values);
                    buffers.output_codes.row(2 * index, &mut rest);
                    rest.iter_mut().zip(values).for_each(|(rest, value)| *rest = *value - *rest);
                    buffers.output_codes.quantize(isa, 2 * index + 1..2 * index + 2, &rest);
                }
            }
        });
    }

    /// What the output matrix is multiplied with.
    fn output_inputs(&self) -> &Buffer {
        let buffers = self.row_buffers();
        if self.network.projections.is_some() { &buffers.narrow } else { &buffers.normed }
    }

    /// The logits of the first `rows` rows of `normed`. Ends with a barrier.
    ///
    /// For a quantized matrix each row is two rows of codes, its rounded values and what rounding left, and
    /// their products are added: nothing after the logits can average their errors out. In SmolLM2-135M Q4_1
    /// it takes the divergence from float activations from 0.0045 to 0.0038 nat, for a second row beside
    /// weights that are loaded anyway.
    fn logits(&self, rows: usize) {
        let (buffers, output) = (self.row_buffers(), self.network.output());
        let hyper = &self.network.hyper;
        let values = self.output_inputs().read_rows(0..rows);
        let codes = &buffers.output_codes;
        let (isa, quantized) = (self.network.isa, output.dtype().is_quantized());
        let unit = output.tile_rows();
        self.columns(rows, output.rows().div_ceil(unit), |range| {
            let cols = range.start * unit..(range.end * unit).min(output.rows());
            let mut logits = if quantized {
                let mut logits = self.state.logits.write(0..2 * rows, cols);
                matmul(output, Input::Quantized(codes), &mut logits);
                for row in 0..rows {
                    let (sum, rest) = logits.two_rows(2 * row, 2 * row + 1);
                    ops::add(isa, sum, rest);
                }
                logits
            } else {
                let mut logits = self.state.logits.write(0..rows, cols);
                matmul(output, Input::Float(&values), &mut logits);
                logits
            };
            let step = if quantized { 2 } else { 1 };
            for row in 0..rows {
                let logits = logits.row(row * step);
                if hyper.logit_scale != 1.0 {
                    ops::scale(isa, logits, hyper.logit_scale);
                }
                if let Some(cap) = hyper.logit_cap {
                    ops::soft_cap(isa, logits, cap);
                }
            }
        });
        drop(values);
        self.barrier();
    }

    /// Answers the requests of one row, the `index`-th of those gathered.
    fn answer_row(&self, index: usize, output_row: &OutputRow) {
        let (state, batch) = (self.state, &self.state.prepared.batch);
        let mut scratch = state.scratch[self.worker.index()].lock().unwrap_or_else(PoisonError::into_inner);
        let at = if self.network.output().dtype().is_quantized() { 2 * index } else { index };
        let logits = state.logits.read_rows(at..at + 1);
        let mut distribution = None;
        for request in output_row.requests.clone() {
            let kind = &batch.outputs[request].kind;
            let value = match kind {
                OutputKind::Hidden => {
                    Value::Hidden(self.row_buffers().normed.read_rows(index..index + 1).as_slice().to_vec())
                }
                _ => distribution
                    .get_or_insert_with(|| Distribution::new(self.network.isa, logits.as_slice()))
                    .answer(kind, batch.positions[output_row.row], &mut scratch.sample),
            };
            state.answers.lock().unwrap_or_else(PoisonError::into_inner)[request] = Some(value);
        }
    }
}

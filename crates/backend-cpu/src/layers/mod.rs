//! The forward pass: every worker runs [`Forward::run`] on the same batch, with barriers between the
//! operations.
//!
//! ```text
//! per layer   x += delta, norm, codes │ q k v │ rotate, store │ attend │ codes │ output
//!             x += delta, norm, codes │ gate up, silu │ codes │ down          │ = a barrier
//! ```
//! What of this a layer has, and which function stands where, is said by its weights and the model's
//! hyper-parameters. `experts` has the feed-forward part that is a choice of several.
//! Norms and quantization are split by rows and end at a barrier; up to 3 rows every worker computes all of
//! them into row buffers of its own and needs none. Products are split by output columns, attention by rows
//! and key-value heads, and by splits of long contexts where these are too few (`PreparedBatch::plan_attention`). No split
//! changes any number.

mod answer;
mod attention;
mod experts;
mod feed_forward;
mod product;

use crate::network::{End, Linear, Network, Norm};
use crate::profile::{Operation, Watch};
use crate::state::{Buffer, RowBuffers, State};
use crate::threads::Worker;
use kernels::{Activations, ops};
use std::ops::Range;

/// One worker's view of a forward pass.
pub(crate) struct Forward<'a> {
    pub(crate) network: &'a Network,
    pub(crate) state: &'a State,
    pub(crate) worker: &'a Worker<'a>,
    pub(crate) watch: Watch<'a>,
}

impl<'a> Forward<'a> {
    /// Runs the prepared batch.
    pub(crate) fn run(&self) {
        if self.state.prepared.rows() == 0 {
            return;
        }
        self.watch.begin(Operation::Embed);
        self.embed();
        for index in 0..self.network.layers.len() {
            self.attention(index);
            self.feed_forward(index);
        }
        self.answer();
        self.watch.stop();
    }

    /// Waits until every worker is here.
    fn barrier(&self) {
        let interrupted = self.watch.begin(Operation::Wait);
        self.worker.barrier();
        if let Some(operation) = interrupted {
            self.watch.begin(operation);
        }
    }

    /// The row buffers this worker uses: its own, or the common ones.
    fn row_buffers(&self) -> &'a RowBuffers {
        &self.state.row_buffers[if self.state.is_replicated() { self.worker.index() } else { 0 }]
    }

    /// Does row-wise work on this worker's share of `0..rows`; afterwards the row buffers are complete.
    fn by_rows(&self, rows: usize, work: impl Fn(Range<usize>)) {
        if self.state.is_replicated() {
            work(0..rows);
        } else {
            let share = self.worker.part(rows, 1);
            if !share.is_empty() {
                work(share);
            }
            self.barrier();
        }
    }

    /// Starts the residual stream: embedding rows of tokens, or those given.
    fn embed(&self) {
        let batch = &self.state.prepared.batch;
        let buffers = self.row_buffers();
        self.by_rows(batch.rows(), |rows| {
            let mut x = buffers.x.write_rows(rows.clone());
            let mut scratch = buffers.normed.write_rows(rows.clone());
            let first = rows.start;
            let mut given = batch.embeddings.iter().skip_while(|e| e.row < first).peekable();
            for (index, row) in rows.enumerate() {
                match given.next_if(|e| e.row == row) {
                    Some(embedding) => x.row(index).copy_from_slice(&embedding.values),
                    None => self.network.embed(batch.tokens[row], x.row(index)),
                }
                self.network.enter(batch.positions[row], x.row(index), scratch.row(index));
            }
        });
    }

    /// Norms the residual stream into the row buffers, after adding what the branch before left in `delta` (if
    /// there is one, which says how), and prepares it for `readers`, the matrices of layer `layer` from number
    /// `first`.
    fn norm(
        &self,
        before: Option<&End>,
        norm: Option<&Norm>,
        layer: usize,
        first: usize,
        readers: &[&Linear],
    ) {
        let (buffers, isa) = (self.row_buffers(), self.network.isa);
        self.watch.begin(Operation::Rows);
        self.by_rows(self.state.prepared.rows(), |rows| {
            let mut x = buffers.x.write_rows(rows.clone());
            let mut normed = buffers.normed.write_rows(rows.clone());
            let delta = self.state.delta.read_rows(rows.clone());
            for index in 0..rows.len() {
                if let Some(end) = before {
                    self.join(end, x.row(index), delta.row(index), normed.row(index));
                }
                match norm {
                    Some(norm) => norm.apply(isa, x.row(index), normed.row(index)),
                    None => normed.row(index).copy_from_slice(x.row(index)),
                }
            }
            drop(normed);
            self.prepare_inputs(&buffers.normed, &buffers.normed_codes, rows, layer, first, readers);
        });
    }

    /// Adds a row of `delta` to the residual stream. `scratch` has the length of a row.
    fn join(&self, end: &End, x: &mut [f32], delta: &[f32], scratch: &mut [f32]) {
        let (isa, scale) = (self.network.isa, self.network.hyper.residual_scale);
        if matches!(end, End::Plain) && scale == 1.0 {
            return ops::add(isa, x, delta);
        }
        match end {
            End::NormOfBranch(norm) => norm.apply(isa, delta, scratch),
            End::Plain | End::NormOfSum(_) => scratch.copy_from_slice(delta),
        }
        ops::scale(isa, scratch, scale);
        ops::add(isa, x, scratch);
        if let End::NormOfSum(norm) = end {
            scratch.copy_from_slice(x);
            norm.apply(isa, scratch, x);
        }
    }

    /// Quantizes rows of `values` for the next products and applies the LoRA A matrices.
    fn prepare_inputs(
        &self,
        values: &Buffer,
        codes: &Activations,
        rows: Range<usize>,
        layer: usize,
        first: usize,
        readers: &[&Linear],
    ) {
        let isa = self.network.isa;
        let tile = values.read_rows(rows.clone());
        if readers.iter().any(|linear| linear.matrix.dtype().is_quantized()) {
            codes.quantize(isa, rows.clone(), tile.as_slice());
        }
        if !self.state.prepared.adapted() {
            return;
        }
        let mut activations = self.row_buffers().lora_activations.write_rows(rows.clone());
        let rank_stride = self.row_buffers().lora_activations.cols() / 3;
        for sequence in &self.state.prepared.sequences {
            let Some(id) = sequence.adapter else { continue };
            let overlap = sequence.rows.start.max(rows.start)..sequence.rows.end.min(rows.end);
            for row in overlap.start..overlap.end.max(overlap.start) {
                for reader in 0..readers.len() {
                    if let Some(lora) = self.state.adapters.get(id, layer, first + reader) {
                        let activations =
                            &mut activations.row(row - rows.start)[reader * rank_stride..][..lora.rank()];
                        lora.down(isa, tile.row(row - rows.start), activations);
                    }
                }
            }
        }
    }
}

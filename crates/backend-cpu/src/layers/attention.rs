//! The attention part of a layer.

use super::Forward;
use super::product::{Product, Source};
use crate::network::AttentionWeights;
use crate::state::WorkerScratch;
use half::slice::HalfBitsSliceExt;
use kernels::ops;
use std::sync::PoisonError;

/// Numbers of the matrices in [`crate::network::Layer::linears`].
const Q: usize = 0;
const K: usize = 1;
const V: usize = 2;
const OUTPUT: usize = 3;

impl Forward<'_> {
    /// From the residual stream to `delta`.
    pub(super) fn attention(&self, layer: usize) {
        let weights = &self.network.layers[layer].attention;
        let (state, buffers) = (self.state, self.row_buffers());
        self.norm(layer > 0, &weights.norm, layer, Q, &[&weights.q, &weights.k, &weights.v]);
        let source = Source { values: &buffers.normed, codes: &buffers.normed_codes };
        let products = [
            Product { linear: &weights.q, index: Q, out: &state.q },
            Product { linear: &weights.k, index: K, out: &state.k },
            Product { linear: &weights.v, index: V, out: &state.v },
        ];
        self.products(layer, Q, source, &products);
        self.rotate_and_store(layer, weights);
        self.worker.barrier();
        self.attend(layer);
        self.worker.barrier();
        self.by_rows(state.prepared.rows(), |rows| {
            self.prepare_inputs(
                &state.attended,
                &buffers.attended_codes,
                rows,
                layer,
                OUTPUT,
                &[&weights.output],
            );
        });
        let source = Source { values: &state.attended, codes: &buffers.attended_codes };
        let product = Product { linear: &weights.output, index: OUTPUT, out: &state.delta };
        self.products(layer, OUTPUT, source, &[product]);
    }

    /// Finishes queries and keys, and stores keys and values in the pages. A task is some writes that follow
    /// each other: borrowing their rows one by one takes as long as the work on them.
    fn rotate_and_store(&self, layer: usize, weights: &AttentionWeights) {
        let (state, hyper) = (self.state, &self.network.hyper);
        let (prepared, pairs) = (&state.prepared, hyper.rope_dims / 2);
        let v = state.v.read_rows(0..prepared.rows());
        for task in self.worker.tasks(prepared.write_tasks.len()) {
            let writes = &prepared.writes[prepared.write_tasks[task].clone()];
            let first = writes[0].rows.start;
            let rows = first..writes[writes.len() - 1].rows.end;
            let (mut q, mut k) = (state.q.write_rows(rows.clone()), state.k.write_rows(rows));
            for write in writes {
                let mut page = state.pages.write(write.page, layer);
                for row in write.rows.clone() {
                    let (cos, sin) =
                        (&prepared.cos[row * pairs..][..pairs], &prepared.sin[row * pairs..][..pairs]);
                    self.finish_heads(q.row(row - first), weights.q_norm.as_deref(), cos, sin);
                    self.finish_heads(k.row(row - first), weights.k_norm.as_deref(), cos, sin);
                    let slot = prepared.batch.slots[row] as usize % state.pages.page_tokens();
                    state.pages.store(&mut page, slot, k.row(row - first), v.row(row));
                }
            }
        }
    }

    /// Norms each head if the model does, and rotates it.
    fn finish_heads(&self, heads: &mut [f32], norm: Option<&[f32]>, cos: &[f32], sin: &[f32]) {
        let (hyper, isa) = (&self.network.hyper, self.network.isa);
        if let Some(weight) = norm {
            let mut head = [0.0; 256];
            let head = &mut head[..hyper.head_dim];
            for values in heads.chunks_exact_mut(hyper.head_dim) {
                head.copy_from_slice(values);
                ops::rms_norm(isa, head, weight, hyper.norm_eps, values);
            }
        }
        ops::rope(isa, hyper.rope_pairing, heads, hyper.head_dim, cos, sin);
    }

    /// Attention, page by page. A task is a block of rows in the query heads of one key-value head.
    fn attend(&self, layer: usize) {
        let (state, hyper, isa) = (self.state, &self.network.hyper, self.network.isa);
        let (prepared, head_dim) = (&state.prepared, hyper.head_dim);
        let (q, pages) = (state.q.read_rows(0..prepared.rows()), state.pages.read());
        let mut scratch = state.scratch[self.worker.index()].lock().unwrap_or_else(PoisonError::into_inner);
        let WorkerScratch { attention, masks, .. } = &mut *scratch;
        let (group, scale) = (hyper.heads / hyper.kv_heads, 1.0 / (head_dim as f32).sqrt());
        for task in self.worker.tasks(prepared.blocks.len() * hyper.kv_heads) {
            let (block, kv_head) = (&prepared.blocks[task / hyper.kv_heads], task % hyper.kv_heads);
            let sequence = &prepared.sequences[block.sequence];
            let cols = kv_head * group * head_dim..(kv_head + 1) * group * head_dim;
            let queries = q.part(block.rows.clone(), cols.clone());
            attention.start(block.rows.len(), group, head_dim, state.pages.page_tokens(), scale);
            for (index, page) in prepared.pages[sequence.pages.clone()].iter().enumerate() {
                masks.clear();
                let rows = block.rows.clone().map(|row| row - sequence.rows.start);
                masks.extend(rows.map(|row| prepared.mask(sequence, row, index)));
                let page = pages.row(state.pages.row(*page, layer, kv_head));
                attention.attend_page(isa, &queries, masks, page.reinterpret_cast());
            }
            attention.finish(isa, &mut state.attended.write(block.rows.clone(), cols));
        }
    }
}

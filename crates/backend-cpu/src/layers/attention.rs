//! The attention part of a layer.

use super::Forward;
use super::product::{Product, Source};
use crate::network::Attention;
use crate::state::WorkerScratch;
use half::slice::HalfBitsSliceExt;
use kernels::ops::{self, Pairing};
use model::RopePairing;
use std::sync::PoisonError;

/// Numbers of the matrices in [`crate::network::Layer::linears`].
const Q: usize = 0;
const K: usize = 1;
const V: usize = 2;
const OUTPUT: usize = 3;

impl Forward<'_> {
    /// From the residual stream to `delta`.
    pub(super) fn attention(&self, layer: usize) {
        let part = &self.network.layers[layer].attention;
        let (state, lane) = (self.state, self.lane());
        self.norm(layer > 0, &part.norm, layer, Q, &[&part.q, &part.k, &part.v]);
        let source = Source { values: &lane.normed, codes: &lane.normed_codes };
        let products = [
            Product { linear: &part.q, index: Q, out: &state.q },
            Product { linear: &part.k, index: K, out: &state.k },
            Product { linear: &part.v, index: V, out: &state.v },
        ];
        self.products(layer, Q, source, &products);
        self.rotate_and_store(layer, part);
        self.worker.barrier();
        self.attend(layer);
        self.worker.barrier();
        self.by_rows(state.plan.rows(), |rows| {
            self.ready(&state.attended, &lane.attended_codes, rows, layer, OUTPUT, &[&part.output]);
        });
        let source = Source { values: &state.attended, codes: &lane.attended_codes };
        let product = Product { linear: &part.output, index: OUTPUT, out: &state.delta };
        self.products(layer, OUTPUT, source, &[product]);
    }

    /// Finishes queries and keys, and stores keys and values in the pages. A task is some writes that follow each
    /// other: borrowing their rows one by one takes as long as the work on them.
    fn rotate_and_store(&self, layer: usize, part: &Attention) {
        let (state, hyper) = (self.state, &self.network.hyper);
        let (plan, pairs) = (&state.plan, hyper.rope_dims / 2);
        let v = state.v.read_rows(0..plan.rows());
        for task in self.worker.tasks(plan.write_tasks.len()) {
            let writes = &plan.writes[plan.write_tasks[task].clone()];
            let first = writes[0].rows.start;
            let rows = first..writes[writes.len() - 1].rows.end;
            let (mut q, mut k) = (state.q.write_rows(rows.clone()), state.k.write_rows(rows));
            for write in writes {
                let mut page = state.pages.write(write.page, layer);
                for row in write.rows.clone() {
                    let (cos, sin) = (&plan.cos[row * pairs..][..pairs], &plan.sin[row * pairs..][..pairs]);
                    self.finish_heads(q.row(row - first), part.q_norm.as_deref(), cos, sin);
                    self.finish_heads(k.row(row - first), part.k_norm.as_deref(), cos, sin);
                    let slot = plan.batch.slots[row] as usize % state.pages.page_tokens();
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
        let pairing = match hyper.rope_pairing {
            RopePairing::Interleaved => Pairing::Interleaved,
            RopePairing::Neox => Pairing::Halves,
        };
        ops::rope(isa, pairing, heads, hyper.head_dim, cos, sin);
    }

    /// Attention, page by page. A task is a block of rows in the query heads of one key-value head.
    fn attend(&self, layer: usize) {
        let (state, hyper, isa) = (self.state, &self.network.hyper, self.network.isa);
        let (plan, head_dim) = (&state.plan, hyper.head_dim);
        let (q, pages) = (state.q.read_rows(0..plan.rows()), state.pages.read());
        let mut scratch = state.scratch[self.worker.index()].lock().unwrap_or_else(PoisonError::into_inner);
        let WorkerScratch { attention, masks, .. } = &mut *scratch;
        let (group, scale) = (hyper.heads / hyper.kv_heads, 1.0 / (head_dim as f32).sqrt());
        for task in self.worker.tasks(plan.blocks.len() * hyper.kv_heads) {
            let (block, kv_head) = (&plan.blocks[task / hyper.kv_heads], task % hyper.kv_heads);
            let sequence = &plan.sequences[block.sequence];
            let cols = kv_head * group * head_dim..(kv_head + 1) * group * head_dim;
            let queries = q.part(block.rows.clone(), cols.clone());
            attention.start(block.rows.len(), group, head_dim, state.pages.page_tokens(), scale);
            for (index, page) in plan.pages[sequence.pages.clone()].iter().enumerate() {
                masks.clear();
                let rows = block.rows.clone().map(|row| row - sequence.rows.start);
                masks.extend(rows.map(|row| plan.mask(sequence, row, index)));
                let page = pages.row(state.pages.row(*page, layer, kv_head));
                attention.page(isa, &queries, masks, page.reinterpret_cast());
            }
            attention.finish(isa, &mut state.attended.write(block.rows.clone(), cols));
        }
    }
}

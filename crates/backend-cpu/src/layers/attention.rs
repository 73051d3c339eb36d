//! The attention part of a layer.

use super::Forward;
use super::product::{Product, Source};
use crate::network::Attention;
use crate::plan::Block;
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
        for index in self.worker.tasks(state.plan.writes.len()) {
            self.rotate_and_store(layer, part, index);
        }
        self.worker.barrier();
        let heads = self.network.hyper.kv_heads;
        for task in self.worker.tasks(state.plan.blocks.len() * heads) {
            self.attend(layer, &state.plan.blocks[task / heads], task % heads);
        }
        self.worker.barrier();
        self.by_rows(state.plan.rows(), |rows| {
            self.ready(&state.attended, &lane.attended_codes, rows, layer, OUTPUT, &[&part.output]);
        });
        let source = Source { values: &state.attended, codes: &lane.attended_codes };
        let product = Product { linear: &part.output, index: OUTPUT, out: &state.delta };
        self.products(layer, OUTPUT, source, &[product]);
    }

    /// Finishes queries and keys of some rows, and stores keys and values in their page.
    fn rotate_and_store(&self, layer: usize, part: &Attention, index: usize) {
        let (state, hyper) = (self.state, &self.network.hyper);
        let write = &state.plan.writes[index];
        let mut q = state.q.write_rows(write.rows.clone());
        let mut k = state.k.write_rows(write.rows.clone());
        let v = state.v.read_rows(write.rows.clone());
        let mut page = state.pages.write(write.page, layer);
        let pairs = hyper.rope_dims / 2;
        for (index, row) in write.rows.clone().enumerate() {
            let (cos, sin) =
                (&state.plan.cos[row * pairs..][..pairs], &state.plan.sin[row * pairs..][..pairs]);
            self.finish_heads(q.row(index), part.q_norm.as_deref(), cos, sin);
            self.finish_heads(k.row(index), part.k_norm.as_deref(), cos, sin);
            let slot = state.plan.batch.slots[row] as usize % state.pages.page_tokens();
            state.pages.store(&mut page, slot, k.row(index), v.row(index));
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

    /// Attention of a block of rows in the query heads of one key-value head, page by page.
    fn attend(&self, layer: usize, block: &Block, kv_head: usize) {
        let (state, hyper, isa) = (self.state, &self.network.hyper, self.network.isa);
        let sequence = &state.plan.sequences[block.sequence];
        let group = hyper.heads / hyper.kv_heads;
        let cols = kv_head * group * hyper.head_dim..(kv_head + 1) * group * hyper.head_dim;
        let queries = state.q.read(block.rows.clone(), cols.clone());
        let pages = state.pages.read();
        let mut scratch = state.scratch[self.worker.index()].lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = &mut *scratch;
        let (attention, masks) = (&mut scratch.attention, &mut scratch.masks);
        let scale = 1.0 / (hyper.head_dim as f32).sqrt();
        attention.start(block.rows.len(), group, hyper.head_dim, state.pages.page_tokens(), scale);
        for (index, page) in state.plan.pages[sequence.pages.clone()].iter().enumerate() {
            masks.clear();
            let rows = block.rows.clone().map(|row| row - sequence.rows.start);
            masks.extend(rows.map(|row| state.plan.mask(sequence, row, index)));
            let page = pages.row(state.pages.row(*page, layer, kv_head));
            attention.page(isa, &queries, masks, page.reinterpret_cast());
        }
        attention.finish(isa, &mut state.attended.write(block.rows.clone(), cols));
    }
}

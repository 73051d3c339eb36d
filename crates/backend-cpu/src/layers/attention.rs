//! The attention part of a layer.

use super::Forward;
use super::product::{Product, Source};
use crate::network::{AttentionWeights, Norm, head_width};
use crate::profile::Operation;
use crate::state::WorkerScratch;
use half::slice::HalfBitsSliceExt;
use kernels::attention::{Heads, SPAN_PAGES_MAX, span_pages};
use kernels::{f16, ops};
use std::sync::PoisonError;

/// Numbers of the matrices in [`crate::network::LINEARS`].
const Q: usize = 0;
const K: usize = 1;
const V: usize = 2;
const OUTPUT: usize = 3;

impl Forward<'_> {
    /// From the residual stream to `delta`.
    pub(super) fn attention(&self, layer: usize) {
        let weights = &self.network.layers[layer].attention;
        let (state, buffers) = (self.state, self.row_buffers());
        let before = layer.checked_sub(1).map(|layer| &self.network.layers[layer].feed_forward.end);
        self.norm(before, weights.norm.as_ref(), layer, Q, &[&weights.q, &weights.k, &weights.v]);
        let source = Source { values: &buffers.normed, codes: &buffers.normed_codes };
        let products = [
            Product { linear: &weights.q, index: Q, out: &state.q },
            Product { linear: &weights.k, index: K, out: &state.k },
            Product { linear: &weights.v, index: V, out: &state.v },
        ];
        self.watch.begin(Operation::QueryKeyValue);
        self.products(layer, Q, source, &products);
        self.watch.begin(Operation::Store);
        self.rotate_and_store(layer, weights);
        self.barrier();
        self.watch.begin(Operation::Attend);
        self.attend(layer);
        self.barrier();
        self.watch.begin(Operation::Rows);
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
        self.watch.begin(Operation::AttentionOutput);
        self.products(layer, OUTPUT, source, &[product]);
    }

    /// Finishes queries and keys, and stores keys and values in the pages. A task is some writes that follow
    /// each other: borrowing their rows one by one takes as long as the work on them.
    fn rotate_and_store(&self, layer: usize, weights: &AttentionWeights) {
        let (state, prepared) = (self.state, &self.state.prepared);
        let rope = self.network.layers[layer].kind.rope.map(|rope| &prepared.ropes[rope]);
        let v = state.v.read_rows(0..prepared.rows());
        for task in self.worker.tasks(prepared.write_tasks.len()) {
            let writes = &prepared.writes[prepared.write_tasks[task].clone()];
            let first = writes[0].rows.start;
            let rows = first..writes[writes.len() - 1].rows.end;
            let (mut q, mut k) = (state.q.write_rows(rows.clone()), state.k.write_rows(rows));
            for write in writes {
                let mut page = state.pages.write(write.page, layer);
                for row in write.rows.clone() {
                    let turn = rope.map(|rope| rope.row(row));
                    self.finish_heads(q.row(row - first), weights.q_norm.as_ref(), turn);
                    self.finish_heads(k.row(row - first), weights.k_norm.as_ref(), turn);
                    let slot = prepared.batch.slots[row] as usize % state.pages.page_tokens();
                    state.pages.store(&mut page, slot, k.row(row - first), v.row(row));
                }
            }
        }
    }

    /// Norms the heads of a row if the model does, and rotates them by cosines and sines.
    fn finish_heads(&self, heads: &mut [f32], norm: Option<&Norm>, turn: Option<(&[f32], &[f32])>) {
        let (hyper, isa, width) = (&self.network.hyper, self.network.isa, head_width(&self.network.hyper));
        if let Some(norm) = norm {
            // Of one head, or of all where those are normed together; heads are then not padded.
            let len = norm.weight.len();
            let mut copy = heads.to_vec();
            for (values, copy) in
                heads.chunks_exact_mut(width.max(len)).zip(copy.chunks_exact_mut(width.max(len)))
            {
                norm.apply(isa, &copy[..len], &mut values[..len]);
            }
        }
        if let Some((cos, sin)) = turn {
            ops::rope(isa, hyper.rope_pairing, heads, width, cos, sin);
        }
    }

    /// Attention, span by span of pages. A task is a block of rows in the query heads of one key-value head.
    fn attend(&self, layer: usize) {
        let (state, hyper, isa) = (self.state, &self.network.hyper, self.network.isa);
        let (prepared, head_dim) = (&state.prepared, head_width(hyper));
        let row_masks = prepared.masks(self.network.layers[layer].kind.window);
        let (q, pool) = (state.q.read_rows(0..prepared.rows()), state.pages.read());
        let mut scratch = state.scratch[self.worker.index()].lock().unwrap_or_else(PoisonError::into_inner);
        let WorkerScratch { attention, masks, .. } = &mut *scratch;
        let group = hyper.heads / hyper.kv_heads;
        let shape = Heads { heads: group, head_dim, scale: hyper.attention_scale, cap: hyper.score_cap };
        let page_tokens = state.pages.page_tokens();
        let of_span = span_pages(page_tokens);
        for task in self.worker.tasks(prepared.blocks.len() * hyper.kv_heads) {
            let (block, kv_head) = (&prepared.blocks[task / hyper.kv_heads], task % hyper.kv_heads);
            let sequence = &prepared.sequences[block.sequence];
            let cols = kv_head * group * head_dim..(kv_head + 1) * group * head_dim;
            let queries = q.part(block.rows.clone(), cols.clone());
            attention.start(block.rows.len(), shape, page_tokens);
            let ids = &prepared.pages[sequence.pages.clone()];
            let mut spans = ids.chunks(of_span).map(|span| {
                let mut pages = [&[] as &[f16]; SPAN_PAGES_MAX];
                for (to, id) in pages.iter_mut().zip(span) {
                    *to = pool.row(state.pages.row(*id, layer, kv_head)).reinterpret_cast();
                }
                (pages, span.len())
            });
            let (mut next, mut start) = (spans.next(), 0);
            while let Some((pages, len)) = next {
                next = spans.next();
                masks.clear();
                masks.extend(block.rows.clone().map(|row| {
                    let first = sequence.masks + (row - sequence.rows.start) * ids.len() + start;
                    let of_pages = row_masks[first..][..len].iter().enumerate();
                    of_pages.fold(0, |all, (page, mask)| all | mask << (page * page_tokens))
                }));
                let ahead = next.as_ref().map_or(&[] as &[_], |(pages, len)| &pages[..*len]);
                attention.attend_span(isa, &queries, masks, &pages[..len], ahead);
                start += len;
            }
            attention.finish(isa, &mut state.attended.write(block.rows.clone(), cols));
        }
    }
}

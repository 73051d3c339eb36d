//! The attention part of a layer.

use super::Forward;
use super::product::{Product, Source};
use crate::network::{AttentionWeights, Norm, head_width};
use crate::prepared_batch::{AttentionTask, split_pages};
use crate::profile::Operation;
use crate::state::WorkerScratch;
use backend::PageId;
use kernels::attention::{Heads, SPAN_PAGES_MAX, join_splits, part_len, span_pages};
use kernels::ops;
use std::ops::Range;
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
        let has_parts = state.prepared.part_rows > 0;
        let attended = if has_parts { &buffers.joined } else { &state.attended };
        self.by_rows(state.prepared.rows(), |rows| {
            if has_parts {
                self.join_splits(rows.clone());
            }
            self.prepare_inputs(attended, &buffers.attended_codes, rows, layer, OUTPUT, &[&weights.output]);
        });
        let source = Source { values: attended, codes: &buffers.attended_codes };
        let product = Product { linear: &weights.output, index: OUTPUT, out: &state.delta };
        self.watch.begin(Operation::AttentionOutput);
        self.products(layer, OUTPUT, source, &[product]);
    }

    /// Finishes queries and keys, and stores keys and values in the pages. A task is some writes that follow
    /// each other: borrowing their rows one by one takes as long as the work on them.
    fn rotate_and_store(&self, layer: usize, weights: &AttentionWeights) {
        let (state, prepared) = (self.state, &self.state.prepared);
        let isa = self.network.isa;
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
                    state.pages.store(isa, &mut page, slot, k.row(row - first), v.row(row));
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

    /// Attention, span by span of pages. A task is a block of rows in the query heads of one key-value head, over all of
    /// the context or one split of it.
    fn attend(&self, layer: usize) {
        let (state, hyper, isa) = (self.state, &self.network.hyper, self.network.isa);
        let (prepared, head_dim) = (&state.prepared, head_width(hyper));
        let row_masks = prepared.masks(self.network.layers[layer].kind.window);
        let (q, pool) = (state.q.read_rows(0..prepared.rows()), state.pages.read());
        let mut scratch = state.scratch[self.worker.index()].lock().unwrap_or_else(PoisonError::into_inner);
        let WorkerScratch { attention, masks, .. } = &mut *scratch;
        let group = hyper.heads / hyper.kv_heads;
        let shape = Heads { heads: group, head_dim, scale: hyper.attention_scale, cap: hyper.score_cap };
        let (kv_type, page_tokens) = (state.pages.kv_type(), state.pages.page_tokens());
        let (of_span, of_split) = (span_pages(page_tokens), split_pages(page_tokens));
        let tasks = prepared.attention_tasks.len() * hyper.kv_heads;
        let task_at =
            |number: usize| (&prepared.attention_tasks[number / hyper.kv_heads], number % hyper.kv_heads);
        let ids_of = |task: &AttentionTask| {
            let all = &prepared.pages[prepared.sequences[prepared.blocks[task.block].sequence].pages.clone()];
            &all[task.splits.start * of_split..all.len().min(task.splits.end * of_split)]
        };
        let span = |ids: &[PageId], kv_head: usize| {
            let mut pages = [&[] as &[u16]; SPAN_PAGES_MAX];
            for (to, id) in pages.iter_mut().zip(ids) {
                *to = pool.row(state.pages.row(*id, layer, kv_head));
            }
            (pages, ids.len())
        };
        for number in self.worker.tasks(tasks) {
            let (task, kv_head) = task_at(number);
            let block = &prepared.blocks[task.block];
            let sequence = &prepared.sequences[block.sequence];
            let cols = kv_head * group * head_dim..(kv_head + 1) * group * head_dim;
            let queries = q.part(block.rows.clone(), cols.clone());
            attention.start(isa, kv_type, &queries, shape, page_tokens);
            let mut start = task.splits.start * of_split;
            let mut spans = ids_of(task).chunks(of_span).map(|ids| span(ids, kv_head));
            // Most likely the one that this worker takes next.
            let later = (number + self.worker.size() < tasks).then(|| {
                let (task, kv_head) = task_at(number + self.worker.size());
                let ids = ids_of(task);
                span(&ids[..ids.len().min(of_span)], kv_head)
            });
            let mut next = spans.next();
            while let Some((pages, len)) = next {
                next = spans.next();
                masks.clear();
                masks.extend(block.rows.clone().map(|row| {
                    let first = sequence.masks + (row - sequence.rows.start) * sequence.pages.len() + start;
                    let of_pages = row_masks[first..][..len].iter().enumerate();
                    of_pages.fold(0, |all, (page, mask)| all | mask << (page * page_tokens))
                }));
                let ahead = next.as_ref().or(later.as_ref());
                let ahead = ahead.map_or(&[] as &[_], |(pages, len)| &pages[..*len]);
                attention.attend_span(isa, masks, &pages[..len], ahead);
                start += len;
                if next.is_some() && start.is_multiple_of(of_split) {
                    attention.end_split(isa);
                }
            }
            match block.parts {
                None => attention.finish(isa, &mut state.attended.write(block.rows.clone(), cols)),
                Some(first) => {
                    let first = first + task.splits.start * block.rows.len();
                    let len = part_len(group, head_dim);
                    let cols = kv_head * len..(kv_head + 1) * len;
                    attention.save_split(&mut state.parts.write(first..first + block.rows.len(), cols));
                }
            }
        }
    }

    /// The attended values of rows: the parts of their splits joined, or what is there already.
    fn join_splits(&self, rows: Range<usize>) {
        let (state, prepared) = (self.state, &self.state.prepared);
        let (isa, head_dim) = (self.network.isa, head_width(&self.network.hyper));
        let mut scratch = state.scratch[self.worker.index()].lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = self.row_buffers().joined.write_rows(rows.clone());
        let (attended, parts) =
            (state.attended.read_rows(rows.clone()), state.parts.read_rows(0..prepared.part_rows));
        for block in &prepared.blocks {
            let splits = prepared.sequences[block.sequence]
                .pages
                .len()
                .div_ceil(split_pages(state.pages.page_tokens()));
            for row in block.rows.start.max(rows.start)..block.rows.end.min(rows.end) {
                let to = out.row(row - rows.start);
                match block.parts {
                    None => to.copy_from_slice(attended.row(row - rows.start)),
                    Some(first) => {
                        let of_split =
                            |split| parts.row(first + split * block.rows.len() + row - block.rows.start);
                        join_splits(isa, head_dim, (0..splits).map(of_split), &mut scratch.joined, to);
                    }
                }
            }
        }
    }
}

//! What changes from batch to batch: the prepared batch, the buffers, the pages, the adapters, the answers.

use crate::adapters::Adapters;
use crate::network::{Network, head_width};
use crate::pages::Pages;
use crate::prepared_batch::PreparedBatch;
use crate::sample;
use backend::Value;
use kernels::attention::part_len;
use kernels::{Activations, Attention, Shared};
use std::sync::Mutex;

/// Up to this many rows every worker does the row-wise work (norms, quantization) of all rows for itself, in
/// row buffers of its own: half a microsecond a row is less than a barrier takes.
const REPLICATED_ROWS: usize = 3;

/// Rows whose logits are held at once.
pub(crate) const LOGIT_ROWS: usize = 32;

/// The residual stream and what the next products read, for all rows of the batch.
#[derive(Default)]
pub(crate) struct RowBuffers {
    /// The residual stream.
    pub(crate) x: Buffer,
    /// The stream after a norm, as f32 and as codes.
    pub(crate) normed: Buffer,
    pub(crate) normed_codes: Activations,
    /// The attended values, where rows have parts to join.
    pub(crate) joined: Buffer,
    /// Codes of the attended values, and of the gated values.
    pub(crate) attended_codes: Activations,
    pub(crate) gated_codes: Activations,
    /// For each row its experts, a number and a weight each; and the normed rows sorted by expert.
    pub(crate) routes: Buffer,
    pub(crate) gathered: Buffer,
    pub(crate) gathered_codes: Activations,
    /// Rows with output requests before the output matrix, in the width of embeddings, where that is another.
    pub(crate) narrow: Buffer,
    /// Rows with output requests, before the output matrix: two rows of codes each.
    pub(crate) output_codes: Activations,
    /// `A x` of the adapters: per row, one stretch of the largest rank for each of up to three matrices.
    pub(crate) lora_activations: Buffer,
}

/// A [`Shared`] that starts empty.
pub(crate) struct Buffer(Shared<f32>);

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer(Shared::new(0, 0))
    }
}

impl std::ops::Deref for Buffer {
    type Target = Shared<f32>;

    fn deref(&self) -> &Shared<f32> {
        &self.0
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Shared<f32> {
        &mut self.0
    }
}

/// Memory that one worker reuses.
#[derive(Default)]
pub(crate) struct WorkerScratch {
    pub(crate) attention: Attention,
    /// Parts of a row that are joined.
    pub(crate) joined: Vec<f32>,
    pub(crate) masks: Vec<u64>,
    pub(crate) sample: sample::Scratch,
}

/// See the module docs. Written between batches, read (with its cells) by all workers during one.
pub(crate) struct State {
    pub(crate) prepared: PreparedBatch,
    /// Workers that compute this batch.
    workers: usize,
    /// One per worker; only the first is used when there are many rows.
    pub(crate) row_buffers: Vec<RowBuffers>,
    pub(crate) q: Buffer,
    pub(crate) k: Buffer,
    pub(crate) v: Buffer,
    pub(crate) attended: Buffer,
    /// What splits of long contexts give, see [`AttentionBlock::parts`](crate::prepared_batch::AttentionBlock::parts).
    pub(crate) parts: Buffer,
    /// What the last product of the feed-forward part reads.
    pub(crate) gate: Buffer,
    pub(crate) up: Buffer,
    /// What experts have computed, sorted by expert.
    pub(crate) of_experts: Buffer,
    /// What the last product adds to the residual stream.
    pub(crate) delta: Buffer,
    pub(crate) logits: Buffer,
    pub(crate) pages: Pages,
    pub(crate) adapters: Adapters,
    pub(crate) scratch: Vec<Mutex<WorkerScratch>>,
    /// One per output request.
    pub(crate) answers: Mutex<Vec<Option<Value>>>,
}

impl State {
    pub(crate) fn new(pages: Pages, workers: usize) -> State {
        State {
            prepared: PreparedBatch::default(),
            workers,
            row_buffers: (0..workers).map(|_| RowBuffers::default()).collect(),
            q: Buffer::default(),
            k: Buffer::default(),
            v: Buffer::default(),
            attended: Buffer::default(),
            parts: Buffer::default(),
            gate: Buffer::default(),
            up: Buffer::default(),
            of_experts: Buffer::default(),
            delta: Buffer::default(),
            logits: Buffer::default(),
            pages,
            adapters: Adapters::default(),
            scratch: (0..workers).map(|_| Mutex::default()).collect(),
            answers: Mutex::default(),
        }
    }

    /// Whether each worker keeps a residual stream of its own.
    pub(crate) fn is_replicated(&self) -> bool {
        self.workers == 1 || self.prepared.rows() <= REPLICATED_ROWS
    }

    /// Shapes all buffers for the prepared batch, which `workers` will compute.
    pub(crate) fn reshape(&mut self, network: &Network, workers: usize) {
        self.workers = workers;
        let hyper = &network.hyper;
        self.prepared.plan_attention(workers, hyper.kv_heads, self.pages.page_tokens());
        let (rows, part_rows) = (self.prepared.rows(), self.prepared.part_rows);
        let replicas = if self.is_replicated() { workers } else { 1 };
        let output_rows = self.prepared.output_rows.len().min(LOGIT_ROWS);
        let rank = self.adapters.rank_max();
        // A row has inner values for each of its experts.
        let used = hyper.experts.map_or(0, |experts| experts.used);
        let inner_rows = rows * used.max(1);
        let block = |cols: usize| cols.next_multiple_of(kernels::activations::BLOCK);
        for buffers in &mut self.row_buffers[..replicas] {
            buffers.x.reshape(rows, hyper.hidden);
            buffers.normed.reshape(rows, hyper.hidden);
            buffers.normed_codes.reshape(rows, block(hyper.hidden));
            buffers.joined.reshape(if part_rows > 0 { rows } else { 0 }, network.q_width());
            buffers.attended_codes.reshape(rows, block(network.q_width()));
            buffers.gated_codes.reshape(inner_rows, block(hyper.ffn));
            buffers.routes.reshape(rows, 2 * used);
            buffers.gathered.reshape(rows * used, hyper.hidden);
            buffers.gathered_codes.reshape(rows * used, block(hyper.hidden));
            buffers.output_codes.reshape(2 * output_rows, block(hyper.embedding_width));
            let narrow = if network.projections.is_some() { output_rows } else { 0 };
            buffers.narrow.reshape(narrow, hyper.embedding_width);
            buffers.lora_activations.reshape(rows, 3 * rank);
        }
        self.q.reshape(rows, network.q_width());
        self.k.reshape(rows, network.kv_width());
        self.v.reshape(rows, network.kv_width());
        self.attended.reshape(rows, network.q_width());
        self.parts.reshape(part_rows, part_len(hyper.heads, head_width(hyper)));
        self.gate.reshape(inner_rows, hyper.ffn);
        self.up.reshape(inner_rows, hyper.ffn);
        self.of_experts.reshape(rows * used, hyper.hidden);
        self.delta.reshape(rows, hyper.hidden);
        self.logits.reshape(2 * output_rows, hyper.vocab);
        let answers = self.answers.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        answers.clear();
        answers.resize(self.prepared.batch.outputs.len(), None);
    }
}

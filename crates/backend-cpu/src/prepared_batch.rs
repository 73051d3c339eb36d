//! A batch prepared for the workers: attention masks, rotary tables, and the tasks into which rows are
//! grouped.

use crate::network::Network;
use backend::{AdapterId, BackendError, Batch, Limits, PageId};
use std::ops::Range;

/// Rows whose queries share one pass over the pages: with three heads a group, queries, sums and a page of 16
/// slots by 64 numbers are 32 KiB, one first-level cache.
const ATTENTION_ROWS: usize = 16;

/// Rows whose keys and values a worker stores in one go.
const WRITE_ROWS: usize = 8;

/// Rows of one sequence that write one page.
pub(crate) struct PageWrite {
    pub(crate) page: PageId,
    pub(crate) rows: Range<usize>,
}

/// Rows of one sequence that attend together.
pub(crate) struct AttentionBlock {
    pub(crate) sequence: usize,
    pub(crate) rows: Range<usize>,
}

/// One sequence of the batch.
pub(crate) struct Sequence {
    pub(crate) rows: Range<usize>,
    /// Its pages in [`PreparedBatch::pages`].
    pub(crate) pages: Range<usize>,
    /// Where the masks of its first row begin in [`PreparedBatch::masks`]; each row has one per page.
    masks: usize,
    pub(crate) adapter: Option<AdapterId>,
}

/// A row with output requests, and which of `Batch::outputs` they are.
pub(crate) struct OutputRow {
    pub(crate) row: usize,
    pub(crate) requests: Range<usize>,
}

/// See the module docs. Reused from batch to batch.
#[derive(Default)]
pub(crate) struct PreparedBatch {
    pub(crate) batch: Batch,
    pub(crate) sequences: Vec<Sequence>,
    pub(crate) pages: Vec<PageId>,
    pub(crate) writes: Vec<PageWrite>,
    /// Which of `writes` a worker does together: their rows follow each other.
    pub(crate) write_tasks: Vec<Range<usize>>,
    pub(crate) blocks: Vec<AttentionBlock>,
    pub(crate) output_rows: Vec<OutputRow>,
    /// Cosine and sine of each rotary pair, per row.
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
    masks: Vec<u64>,
}

impl PreparedBatch {
    pub(crate) fn rows(&self) -> usize {
        self.batch.rows()
    }

    /// The mask of a row of a sequence for one of its pages, both counted within the sequence.
    pub(crate) fn mask(&self, sequence: &Sequence, row: usize, page: usize) -> u64 {
        self.masks[sequence.masks + row * sequence.pages.len() + page]
    }

    /// Whether any row has an adapter.
    pub(crate) fn adapted(&self) -> bool {
        self.sequences.iter().any(|sequence| sequence.adapter.is_some())
    }

    /// Multiplications that the batch takes: of matrices, and of attention to all slots of the pages.
    pub(crate) fn multiplications(&self, network: &Network, page_tokens: u32) -> u64 {
        let (layers, output) = network.multiplications();
        let products = self.rows() * layers + self.output_rows.len() * output;
        let attended = |s: &Sequence| s.rows.len() * s.pages.len() * page_tokens as usize;
        let attended: usize = self.sequences.iter().map(attended).sum();
        (products + 2 * attended * network.hyper.q_width() * network.hyper.layers) as u64
    }

    /// Checks a batch against the contract and derives everything else from it.
    pub(crate) fn prepare(
        &mut self,
        batch: &Batch,
        limits: &Limits,
        frequencies: &[f32],
    ) -> Result<(), BackendError> {
        batch.check(limits).map_err(BackendError::InvalidBatch)?;
        self.batch.clone_from(batch);
        self.sequences.clear();
        self.pages.clear();
        self.writes.clear();
        self.blocks.clear();
        self.masks.clear();
        self.pages.extend(batch.pages.iter().map(|page| page.page));
        for (index, span) in batch.sequences.iter().enumerate() {
            let (rows, pages, masks) = (span.rows.clone(), span.pages.clone(), self.masks.len());
            self.sequences.push(Sequence { rows: rows.clone(), pages, masks, adapter: span.adapter });
            self.mask_rows(index, limits.page_tokens);
            self.split_writes(index, limits.page_tokens);
            let starts = rows.clone().step_by(ATTENTION_ROWS);
            self.blocks.extend(starts.map(|start| AttentionBlock {
                sequence: index,
                rows: start..(start + ATTENTION_ROWS).min(rows.end),
            }));
        }
        // The longest work first, so that no worker is left alone with it at the end.
        let sequences = &self.sequences;
        self.blocks.sort_by_key(|block| {
            let sequence = &sequences[block.sequence];
            (std::cmp::Reverse(block.rows.len() * sequence.pages.len()), std::cmp::Reverse(block.rows.start))
        });
        self.group_writes();
        self.group_outputs();
        self.fill_rope_tables(frequencies);
        Ok(())
    }

    /// The masks of all rows of a sequence, from live slots, rows before, and masks given.
    fn mask_rows(&mut self, index: usize, page_tokens: u32) {
        let Sequence { rows, pages, .. } = &self.sequences[index];
        let batch = &self.batch;
        let mut held: Vec<u64> = batch.pages[pages.clone()].iter().map(|page| page.live).collect();
        let mut given = batch.masks.partition_point(|mask| mask.row < rows.start);
        for row in rows.clone() {
            let slot = batch.slots[row];
            held[(slot / page_tokens) as usize] |= 1 << (slot % page_tokens);
            match batch.masks.get(given).filter(|mask| mask.row == row) {
                None => self.masks.extend(&held),
                Some(mask) => {
                    given += 1;
                    self.masks.extend(&mask.attend);
                }
            }
        }
    }

    /// Cuts the rows of a sequence where the page they write changes.
    fn split_writes(&mut self, index: usize, page_tokens: u32) {
        let sequence = &self.sequences[index];
        let slots = &self.batch.slots[sequence.rows.clone()];
        let mut start = sequence.rows.start;
        for same in slots.chunk_by(|a, b| a / page_tokens == b / page_tokens) {
            let page = self.pages[sequence.pages.start + (same[0] / page_tokens) as usize];
            self.writes.push(PageWrite { page, rows: start..start + same.len() });
            start += same.len();
        }
    }

    /// Joins writes to tasks of about [`WRITE_ROWS`] rows.
    fn group_writes(&mut self) {
        self.write_tasks.clear();
        let mut start = 0;
        for end in 1..=self.writes.len() {
            let last =
                self.writes.get(end).is_none_or(|next| next.rows.start != self.writes[end - 1].rows.end);
            let rows = self.writes[end - 1].rows.end - self.writes[start].rows.start;
            if last || rows >= WRITE_ROWS {
                self.write_tasks.push(start..end);
                start = end;
            }
        }
    }

    fn group_outputs(&mut self) {
        self.output_rows.clear();
        let mut start = 0;
        for same in self.batch.outputs.chunk_by(|a, b| a.row == b.row) {
            self.output_rows.push(OutputRow { row: same[0].row, requests: start..start + same.len() });
            start += same.len();
        }
    }

    fn fill_rope_tables(&mut self, frequencies: &[f32]) {
        let pairs = frequencies.len();
        self.cos.resize(self.rows() * pairs, 0.0);
        self.sin.resize(self.rows() * pairs, 0.0);
        let tables = self.cos.chunks_exact_mut(pairs).zip(self.sin.chunks_exact_mut(pairs));
        for (position, (cos, sin)) in self.batch.positions.iter().zip(tables) {
            kernels::ops::rope_tables(*position, frequencies, cos, sin);
        }
    }
}

//! A batch prepared for the workers: attention masks, rotary tables, and the tasks into which rows are
//! grouped.

use crate::network::Network;
use crate::pages::Pages;
use backend::{AdapterId, BackendError, Batch, Limits, PageId};
use kernels::attention::{SPLIT_SPANS, span_pages};
use model::Rope;
use std::cmp::Reverse;
use std::ops::Range;

/// Rows whose queries share one pass over the pages: with three heads a group, the queries, sums and a span of 64
/// slots by 64 numbers are 40 KiB, of which a block of queries reads a third at a time.
const ATTENTION_ROWS: usize = 16;

/// Tasks of attention that a worker should have at least, so that the last of them is not long.
const SHARES: usize = 8;

/// Rows of parts of splits that a batch has at most: they take memory, 16 KiB each where a row has 32 heads of 128 numbers.
const PART_ROWS: usize = 4096;

/// Rows whose keys and values a worker stores in one go.
const WRITE_ROWS: usize = 8;

/// The pages of a split.
pub(crate) fn split_pages(page_tokens: usize) -> usize {
    SPLIT_SPANS * span_pages(page_tokens)
}

/// Rows of one sequence that write one page.
pub(crate) struct PageWrite {
    pub(crate) page: PageId,
    pub(crate) rows: Range<usize>,
}

/// Rows of one sequence that attend together.
pub(crate) struct AttentionBlock {
    pub(crate) sequence: usize,
    pub(crate) rows: Range<usize>,
    /// Where the parts of its splits begin, if they are tasks of their own: the rows of the first split, of the second, …
    pub(crate) parts: Option<usize>,
}

/// Some splits of the context of a block: all of them, or one.
pub(crate) struct AttentionTask {
    pub(crate) block: usize,
    pub(crate) splits: Range<usize>,
}

/// One sequence of the batch.
pub(crate) struct Sequence {
    pub(crate) rows: Range<usize>,
    /// Its pages in [`PreparedBatch::pages`].
    pub(crate) pages: Range<usize>,
    /// Where the masks of its first row begin in [`PreparedBatch::masks`]; each row has one per page.
    pub(crate) masks: usize,
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
    pub(crate) attention_tasks: Vec<AttentionTask>,
    /// Rows of all parts of splits.
    pub(crate) part_rows: usize,
    pub(crate) output_rows: Vec<OutputRow>,
    /// One for each rotation of the model.
    pub(crate) ropes: Vec<RopeTables>,
    masks: Vec<u64>,
    /// The masks of layers with a window, like `masks`, for each window of the model.
    windowed: Vec<(u32, Vec<u64>)>,
}

/// How a model rotates Q and K.
pub(crate) struct Rotation {
    /// Turns per position of each pair, in radians.
    frequencies: Vec<f32>,
    /// What cosines and sines are multiplied with.
    scale: f32,
}

impl Rotation {
    pub(crate) fn new(rope: &Rope) -> Rotation {
        Rotation { frequencies: rope.frequencies(), scale: rope.scale }
    }
}

/// Cosine and sine of each rotary pair, per row.
#[derive(Default)]
pub(crate) struct RopeTables {
    pairs: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTables {
    /// Those of one row.
    pub(crate) fn row(&self, row: usize) -> (&[f32], &[f32]) {
        let range = row * self.pairs..(row + 1) * self.pairs;
        (&self.cos[range.clone()], &self.sin[range])
    }

    fn fill(&mut self, positions: &[u32], rotation: &Rotation) {
        let Rotation { frequencies, scale } = rotation;
        self.pairs = frequencies.len();
        self.cos.resize(positions.len() * self.pairs, 0.0);
        self.sin.resize(positions.len() * self.pairs, 0.0);
        let tables = self.cos.chunks_exact_mut(self.pairs).zip(self.sin.chunks_exact_mut(self.pairs));
        for (position, (cos, sin)) in positions.iter().zip(tables) {
            kernels::ops::rope_tables(*position, frequencies, cos, sin);
            if *scale != 1.0 {
                cos.iter_mut().chain(sin).for_each(|value| *value *= scale);
            }
        }
    }
}

impl PreparedBatch {
    pub(crate) fn rows(&self) -> usize {
        self.batch.rows()
    }

    /// The masks of layers with this window.
    pub(crate) fn masks(&self, window: Option<u32>) -> &[u64] {
        match window {
            None => &self.masks,
            Some(window) => {
                let found = self.windowed.iter().find(|(of, _)| *of == window);
                &found.expect("masks are made for each window of the model").1
            }
        }
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
        (products + 2 * attended * network.q_width() * network.hyper.layers) as u64
    }

    /// Checks a batch against the contract and derives everything else from it. The positions of its rows are
    /// noted in their pages. `ropes` are the rotations of the model.
    pub(crate) fn prepare(
        &mut self,
        batch: &Batch,
        limits: &Limits,
        ropes: &[Rotation],
        windows: &[u32],
        kv: &mut Pages,
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
            self.mask_rows(index, limits.page_tokens, limits.encoder);
            self.split_writes(index, limits.page_tokens);
            let starts = rows.clone().step_by(ATTENTION_ROWS);
            self.blocks.extend(starts.map(|start| AttentionBlock {
                sequence: index,
                rows: start..(start + ATTENTION_ROWS).min(rows.end),
                parts: None,
            }));
        }
        self.group_writes();
        self.group_outputs();
        self.ropes.resize_with(ropes.len(), RopeTables::default);
        for (tables, rotation) in self.ropes.iter_mut().zip(ropes) {
            tables.fill(&batch.positions, rotation);
        }
        self.mask_windows(windows, limits.page_tokens as usize, kv);
        Ok(())
    }

    /// Makes tasks of the blocks, for so many workers and key-value heads. A block whose context is more than its share is
    /// cut into its splits, so that all workers have some of it: that changes no bit.
    pub(crate) fn plan_attention(&mut self, workers: usize, kv_heads: usize, page_tokens: usize) {
        let of_split = split_pages(page_tokens);
        let PreparedBatch { blocks, sequences, attention_tasks, part_rows, .. } = self;
        let work = |block: &AttentionBlock| block.rows.len() * sequences[block.sequence].pages.len();
        let all: usize = blocks.iter().map(|block| work(block) * kv_heads).sum();
        attention_tasks.clear();
        *part_rows = 0;
        for (index, block) in blocks.iter_mut().enumerate() {
            let splits = sequences[block.sequence].pages.len().div_ceil(of_split);
            let rows = splits * block.rows.len();
            let is_more_than_its_share = work(block) * workers * SHARES > all;
            let is_cut =
                workers > 1 && splits > 1 && is_more_than_its_share && *part_rows + rows <= PART_ROWS;
            block.parts = is_cut.then_some(*part_rows);
            if is_cut {
                *part_rows += rows;
                let tasks = (0..splits).map(|split| AttentionTask { block: index, splits: split..split + 1 });
                attention_tasks.extend(tasks);
            } else {
                attention_tasks.push(AttentionTask { block: index, splits: 0..splits });
            }
        }
        // The longest work first, so that no worker is left alone with it at the end.
        attention_tasks.sort_by_key(|AttentionTask { block, splits }| {
            let block = &blocks[*block];
            let pages = sequences[block.sequence].pages.len().min(splits.len() * of_split);
            (Reverse(block.rows.len() * pages), Reverse(block.rows.start), splits.start)
        });
    }

    /// The masks of all rows of a sequence, from live slots, rows before, and masks given; of an encoder's from all rows.
    fn mask_rows(&mut self, index: usize, page_tokens: u32, is_encoder: bool) {
        let Sequence { rows, pages, .. } = &self.sequences[index];
        let batch = &self.batch;
        let mut held: Vec<u64> = batch.pages[pages.clone()].iter().map(|page| page.live).collect();
        if is_encoder {
            for slot in &batch.slots[rows.clone()] {
                held[(slot / page_tokens) as usize] |= 1 << (slot % page_tokens);
            }
        }
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

    /// The masks of all rows for each window: those without one, less what is too far back. A page knows the
    /// positions of its slots.
    fn mask_windows(&mut self, windows: &[u32], page_tokens: usize, kv: &mut Pages) {
        self.windowed.clear();
        if windows.is_empty() {
            return;
        }
        for write in &self.writes {
            let positions = kv.positions(write.page);
            for row in write.rows.clone() {
                positions[self.batch.slots[row] as usize % page_tokens] = self.batch.positions[row];
            }
        }
        for &window in windows {
            let mut masks = self.masks.clone();
            for sequence in &self.sequences {
                let mut rows = masks[sequence.masks..].chunks_exact_mut(sequence.pages.len());
                for row in sequence.rows.clone() {
                    let position = u64::from(self.batch.positions[row]);
                    let pages = &self.pages[sequence.pages.clone()];
                    for (mask, page) in rows.next().into_iter().flatten().zip(pages) {
                        let slots = kv.positions(*page).iter().enumerate();
                        let near = |at: u32| u64::from(at) + u64::from(window) > position;
                        *mask &= slots.fold(0, |bits, (slot, at)| bits | u64::from(near(*at)) << slot);
                    }
                }
            }
            self.windowed.push((window, masks));
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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of one row each, over contexts of so many pages of 16 slots.
    fn planned(workers: usize, pages: &[usize]) -> PreparedBatch {
        let mut prepared = PreparedBatch::default();
        for (index, &pages) in pages.iter().enumerate() {
            let rows = index..index + 1;
            let block = AttentionBlock { sequence: index, rows: rows.clone(), parts: None };
            prepared.sequences.push(Sequence { rows, pages: 0..pages, masks: 0, adapter: None });
            prepared.blocks.push(block);
        }
        prepared.plan_attention(workers, 3, 16);
        prepared
    }

    fn tasks(prepared: &PreparedBatch) -> Vec<(usize, Range<usize>)> {
        prepared.attention_tasks.iter().map(|task| (task.block, task.splits.clone())).collect()
    }

    #[test]
    fn a_context_is_cut_where_it_is_more_than_its_share() {
        assert_eq!(split_pages(16), 16);
        let one = planned(2, &[40]);
        assert_eq!(tasks(&one), [(0, 0..1), (0, 1..2), (0, 2..3)]);
        assert_eq!((one.blocks[0].parts, one.part_rows), (Some(0), 3));
        assert_eq!(tasks(&planned(1, &[40])), [(0, 0..3)], "there is nobody to share with");
        assert_eq!(tasks(&planned(2, &[16])), [(0, 0..1)], "it has one split");
        assert_eq!(planned(2, &[40; 8]).part_rows, 0, "24 tasks are enough for two");
        let many = planned(64, &[16 * PART_ROWS / 4; 6]);
        assert_eq!(
            (many.part_rows, many.attention_tasks.len()),
            (PART_ROWS, PART_ROWS + 2),
            "memory is bounded"
        );
        // Beside short ones; the second of the long ones has its parts behind those of the first.
        let mixed = planned(4, &[1, 33, 1, 32]);
        assert_eq!(
            mixed.blocks.iter().map(|block| block.parts).collect::<Vec<_>>(),
            [None, Some(0), None, Some(3)]
        );
        assert_eq!(mixed.part_rows, 5);
        let expected = [(3, 0..1), (3, 1..2), (1, 0..1), (1, 1..2), (1, 2..3), (2, 0..1), (0, 0..1)];
        assert_eq!(tasks(&mixed), expected);
    }
}

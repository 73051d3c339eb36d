//! A batch: flat arrays with offsets, built once and reused.

use std::ops::Range;

use crate::output::OutputRequest;

/// A page of key/value memory: `0 .. limits.pages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId(pub u32);

/// A loaded low-rank adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterId(pub u32);

/// One page of a sequence and which of its slots held live tokens before the batch (bit `i` = slot `i`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSlots {
    /// The page.
    pub page: PageId,
    /// Slots that take part in attention. Bits from `page_tokens` on are zero.
    pub live: u64,
}

/// One sequence of a batch: consecutive entries of the batch's flat arrays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceSpan {
    /// Its pages in `Batch::pages`, those written in this batch among them.
    pub pages: Range<usize>,
    /// Its rows in `Batch::tokens`, `positions` and `slots`. Never empty.
    pub rows: Range<usize>,
    /// Adapter applied to these rows.
    pub adapter: Option<AdapterId>,
}

/// An embedding given in place of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingRow {
    /// Row of the batch whose token is ignored.
    pub row: usize,
    /// `hidden` values.
    pub values: Vec<f32>,
}

/// What one row attends to, when it is not the default (all live slots and earlier rows).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowMask {
    /// Row of the batch.
    pub row: usize,
    /// One word a page of the sequence: bit `i` = attends to slot `i`. Only live slots, slots of earlier rows of the
    /// same sequence and the row's own slot may be set.
    pub attend: Vec<u64>,
}

/// The work of one call of [`crate::Backend::run`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Sequences; their ranges cover `pages` and `tokens` in order, without gaps.
    pub sequences: Vec<SequenceSpan>,
    /// Pages of all sequences.
    pub pages: Vec<PageSlots>,
    /// Token of each row.
    pub tokens: Vec<u32>,
    /// Rotary position of each row.
    pub positions: Vec<u32>,
    /// Slot that each row writes, counted from the start of its sequence: `page index * page_tokens + slot`.
    /// Strictly increasing within a sequence and not live before.
    pub slots: Vec<u32>,
    /// Embeddings in place of tokens, by increasing row.
    pub embeddings: Vec<EmbeddingRow>,
    /// Rows with a mask of their own, by increasing row.
    pub masks: Vec<RowMask>,
    /// What is wanted back, by non-decreasing row.
    pub outputs: Vec<OutputRequest>,
}

impl Batch {
    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.sequences.clear();
        self.pages.clear();
        self.tokens.clear();
        self.positions.clear();
        self.slots.clear();
        self.embeddings.clear();
        self.masks.clear();
        self.outputs.clear();
    }

    /// Rows in the batch.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Checks every rule stated on the fields against `limits`; a backend calls it at the top of `run`.
    ///
    /// # Errors
    /// The first rule broken, in words.
    pub fn check(&self, limits: &crate::Limits) -> Result<(), String> {
        let rows = self.rows();
        if self.positions.len() != rows || self.slots.len() != rows {
            return Err(format!(
                "{rows} tokens, {} positions, {} slots",
                self.positions.len(),
                self.slots.len()
            ));
        }
        if rows > limits.batch_tokens as usize || self.sequences.len() > limits.batch_sequences as usize {
            return Err(format!("{rows} rows in {} sequences exceed the limits", self.sequences.len()));
        }
        if let Some(token) = self.tokens.iter().find(|t| **t >= limits.vocabulary) {
            return Err(format!("token {token} is outside the vocabulary of {}", limits.vocabulary));
        }
        if let Some(position) = self.positions.iter().find(|p| **p >= limits.context_tokens) {
            return Err(format!("position {position} is outside the context of {}", limits.context_tokens));
        }
        let (mut next_page, mut next_row) = (0, 0);
        for (index, sequence) in self.sequences.iter().enumerate() {
            if sequence.pages.start != next_page
                || sequence.rows.start != next_row
                || sequence.rows.is_empty()
            {
                return Err(format!("sequence {index} is empty or not consecutive"));
            }
            (next_page, next_row) = (sequence.pages.end, sequence.rows.end);
            if next_page > self.pages.len() || next_row > rows {
                return Err(format!("sequence {index} reaches past the arrays"));
            }
            let pages = &self.pages[sequence.pages.clone()];
            if let Some(page) = pages.iter().find(|p| p.page.0 >= limits.pages) {
                return Err(format!("page {} is outside the pool of {}", page.page.0, limits.pages));
            }
            let mut last = None;
            for &slot in &self.slots[sequence.rows.clone()] {
                let (page, bit) = ((slot / limits.page_tokens) as usize, slot % limits.page_tokens);
                let free = pages.get(page).is_some_and(|p| p.live >> bit & 1 == 0);
                if !free || last.is_some_and(|l| l >= slot) {
                    return Err(format!(
                        "sequence {index} writes slot {slot}: outside, live or not increasing"
                    ));
                }
                last = Some(slot);
            }
        }
        if next_page != self.pages.len() || next_row != rows {
            return Err("pages or rows belong to no sequence".into());
        }
        for embedding in &self.embeddings {
            if embedding.row >= rows || embedding.values.len() != limits.hidden as usize {
                return Err(format!(
                    "embedding of row {} has {} values",
                    embedding.row,
                    embedding.values.len()
                ));
            }
        }
        for mask in &self.masks {
            let sequence = self.sequences.iter().find(|s| s.rows.contains(&mask.row));
            if sequence.is_none_or(|s| s.pages.len() != mask.attend.len()) {
                return Err(format!("mask of row {} does not match a sequence", mask.row));
            }
        }
        match self.outputs.iter().find(|o| o.row >= rows) {
            Some(output) => Err(format!("output asked of row {}, the batch has {rows}", output.row)),
            None => Ok(()),
        }
    }
}

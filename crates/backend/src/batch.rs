//! A batch: flat arrays with offsets, built once and reused.

use std::ops::Range;

use crate::Limits;
use crate::output::{OutputRequest, check_tokens};

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
    /// Slots that take part in attention. Bits from `page_tokens` on are zero; all are, where the model is an encoder.
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

/// The attention mask of a row that differs from the default (all live slots and earlier rows). An encoder takes none.
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
    /// Outputs wanted, by non-decreasing row.
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
    pub fn check(&self, limits: &Limits) -> Result<(), String> {
        self.check_rows(limits)?;
        self.check_sequences(limits)?;
        self.check_embeddings(limits)?;
        self.check_masks(limits)?;
        self.check_outputs(limits)
    }

    fn check_rows(&self, limits: &Limits) -> Result<(), String> {
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
        check_tokens(&self.tokens, limits.vocabulary)?;
        match self.positions.iter().find(|p| **p >= limits.context_tokens) {
            Some(position) => {
                Err(format!("position {position} is outside the context of {}", limits.context_tokens))
            }
            None => Ok(()),
        }
    }

    fn check_sequences(&self, limits: &Limits) -> Result<(), String> {
        let (mut next_page, mut next_row) = (0, 0);
        for (index, sequence) in self.sequences.iter().enumerate() {
            if sequence.pages.start != next_page
                || sequence.rows.start != next_row
                || sequence.rows.is_empty()
            {
                return Err(format!("sequence {index} is empty or not consecutive"));
            }
            (next_page, next_row) = (sequence.pages.end, sequence.rows.end);
            if next_page > self.pages.len() || next_row > self.rows() {
                return Err(format!("sequence {index} reaches past the arrays"));
            }
            let pages = &self.pages[sequence.pages.clone()];
            if let Some(page) = pages.iter().find(|p| p.page.0 >= limits.pages) {
                return Err(format!("page {} is outside the pool of {}", page.page.0, limits.pages));
            }
            if let Some(page) = pages.iter().find(|p| p.live & !full_page(limits) != 0) {
                return Err(format!("page {} has live slots beyond its {}", page.page.0, limits.page_tokens));
            }
            if limits.encoder && pages.iter().any(|page| page.live != 0) {
                return Err(format!("sequence {index} has live slots, and the model is an encoder"));
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
        match next_page == self.pages.len() && next_row == self.rows() {
            true => Ok(()),
            false => Err("pages or rows belong to no sequence".into()),
        }
    }

    fn check_embeddings(&self, limits: &Limits) -> Result<(), String> {
        if !self.embeddings.is_sorted_by(|a, b| a.row < b.row) {
            return Err("embeddings are not in the order of their rows, one a row".into());
        }
        let fits = |e: &EmbeddingRow| e.row < self.rows() && e.values.len() == limits.hidden as usize;
        match self.embeddings.iter().find(|embedding| !fits(embedding)) {
            Some(e) => Err(format!(
                "embedding of row {} with {} values: expected {} for a row below {}",
                e.row,
                e.values.len(),
                limits.hidden,
                self.rows()
            )),
            None => Ok(()),
        }
    }

    fn check_masks(&self, limits: &Limits) -> Result<(), String> {
        if !self.masks.is_sorted_by(|a, b| a.row < b.row) {
            return Err("masks are not in the order of their rows, one a row".into());
        }
        if limits.encoder && !self.masks.is_empty() {
            return Err("rows have masks, and the model is an encoder".into());
        }
        let mut sequences = self.sequences.iter();
        let mut sequence = sequences.next();
        // Slots of the sequence that rows up to the mask's own have written.
        let mut written: Vec<u64> = Vec::new();
        let mut next_row = 0;
        for mask in &self.masks {
            while let Some(passed) = sequence.filter(|s| s.rows.end <= mask.row) {
                (sequence, next_row) = (sequences.next(), passed.rows.end);
                written.clear();
            }
            let Some(sequence) = sequence.filter(|s| s.pages.len() == mask.attend.len()) else {
                return Err(format!("mask of row {} does not match a sequence", mask.row));
            };
            written.resize(mask.attend.len(), 0);
            for slot in &self.slots[next_row..=mask.row] {
                written[(slot / limits.page_tokens) as usize] |= 1 << (slot % limits.page_tokens);
            }
            next_row = mask.row + 1;
            let visible = self.pages[sequence.pages.clone()].iter().zip(&written).map(|(p, w)| p.live | w);
            if mask.attend.iter().zip(visible).any(|(attend, visible)| attend & !visible != 0) {
                return Err(format!("mask of row {} attends to slots that hold nothing for it", mask.row));
            }
        }
        Ok(())
    }

    fn check_outputs(&self, limits: &Limits) -> Result<(), String> {
        if !self.outputs.is_sorted_by_key(|output| output.row) {
            return Err("outputs are not in the order of their rows".into());
        }
        if let Some(output) = self.outputs.iter().find(|o| o.row >= self.rows()) {
            return Err(format!("output of row {}: the batch has {} rows", output.row, self.rows()));
        }
        let values: u64 = self.outputs.iter().map(|output| output.kind.values(limits)).sum();
        if self.outputs.len() > limits.batch_outputs as usize || values > limits.batch_output_values {
            return Err(format!("{} outputs of {values} values exceed the limits", self.outputs.len()));
        }
        if let Some(same) =
            self.outputs.chunk_by(|a, b| a.row == b.row).find(|same| same.len() > limits.row_outputs as usize)
        {
            return Err(format!(
                "row {} has {} outputs, the limit is {}",
                same[0].row,
                same.len(),
                limits.row_outputs
            ));
        }
        self.outputs.iter().try_for_each(|output| {
            output.kind.check(limits).map_err(|e| format!("output of row {}: {e}", output.row))
        })
    }
}

/// A bit for each slot of a page.
fn full_page(limits: &Limits) -> u64 {
    u64::MAX >> (64 - limits.page_tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::OutputKind;
    use crate::{Backend, FakeBackend};

    /// Two sequences, three and two rows, on two and one pages of 16 slots.
    fn batch() -> Batch {
        let page = |page, live| PageSlots { page: PageId(page), live };
        let output = |row| OutputRequest { row, kind: OutputKind::Entropy };
        Batch {
            sequences: vec![
                SequenceSpan { pages: 0..2, rows: 0..3, adapter: None },
                SequenceSpan { pages: 2..3, rows: 3..5, adapter: None },
            ],
            pages: vec![page(4, 0xffff), page(1, 0b11), page(2, 0)],
            tokens: vec![1; 5],
            positions: vec![18, 19, 20, 0, 1],
            slots: vec![18, 19, 20, 0, 1],
            embeddings: vec![EmbeddingRow { row: 1, values: vec![0.0; 8] }],
            masks: vec![
                RowMask { row: 1, attend: vec![0xff, 0b1111] },
                RowMask { row: 4, attend: vec![0b11] },
            ],
            outputs: vec![output(2), output(4)],
        }
    }

    /// What the error says, and the change that breaks the rule.
    type Break = (&'static str, fn(&mut Batch));

    #[test]
    fn every_rule_on_the_fields_is_checked() {
        let limits = FakeBackend::new(8, 50).limits();
        assert_eq!(batch().check(&limits), Ok(()));
        let breaks: [Break; 22] = [
            ("exceed the limits", |b| b.outputs = vec![b.outputs[1].clone(); 10_000]),
            ("row 4 has 300 outputs", |b| b.outputs = vec![b.outputs[1].clone(); 300]),
            ("positions", |b| b.positions.truncate(4)),
            ("sequences exceed the limits", |b| b.sequences.extend(vec![b.sequences[1].clone(); 5000])),
            ("outside the vocabulary", |b| b.tokens[0] = 50),
            ("outside the context", |b| b.positions[4] = u32::MAX),
            ("not consecutive", |b| b.sequences[1].rows.start = 4),
            ("past the arrays", |b| b.sequences[1].rows.end = 6),
            ("belong to no sequence", |b| b.sequences.truncate(1)),
            ("outside the pool", |b| b.pages[0].page = PageId(8)),
            ("beyond its 16", |b| b.pages[2].live = 1 << 16),
            ("writes slot 17", |b| b.slots[0] = 17),
            ("not increasing", |b| b.slots[2] = 18),
            ("embeddings are not in the order", |b| b.embeddings.push(b.embeddings[0].clone())),
            ("expected 8", |b| b.embeddings[0].values.truncate(7)),
            ("below 5", |b| b.embeddings[0].row = 5),
            ("masks are not in the order", |b| b.masks.swap(0, 1)),
            ("does not match a sequence", |b| b.masks[0].attend.truncate(1)),
            ("hold nothing for it", |b| b.masks[0].attend[1] = 0b10000),
            ("outputs are not in the order", |b| b.outputs.swap(0, 1)),
            ("the batch has 5 rows", |b| b.outputs[1].row = 5),
            ("output of row 2: top-k of 0", |b| b.outputs[0].kind = OutputKind::TopK(0)),
        ];
        for (expected, change) in breaks {
            let mut broken = batch();
            change(&mut broken);
            let error = broken.check(&limits).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn a_batch_of_an_encoder_has_whole_texts_and_hidden_rows_only() {
        let limits = Limits { encoder: true, ..FakeBackend::new(8, 50).limits() };
        let mut fine = batch();
        fine.masks.clear();
        fine.pages.iter_mut().for_each(|page| page.live = 0);
        fine.outputs.iter_mut().for_each(|output| output.kind = OutputKind::Hidden);
        assert_eq!(fine.check(&limits), Ok(()));
        let breaks: [Break; 3] = [
            ("sequence 0 has live slots", |b| b.pages[1].live = 0b11),
            ("rows have masks", |b| b.masks = batch().masks),
            ("row 2: the model is an encoder", |b| b.outputs[0].kind = OutputKind::Entropy),
        ];
        for (expected, change) in breaks {
            let mut broken = fine.clone();
            change(&mut broken);
            let error = broken.check(&limits).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}

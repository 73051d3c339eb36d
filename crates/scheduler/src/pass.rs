//! A pass in flight: how far it is, and the pages it writes before they become the context's.
//!
//! ```text
//! context entries   [0, first_written_entry)                shared or not, only read
//! pass entries      tail   new   new   …       written; the tail continues the context's last, half-full page
//! ```
//! The tail is the context's own page while nobody else sees it: its free slots are written in place, and until the
//! pass commits they are not live for anybody. Once somebody else sees it, the pass writes to a copy instead. So giving
//! a pass up at any moment means dropping its entries.

use std::time::Duration;

use backend::{Limits, OutputKind, PageSlots, Value};

use crate::context::{self, Context, Entry};
use crate::memory::low_bits;
use crate::pages::{LogicalId, Pages, Provenance};
use crate::prefix::{Key, NodeId, Parent};
use crate::request::{ForwardRequest, RowRuns};

#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) request: ForwardRequest,
    /// Position of row 0 when the request gives none.
    pub(crate) first_position: u32,
    /// Outputs by row: row, index in the reply, and kind, which moves into the batch.
    pub(crate) outputs: Vec<(usize, usize, Option<OutputKind>)>,
    /// Outputs that batches had so far.
    pub(crate) outputs_sent: usize,
    pub(crate) values: Vec<Option<Value>>,
    /// Order of arrival.
    pub(crate) arrival: u64,
    /// When it was submitted, or last made progress.
    pub(crate) last_progress_at: Duration,
    /// Since when it waited when it was found to have waited longest of its tenant. It stays so until it is answered: not
    /// for each part of a batch anew, which is small while other tenants are at work.
    pub(crate) overdue_since: Option<Duration>,
    /// Rows done, computed or cached.
    pub(crate) done: u32,
    pub(crate) cached: u32,
    /// Time that the backend computed its batches so far.
    pub(crate) compute: Duration,
    /// This pass's share of that time, by rows.
    pub(crate) compute_share: Duration,
    /// Entries of the context that are only read.
    pub(crate) first_written_entry: usize,
    /// Pages that the pass writes or took from the prefix cache.
    pub(crate) entries: Vec<Entry>,
    /// Whether `entries[0]` is the context's own page, held by the context alone.
    pub(crate) tail_in_place: bool,
    /// Slots used in the last of `entries`; a whole page when the next row starts a new one.
    pub(crate) last_page_len: u32,
    /// The path in the prefix cache up to the page that the next row belongs to.
    pub(crate) prefix_node: Option<Parent>,
    /// It could not get pages when it was looked at last.
    pub(crate) blocked: bool,
}

impl Pass {
    pub(crate) fn new(
        mut request: ForwardRequest,
        context: &Context,
        page_tokens: u32,
        arrival: u64,
        now: Duration,
    ) -> Pass {
        let kinds = std::mem::take(&mut request.outputs);
        let values = kinds.iter().map(|_| None).collect();
        let mut outputs: Vec<_> =
            kinds.into_iter().enumerate().map(|(index, (row, kind))| (row, index, Some(kind))).collect();
        outputs.sort_by_key(|(row, index, _)| (*row, *index));
        let tail = context::tail(&context.entries).filter(|slots| *slots < page_tokens);
        let first_written_entry = context.entries.len() - usize::from(tail.is_some());
        Pass {
            first_position: context.next_position,
            outputs,
            outputs_sent: 0,
            values,
            arrival,
            last_progress_at: now,
            overdue_since: None,
            done: 0,
            cached: 0,
            compute: Duration::ZERO,
            compute_share: Duration::ZERO,
            first_written_entry,
            entries: context.entries[first_written_entry..].to_vec(),
            tail_in_place: tail.is_some(),
            last_page_len: tail.unwrap_or(page_tokens),
            prefix_node: context.prefix_node,
            blocked: false,
            request,
        }
    }

    pub(crate) fn rows(&self) -> u32 {
        self.request.tokens.len() as u32
    }

    pub(crate) fn left(&self) -> u32 {
        self.rows() - self.done
    }

    pub(crate) fn position(&self, row: u32) -> u32 {
        match &self.request.positions {
            Some(positions) => positions[row as usize],
            None => self.first_position + row,
        }
    }

    pub(crate) fn next_position(&self) -> u32 {
        match &self.request.positions {
            Some(positions) => positions.iter().map(|last| last + 1).fold(self.first_position, u32::max),
            None => self.first_position + self.rows(),
        }
    }

    /// Since when it has waited for longer than `patience`.
    pub(crate) fn impatient_since(&self, patience: Duration, now: Duration) -> Option<Duration> {
        let waited = now.saturating_sub(self.last_progress_at);
        self.overdue_since.or((waited >= patience).then_some(self.last_progress_at))
    }

    /// Whether the prefix cache may hold the row: a token under default attention.
    pub(crate) fn is_cacheable(&self, row: u32) -> bool {
        self.request.masks.is_none()
            && self.request.embeddings.binary_search_by_key(&(row as usize), |(r, _)| *r).is_err()
    }

    /// Entries that the pass itself holds: all but the tail in place.
    pub(crate) fn owned(&self) -> &[Entry] {
        &self.entries[usize::from(self.tail_in_place)..]
    }

    /// Whether the next row goes to the context's own last page.
    pub(crate) fn writes_tail(&self, page_tokens: u32) -> bool {
        self.tail_in_place && self.entries.len() == 1 && self.last_page_len < page_tokens
    }

    /// New pages that the next `rows` rows need.
    pub(crate) fn pages_for(&self, rows: u32, page_tokens: u32) -> u32 {
        rows.saturating_sub(page_tokens - self.last_page_len).div_ceil(page_tokens)
    }

    /// How many of the next `rows` rows a batch can take that has room for so many outputs and values.
    pub(crate) fn rows_with_outputs(&self, rows: u32, limits: &Limits, outputs: u32, values: u64) -> u32 {
        let (mut outputs, mut values) = (outputs, values);
        for (row, _, kind) in &self.outputs[self.outputs_sent..] {
            let ahead = *row as u32 - self.done;
            if ahead >= rows {
                break;
            }
            let size = kind.as_ref().map_or(0, |kind| kind.values(limits));
            if outputs == 0 || size > values {
                return ahead;
            }
            (outputs, values) = (outputs - 1, values - size);
        }
        rows
    }

    /// Slot that the next row writes, counted from the start of the sequence. Its page may be yet to come.
    pub(crate) fn next_slot(&self, page_tokens: u32) -> u32 {
        let entries = (self.first_written_entry + self.entries.len()) as u32;
        // Pages taken for rows to come are empty, and only the first of them starts with the next row.
        let empty = self.entries.iter().rev().take_while(|entry| entry.live == 0).count() as u32;
        (entries - empty) * page_tokens - (page_tokens - self.last_page_len)
    }

    /// The attention mask of a row: a word a page. Live tokens and then rows of the pass come in the order of
    /// their slots, since rows are written after all live tokens.
    pub(crate) fn attend(
        &self,
        runs: &RowRuns,
        pages: &[PageSlots],
        start: u32,
        own_slot: u32,
        page_tokens: u32,
    ) -> Vec<u64> {
        let word = |(index, page): (usize, &PageSlots)| {
            let first = index as u32 * page_tokens;
            let rows = low_bits((own_slot + 1).saturating_sub(first).min(page_tokens))
                & !low_bits(start.saturating_sub(first).min(page_tokens));
            page.live | rows
        };
        let visible: Vec<u64> = pages.iter().enumerate().map(word).collect();
        let tokens = visible.iter().map(|word| word.count_ones() as usize).sum();
        let mut attended = runs.attended(tokens);
        let choose = |mut word: u64| {
            let mut chosen = 0;
            while word != 0 {
                let lowest = word & word.wrapping_neg();
                word ^= lowest;
                if attended.next() == Some(true) {
                    chosen |= lowest;
                }
            }
            chosen
        };
        visible.into_iter().map(choose).collect()
    }

    /// Rows until the page that the next row goes to is full.
    pub(crate) fn rows_of_page(&self, page_tokens: u32) -> u32 {
        if self.last_page_len == page_tokens { page_tokens } else { page_tokens - self.last_page_len }
    }

    /// How many of the next `most` rows the prefix cache may give: none of them is asked for an output or is the last one,
    /// and all are plain, at consecutive positions.
    fn rows_to_find(&self, most: u32) -> u32 {
        let last = self.rows() - 1;
        let asked = self.outputs.get(self.outputs_sent).map_or(last, |(row, ..)| last.min(*row as u32));
        let position = self.position(self.done);
        let plain =
            |row: &u32| self.is_cacheable(*row) && self.position(*row) == position + (row - self.done);
        (self.done..asked.min(self.done + most)).take_while(plain).count() as u32
    }

    fn next_tokens(&self, rows: u32) -> &[u32] {
        &self.request.tokens[self.done as usize..][..rows as usize]
    }

    /// The key of the page that the next row goes to, if the prefix cache may give all of its rows. What the page begins
    /// with, where the context's last one is half full, must be the same.
    pub(crate) fn next_page_key(&self, page_tokens: u32, pages: &Pages) -> Option<Key> {
        let parent = self.prefix_node?;
        let adapter = self.request.adapter;
        let rows = self.rows_of_page(page_tokens);
        if self.rows_to_find(rows) < rows {
            return None;
        }
        let begun = if self.last_page_len == page_tokens {
            &[][..]
        } else if self.writes_tail(page_tokens) {
            let (entry, page) = (self.entries[0], pages.get(self.entries[0].page));
            let from_path = page.provenance == Some(Provenance { parent, adapter });
            let begun = &page.positions[..self.last_page_len as usize];
            let consecutive = begun.windows(2).all(|pair| pair[0] + 1 == pair[1]);
            let follows = begun.last().is_some_and(|last| last + 1 == self.position(self.done));
            if !(from_path && entry.live == low_bits(self.last_page_len) && consecutive && follows) {
                return None;
            }
            &page.tokens[..self.last_page_len as usize]
        } else {
            return None;
        };
        Some(Key {
            parent,
            adapter,
            position: self.position(self.done) - begun.len() as u32,
            tokens: [begun, self.next_tokens(rows)].concat().into_boxed_slice(),
        })
    }

    /// Of the page that the next row begins, the rows that the prefix cache may give, as the beginning of a key.
    pub(crate) fn next_part_key(&self, page_tokens: u32) -> Option<Key> {
        let parent = self.prefix_node.filter(|_| self.last_page_len == page_tokens)?;
        let rows = self.rows_to_find(page_tokens);
        (rows > 0).then(|| Key {
            parent,
            adapter: self.request.adapter,
            position: self.position(self.done),
            tokens: self.next_tokens(rows).into(),
        })
    }

    /// Takes a full page of the prefix cache for the next rows: behind those it has, or for the context's last one,
    /// which stays the context's until the pass commits.
    pub(crate) fn take_cached(&mut self, page: Entry, node: NodeId, page_tokens: u32) {
        let rows = self.rows_of_page(page_tokens);
        if self.writes_tail(page_tokens) {
            self.entries[0] = page;
            self.tail_in_place = false;
        } else {
            self.entries.push(page);
        }
        self.last_page_len = page_tokens;
        self.prefix_node = Some(Parent::Node(node));
        self.done += rows;
        self.cached += rows;
    }

    /// Takes a page of its own whose first slots hold the next rows already.
    pub(crate) fn take_part(&mut self, page: LogicalId, rows: u32) {
        self.entries.push(Entry { page, live: low_bits(rows) });
        self.last_page_len = rows;
        self.done += rows;
        self.cached += rows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{CacheSalt, ContextId, OwnerId, Priority, TenantId, Ticket};
    use backend::PageId;

    fn pass(lives: &[u64], rows: u32) -> Pass {
        let entries: Vec<Entry> =
            (0..).zip(lives).map(|(id, live)| Entry { page: LogicalId(id), live: *live }).collect();
        let context = Context {
            owner: OwnerId(1),
            tenant: TenantId(1),
            salt: CacheSalt(0),
            priority: Priority::Normal,
            sequence: 1,
            parent: None,
            length: context::length(&entries),
            entries,
            next_position: 20,
            prefix_node: Some(Parent::Root(TenantId(1), CacheSalt(0))),
            pass: None,
            answered: None,
        };
        let request = ForwardRequest::new(Ticket(1), ContextId(1), (0..rows).collect());
        Pass::new(request, &context, 8, 1, Duration::ZERO)
    }

    #[test]
    fn rows_go_after_the_last_live_slot() {
        let half = pass(&[0xff, 0b101], 20);
        assert_eq!(
            (half.first_written_entry, half.last_page_len, half.next_slot(8), half.tail_in_place),
            (1, 3, 11, true)
        );
        assert_eq!([5, 6, 13, 14].map(|rows| half.pages_for(rows, 8)), [0, 1, 1, 2]);
        let full = pass(&[0xff, 0x80], 20);
        assert_eq!(
            (full.first_written_entry, full.last_page_len, full.next_slot(8), full.tail_in_place),
            (2, 8, 16, false)
        );
        assert_eq!([1, 8, 9].map(|rows| full.pages_for(rows, 8)), [1, 1, 2]);
    }

    #[test]
    fn only_whole_plain_pages_before_the_last_row_have_a_key() {
        let none = Pages::new(8, 8, 4);
        let key = |pass: &Pass| pass.next_page_key(8, &none);
        assert!(key(&pass(&[0xff], 9)).is_some());
        assert!(key(&pass(&[0xff], 8)).is_none(), "the last row is always computed");
        let mut asked = pass(&[], 20);
        asked.outputs = vec![(7, 0, Some(OutputKind::Entropy))];
        assert!(key(&asked).is_none());
        asked.outputs[0].0 = 8;
        assert_eq!(key(&asked).map(|key| key.position), Some(20));
        let mut given = pass(&[], 20);
        given.request.embeddings = vec![(3, [].into())];
        assert!(key(&given).is_none());
    }

    #[test]
    fn a_page_that_the_context_began_has_a_key_where_it_is_of_the_same_path() {
        let mut pages = Pages::new(8, 8, 4);
        let ids = [pages.create(), pages.create()];
        assert_eq!(ids, [LogicalId(0), LogicalId(1)], "as the entries of `pass` name them");
        let page = pages.get_mut(ids[1]);
        page.tokens[..3].copy_from_slice(&[7, 8, 9]);
        (17..).zip(&mut page.positions[..3]).for_each(|(position, slot)| *slot = position);
        let root = Parent::Root(TenantId(1), CacheSalt(0));
        page.provenance = Some(Provenance { parent: root, adapter: None });

        let half = pass(&[0xff, 0b111], 6);
        let key = half.next_page_key(8, &pages).expect("five rows fill the page, and one is left");
        assert_eq!((key.position, &key.tokens[..]), (17, &[7, 8, 9, 0, 1, 2, 3, 4][..]));
        assert_eq!(pass(&[0xff, 0b111], 5).next_page_key(8, &pages), None, "the last row is always computed");
        assert_eq!(pass(&[0xff, 0b110], 6).next_page_key(8, &pages), None, "a slot is not the context's");
        let mut other = pass(&[0xff, 0b111], 6);
        other.request.adapter = Some(backend::AdapterId(1));
        assert_eq!(other.next_page_key(8, &pages), None, "what is there was computed without the adapter");
        let mut moved = pass(&[0xff, 0b111], 6);
        moved.first_position = 21;
        assert_eq!(moved.next_page_key(8, &pages), None, "the positions have a gap");
        pages.get_mut(ids[1]).provenance = None;
        assert_eq!(half.next_page_key(8, &pages), None, "it was computed from something else");

        let mut half = half;
        let (node, live) = (crate::prefix::Prefix::default().insert(key, LogicalId(5), 8), 0xff);
        half.take_cached(Entry { page: LogicalId(5), live }, node, 8);
        assert_eq!((half.done, half.cached, half.tail_in_place, half.last_page_len), (5, 5, false, 8));
        assert_eq!(half.owned(), [Entry { page: LogicalId(5), live }]);
    }

    #[test]
    fn a_mask_counts_live_tokens_then_rows() {
        let pass = pass(&[0b1011, 0b1], 3);
        let pages = [0b1011, 0b1].map(|live| PageSlots { page: PageId(0), live });
        // Live: 3 + 1; rows at slots 9, 10, 11. The row at slot 11 sees 4 live tokens and 3 rows, itself included.
        let attend = |runs: &[u32]| pass.attend(&RowRuns(runs.to_vec()), &pages, 9, 11, 8);
        assert_eq!(attend(&[0]), [0b1011, 0b1111]);
        assert_eq!(attend(&[2, 3, 1]), [0b1000, 0b1011]);
        assert_eq!(attend(&[]), [0b1011, 0b1111]);
        assert_eq!(attend(&[u32::MAX]), [0, 0b1000]);
    }
}

//! What was appended to a context, with the tokens that were removed since.
//!
//! ```text
//! all      t0 t1 t2 t3 t4 t5      all that was appended and not taken back
//! kept     t0 t1       t4 t5      the tokens of the context
//! places    0  1        4  5      where each of them is in `all`
//! ```
//! A conversation is formatted as a whole each turn: it is compared with `all`, or what was removed would come back.

use std::ops::Range;

#[derive(Clone)]
pub(super) struct History {
    all: Vec<u32>,
    places: Vec<usize>,
}

impl History {
    pub(super) fn new(tokens: &[u32]) -> History {
        History { all: tokens.to_vec(), places: (0..tokens.len()).collect() }
    }

    pub(super) fn all(&self) -> &[u32] {
        &self.all
    }

    pub(super) fn append(&mut self, tokens: &[u32]) {
        self.places.extend(self.all.len()..self.all.len() + tokens.len());
        self.all.extend_from_slice(tokens);
    }

    /// Keeps the first `length` of the kept tokens.
    pub(super) fn truncate(&mut self, length: usize) {
        if let Some(place) = self.places.get(length) {
            self.all.truncate(*place);
            self.places.truncate(length);
        }
    }

    /// Kept tokens among the first `length` of all.
    pub(super) fn kept_before(&self, length: usize) -> usize {
        self.places.partition_point(|place| *place < length)
    }

    /// Keeps the first `length` of all; no kept token is behind them.
    pub(super) fn truncate_all(&mut self, length: usize) {
        self.all.truncate(length);
    }

    /// Tokens of this range are no longer kept.
    pub(super) fn remove(&mut self, range: Range<usize>) {
        self.places.drain(range);
    }

    /// Tokens of this range are no longer known; what was removed between them goes as well.
    pub(super) fn discard(&mut self, range: Range<usize>) {
        let end = self.places.get(range.end).copied().unwrap_or(self.all.len());
        let Some(start) = self.places.get(range.start).copied().filter(|start| *start < end) else { return };
        self.all.drain(start..end);
        self.places.drain(range.clone());
        self.places[range.start..].iter_mut().for_each(|place| *place -= end - start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_stays_known_and_what_was_discarded_does_not() {
        let mut history = History::new(&[10, 11, 12, 13]);
        history.append(&[14, 15, 16]);
        history.remove(2..4);
        assert_eq!(
            (history.all(), history.places.as_slice()),
            (&[10, 11, 12, 13, 14, 15, 16][..], &[0, 1, 4, 5, 6][..])
        );
        history.discard(3..4);
        assert_eq!(
            (history.all(), history.places.as_slice()),
            (&[10, 11, 12, 13, 14, 16][..], &[0, 1, 4, 5][..])
        );
        assert_eq!((history.kept_before(3), history.kept_before(5)), (2, 3));
        history.truncate(2);
        assert_eq!(
            (history.all().len(), history.places.len()),
            (4, 2),
            "what was removed before the cut stays"
        );
        history.truncate_all(3);
        history.append(&[20]);
        assert_eq!((history.all(), history.places.as_slice()), (&[10, 11, 12, 20][..], &[0, 1, 3][..]));
    }
}

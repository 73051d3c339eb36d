//! A context: an ordered list of pages, each with the slots that are live in this context.
//!
//! Everything but a forward pass edits only the list: truncating, removing and slicing clear bits, an entry without
//! bits goes, and the page with it if nobody else holds it.

use std::ops::Range;
use std::time::Duration;

use crate::pages::LogicalId;
use crate::prefix::Parent;
use crate::request::{CacheSalt, ContextId, OwnerId, Priority, TenantId, Ticket};

/// A page of a context. `live` is never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) page: LogicalId,
    /// Bit `i`: slot `i` holds a token of this context.
    pub(crate) live: u64,
}

#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) owner: OwnerId,
    pub(crate) tenant: TenantId,
    /// Which of the tenant's prefixes it shares.
    pub(crate) salt: CacheSalt,
    pub(crate) priority: Priority,
    /// Age: older contexts have lower numbers.
    pub(crate) sequence: u64,
    pub(crate) entries: Vec<Entry>,
    /// That which it was forked or sliced from, whether that still exists or not.
    pub(crate) parent: Option<ContextId>,
    /// Live tokens: the bits of all entries.
    pub(crate) length: u32,
    pub(crate) next_position: u32,
    /// See [`crate::memory::Memory::prefix_node`].
    pub(crate) prefix_node: Option<Parent>,
    /// The pass in flight.
    pub(crate) pass: Option<Ticket>,
    /// When its last pass was answered.
    pub(crate) answered: Option<Duration>,
}

/// Splits entries into those with the live tokens of `range` and those without; entries without any are left out.
pub(crate) fn split(entries: &[Entry], range: &Range<u32>) -> (Vec<Entry>, Vec<Entry>) {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    let mut index = 0;
    for entry in entries {
        let count = entry.live.count_ones();
        let keep = if range.start <= index && index + count <= range.end {
            entry.live
        } else if index + count <= range.start || range.end <= index {
            0
        } else {
            bits_at(entry.live, range.start.saturating_sub(index)..range.end - index)
        };
        index += count;
        for (list, live) in [(&mut inside, keep), (&mut outside, entry.live & !keep)] {
            if live != 0 {
                list.push(Entry { page: entry.page, live });
            }
        }
    }
    (inside, outside)
}

/// The set bits of `word` whose rank among them is in `range`.
fn bits_at(word: u64, range: Range<u32>) -> u64 {
    let mut left = word;
    let mut found = 0;
    for rank in 0..word.count_ones().min(range.end) {
        let lowest = left & left.wrapping_neg();
        if rank >= range.start {
            found |= lowest;
        }
        left ^= lowest;
    }
    found
}

/// Slot of the live token with index `index`: entry and slot in it.
pub(crate) fn locate(entries: &[Entry], mut index: u32) -> Option<(usize, u32)> {
    for (at, entry) in entries.iter().enumerate() {
        let count = entry.live.count_ones();
        if index < count {
            return Some((at, bits_at(entry.live, index..index + 1).trailing_zeros()));
        }
        index -= count;
    }
    None
}

/// Live tokens of all entries.
pub(crate) fn length(entries: &[Entry]) -> u32 {
    entries.iter().map(|entry| entry.live.count_ones()).sum()
}

/// Slots of the last entry up to its last live one: where the next token goes.
pub(crate) fn tail(entries: &[Entry]) -> Option<u32> {
    entries.last().map(|entry| 64 - entry.live.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(lives: &[u64]) -> Vec<Entry> {
        (0..).zip(lives).map(|(id, live)| Entry { page: LogicalId(id), live: *live }).collect()
    }

    #[test]
    fn split_cuts_live_tokens_not_slots() {
        let all = entries(&[0b1011, 0b1111, 0b0110]);
        let (inside, outside) = split(&all, &(2..8));
        assert_eq!(
            inside.iter().map(|e| (e.page.0, e.live)).collect::<Vec<_>>(),
            [(0, 0b1000), (1, 0b1111), (2, 0b0010)]
        );
        assert_eq!(
            outside.iter().map(|e| (e.page.0, e.live)).collect::<Vec<_>>(),
            [(0, 0b0011), (2, 0b0100)]
        );
        assert_eq!((length(&inside), length(&outside)), (6, 3));
    }

    #[test]
    fn split_of_everything_and_nothing() {
        let all = entries(&[u64::MAX, 1]);
        assert_eq!(split(&all, &(0..65)), (all.clone(), vec![]));
        assert_eq!(split(&all, &(3..3)), (vec![], all.clone()));
    }

    #[test]
    fn locate_counts_live_slots() {
        let all = entries(&[0b1010, 0b1]);
        assert_eq!([0, 1, 2, 3].map(|i| locate(&all, i)), [Some((0, 1)), Some((0, 3)), Some((1, 0)), None]);
        assert_eq!((tail(&all), tail(&all[..1]), tail(&[])), (Some(1), Some(4), None));
    }
}

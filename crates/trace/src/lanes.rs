//! Calls of one inferlet that overlap, side by side: a track of Perfetto nests what overlaps, and calls do not nest.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// For each span, a lane in which no other overlaps it: the lowest that is free when it begins. Spans come by their
/// beginnings.
pub(crate) fn lanes(spans: impl IntoIterator<Item = (u64, u64)>) -> Vec<usize> {
    let mut busy: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let (mut free, mut count) = (BTreeSet::new(), 0);
    let mut chosen = Vec::new();
    for (began, ended) in spans {
        while let Some(Reverse((end, lane))) = busy.peek().copied().filter(|Reverse((end, _))| *end <= began)
        {
            debug_assert!(end <= began);
            busy.pop();
            free.insert(lane);
        }
        let lane = free.pop_first().unwrap_or_else(|| {
            count += 1;
            count - 1
        });
        busy.push(Reverse((ended, lane)));
        chosen.push(lane);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_is_in_different_lanes_and_the_lowest_is_taken() {
        assert_eq!(lanes([(0, 10), (2, 4), (3, 5), (4, 6), (10, 11)]), [0, 1, 2, 1, 0]);
        assert_eq!(lanes([(0, 0), (0, 0), (1, 2)]), [0, 0, 0], "what takes no time overlaps nothing");
        assert!(lanes([]).is_empty());
    }
}

//! The positions of a context's tokens, as the runtime tracks them to answer without asking the engine.

use std::ops::Range;

use smallvec::SmallVec;

/// Positions in order, as runs of consecutive numbers: `(first position, tokens)`. No run is empty. Most contexts have one,
/// which needs no allocation: programs fork at every step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Positions {
    runs: SmallVec<[(u32, u32); 1]>,
    length: u32,
    next: u32,
}

impl Positions {
    /// Positions as the engine tells them of an opened snapshot.
    pub(crate) fn of_runs(runs: &[(u32, u32)], next: u32) -> Positions {
        let length = runs.iter().map(|(_, tokens)| tokens).sum();
        Positions { runs: runs.into(), length, next }
    }

    /// The engine's word on the next position.
    pub(crate) fn set_next(&mut self, next: u32) {
        self.next = next;
    }

    pub(crate) fn length(&self) -> u32 {
        self.length
    }

    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    /// Adds one token.
    pub(crate) fn push(&mut self, position: u32) {
        match self.runs.last_mut() {
            Some((first, tokens)) if *first + *tokens == position => *tokens += 1,
            _ => self.runs.push((position, 1)),
        }
        self.length += 1;
        self.next = self.next.max(position + 1);
    }

    /// Keeps the first `length` tokens; the next position becomes that of the first one dropped.
    pub(crate) fn truncate(&mut self, length: u32) {
        if length >= self.length {
            return;
        }
        self.next = self.at(length);
        self.cut(length..self.length);
    }

    /// Drops a range; positions of the rest, and the next one, stay.
    pub(crate) fn remove(&mut self, range: Range<u32>) {
        self.cut(range);
    }

    /// The tokens of a range; the next position follows the last of them.
    pub(crate) fn slice(&self, range: Range<u32>) -> Positions {
        let mut slice = self.clone();
        slice.cut(range.end..self.length);
        slice.cut(0..range.start);
        slice.next = slice.runs.last().map_or(0, |(first, tokens)| first + tokens);
        slice
    }

    /// Adds the tokens of another; the next position becomes the larger of both.
    pub(crate) fn append(&mut self, other: &Positions) {
        self.runs.extend_from_slice(&other.runs);
        self.length += other.length;
        self.next = self.next.max(other.next);
    }

    fn at(&self, index: u32) -> u32 {
        let mut left = index;
        for (first, tokens) in &self.runs {
            if left < *tokens {
                return first + left;
            }
            left -= tokens;
        }
        self.next
    }

    fn cut(&mut self, range: Range<u32>) {
        if range.is_empty() {
            return;
        }
        let mut kept = SmallVec::new();
        let mut start = 0;
        for &(first, tokens) in &self.runs {
            let end = start + tokens;
            let (before, after) = (range.start.clamp(start, end), range.end.clamp(start, end));
            if before > start {
                kept.push((first, before - start));
            }
            if end > after {
                kept.push((first + (after - start), end - after));
            }
            start = end;
        }
        self.runs = kept;
        self.length -= range.end - range.start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same operations on a plain list.
    #[test]
    fn runs_equal_a_plain_list() {
        let mut seed = 7u64;
        let mut random = move |n: u32| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            if n == 0 { 0 } else { (seed >> 33) as u32 % n }
        };
        let (mut runs, mut list, mut next) = (Positions::default(), Vec::<u32>::new(), 0);
        for _ in 0..2000 {
            let length = list.len() as u32;
            let (a, b) = (random(length + 1), random(length + 1));
            let range = a.min(b)..a.max(b);
            match random(6) {
                0 => {
                    next = list.get(a as usize).copied().unwrap_or(next);
                    list.truncate(a as usize);
                    runs.truncate(a);
                }
                1 => {
                    list.drain(range.start as usize..range.end as usize);
                    runs.remove(range);
                }
                2 => {
                    let other = runs.slice(range.clone());
                    list.extend_from_within(range.start as usize..range.end as usize);
                    next = next.max(other.next());
                    runs.append(&other);
                    if list.len() > 200 {
                        (runs, list, next) = (Positions::default(), Vec::new(), 0);
                    }
                }
                _ => {
                    let position = if random(3) == 0 { random(50) } else { next };
                    list.push(position);
                    next = next.max(position + 1);
                    runs.push(position);
                }
            }
            assert_eq!((runs.length(), runs.next()), (list.len() as u32, next));
            assert_eq!((0..runs.length()).map(|i| runs.at(i)).collect::<Vec<_>>(), list);
        }
    }
}

//! Tokens that were removed from a context, and where they stood.
//!
//! ```text
//! all        t0 t1 t2 t3 t4 t5      all that was appended and not taken back
//! kept       t0 t1       t4 t5      the tokens of the context
//! removed          t2 t3            before the kept token of index 2
//! ```
//! A conversation is formatted as a whole each turn: it is compared with `all`, or what was removed would come back. Few
//! contexts have removed anything, so what is kept is not stored twice.

use std::borrow::Cow;
use std::ops::Range;

#[derive(Clone, Default)]
pub(super) struct History {
    /// By place, which differ.
    removed: Vec<Removed>,
}

/// Tokens that stood together.
#[derive(Clone, Debug, PartialEq)]
struct Removed {
    /// Index of the kept token after them.
    before: usize,
    tokens: Vec<u32>,
}

impl History {
    /// All tokens, of which these are kept.
    pub(super) fn all<'a>(&self, kept: &'a [u32]) -> Cow<'a, [u32]> {
        if self.removed.is_empty() {
            return Cow::Borrowed(kept);
        }
        let (mut all, mut next) = (Vec::new(), 0);
        for run in &self.removed {
            all.extend_from_slice(&kept[next..run.before]);
            all.extend_from_slice(&run.tokens);
            next = run.before;
        }
        all.extend_from_slice(&kept[next..]);
        Cow::Owned(all)
    }

    /// Only the first `length` of the kept tokens stay, with what was removed among and right behind them.
    pub(super) fn truncate(&mut self, length: usize) {
        self.removed.retain(|run| run.before <= length);
    }

    /// Kept tokens among the first `length` of all.
    pub(super) fn kept_before(&self, length: usize) -> usize {
        let mut removed = 0;
        for run in &self.removed {
            if run.before + removed >= length {
                break;
            }
            removed += run.tokens.len().min(length - run.before - removed);
        }
        length - removed
    }

    /// Only the first `length` of all stay, among which all `kept` are.
    pub(super) fn truncate_all(&mut self, length: usize, kept: usize) {
        let mut room = length - kept;
        for run in &mut self.removed {
            run.tokens.truncate(room);
            room -= run.tokens.len();
        }
        self.removed.retain(|run| !run.tokens.is_empty());
    }

    /// Tokens of this range of those kept are no longer kept: these.
    pub(super) fn remove(&mut self, range: Range<usize>, mut taken: &[u32]) {
        let (mut tokens, mut next) = (Vec::new(), range.start);
        for run in self.removed.extract_if(.., |run| (range.start..=range.end).contains(&run.before)) {
            let (before, behind) = taken.split_at(run.before - next);
            tokens.extend_from_slice(before);
            tokens.extend(run.tokens);
            (taken, next) = (behind, run.before);
        }
        tokens.extend_from_slice(taken);
        self.move_up(&range);
        if !tokens.is_empty() {
            let place = self.removed.partition_point(|run| run.before < range.start);
            self.removed.insert(place, Removed { before: range.start, tokens });
        }
    }

    /// Tokens of this range are no longer known; what was removed between them goes as well.
    pub(super) fn discard(&mut self, range: Range<usize>) {
        self.removed.retain(|run| run.before <= range.start || run.before > range.end);
        self.move_up(&range);
    }

    /// The kept tokens of a range are gone.
    fn move_up(&mut self, range: &Range<usize>) {
        let behind = self.removed.iter_mut().filter(|run| run.before > range.end);
        behind.for_each(|run| run.before -= range.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same told plainly: all tokens, and whether each is kept.
    #[derive(Default)]
    struct Plain(Vec<(u32, bool)>);

    impl Plain {
        fn all(&self) -> Vec<u32> {
            self.0.iter().map(|(token, _)| *token).collect()
        }

        fn kept(&self) -> Vec<u32> {
            self.0.iter().filter(|(_, kept)| *kept).map(|(token, _)| *token).collect()
        }

        /// Where a kept token is among all; behind them where there are no more.
        fn place(&self, index: usize) -> usize {
            let mut kept = self.0.iter().enumerate().filter(|(_, (_, kept))| *kept);
            kept.nth(index).map_or(self.0.len(), |(place, _)| place)
        }
    }

    #[test]
    fn what_was_removed_stays_known_and_what_was_discarded_does_not() {
        let mut random = 1u64;
        let mut below = |end: usize| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as usize % end.max(1)
        };
        let mut removed = 0;
        for case in 0..2000 {
            let (mut history, mut plain, mut kept) = (History::default(), Plain::default(), Vec::new());
            for step in 0..30u32 {
                let length = kept.len();
                let start = below(length + 1);
                let range = start..start + below(length - start + 1);
                match below(6) {
                    0 => {
                        history.truncate(start);
                        let end = plain.place(start);
                        plain.0.truncate(end);
                        kept.truncate(start);
                    }
                    1 => {
                        history.remove(range.clone(), &kept[range.clone()]);
                        let places: Vec<_> = range.clone().map(|index| plain.place(index)).collect();
                        places.into_iter().for_each(|place| plain.0[place].1 = false);
                        kept.drain(range);
                    }
                    2 if !range.is_empty() => {
                        history.discard(range.clone());
                        let (start, end) = (plain.place(range.start), plain.place(range.end));
                        plain.0.drain(start..end);
                        kept.drain(range);
                    }
                    3 => {
                        let length = below(plain.0.len() + 1);
                        let before = history.kept_before(length);
                        assert_eq!(before, plain.0[..length].iter().filter(|(_, kept)| *kept).count());
                        history.truncate(before);
                        kept.truncate(before);
                        history.truncate_all(length, before);
                        plain.0.truncate(length);
                    }
                    _ => {
                        let tokens = [100 * step, 100 * step + 1, 100 * step + 2];
                        kept.extend(tokens);
                        plain.0.extend(tokens.map(|token| (token, true)));
                    }
                }
                assert_eq!(
                    (kept.clone(), history.all(&kept).into_owned()),
                    (plain.kept(), plain.all()),
                    "{case}"
                );
                assert!(history.removed.is_sorted_by(|a, b| a.before < b.before), "{:?}", history.removed);
                removed += history.removed.len();
            }
        }
        assert!(removed > 10_000, "{removed}");
    }
}

//! Where the time of a forward pass goes: each worker counts the nanoseconds of each operation.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The operations of a forward pass, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Rows of the embedding matrix.
    Embed,
    /// Sums, norms and quantization of rows: what stands between two products.
    Rows,
    /// Queries, keys and values.
    QueryKeyValue,
    /// Rotations, and keys and values into their pages.
    Store,
    /// Attention over the pages.
    Attend,
    /// The product after attention.
    AttentionOutput,
    /// The wide products of the feed-forward part, with the activation.
    FeedForwardInner,
    /// The product back.
    FeedForwardOutput,
    /// Products of experts, and the choice of them.
    Experts,
    /// Logits.
    Head,
    /// Drawing of tokens, and other answers.
    Answer,
    /// Waiting at barriers for the other workers.
    Wait,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 12] = [
        Operation::Embed,
        Operation::Rows,
        Operation::QueryKeyValue,
        Operation::Store,
        Operation::Attend,
        Operation::AttentionOutput,
        Operation::FeedForwardInner,
        Operation::FeedForwardOutput,
        Operation::Experts,
        Operation::Head,
        Operation::Answer,
        Operation::Wait,
    ];

    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Embed => "embed",
            Operation::Rows => "norms, codes",
            Operation::QueryKeyValue => "q k v",
            Operation::Store => "rotate, store",
            Operation::Attend => "attend",
            Operation::AttentionOutput => "attention output",
            Operation::FeedForwardInner => "gate, up",
            Operation::FeedForwardOutput => "down",
            Operation::Experts => "experts",
            Operation::Head => "head",
            Operation::Answer => "answer",
            Operation::Wait => "wait",
        }
    }
}

/// What a product costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiplications for each row.
    pub multiplications: usize,
    /// Bytes of weights, which a batch reads once.
    pub bytes: usize,
}

/// Times of all operations, of all workers together.
#[derive(Debug, Default)]
pub struct Profile {
    nanoseconds: [AtomicU64; Operation::ALL.len()],
}

impl Profile {
    /// The time of an operation since the last [`Profile::reset`], of all workers together.
    pub fn time(&self, operation: Operation) -> Duration {
        Duration::from_nanos(self.nanoseconds[operation as usize].load(Relaxed))
    }

    /// Begins anew.
    pub fn reset(&self) {
        self.nanoseconds.iter().for_each(|time| time.store(0, Relaxed));
    }
}

/// What one worker does now, and since when. Without a profile it looks at no clock.
pub(crate) struct Watch<'a> {
    profile: Option<&'a Profile>,
    now: Cell<Option<(Operation, Instant)>>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(profile: Option<&'a Profile>) -> Watch<'a> {
        Watch { profile, now: Cell::new(None) }
    }

    /// Ends what was done before, and begins another operation. What was done before.
    pub(crate) fn begin(&self, operation: Operation) -> Option<Operation> {
        self.profile?;
        self.end(Some((operation, Instant::now())))
    }

    /// Ends the last one.
    pub(crate) fn stop(&self) {
        if self.profile.is_some() {
            self.end(None);
        }
    }

    fn end(&self, next: Option<(Operation, Instant)>) -> Option<Operation> {
        let (operation, since) = self.now.replace(next)?;
        let profile = self.profile?;
        let until = next.map_or_else(Instant::now, |(_, time)| time);
        profile.nanoseconds[operation as usize].fetch_add((until - since).as_nanos() as u64, Relaxed);
        Some(operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_moment_counts_for_one_operation() {
        let profile = Profile::default();
        let watch = Watch::new(Some(&profile));
        let start = Instant::now();
        watch.begin(Operation::Rows);
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(watch.begin(Operation::Wait), Some(Operation::Rows));
        std::thread::sleep(Duration::from_millis(2));
        watch.stop();
        let whole = start.elapsed();
        let times = Operation::ALL.map(|operation| profile.time(operation));
        assert!(times.iter().sum::<Duration>() <= whole);
        assert!(profile.time(Operation::Rows) >= Duration::from_millis(2));
        assert!(profile.time(Operation::Wait) >= Duration::from_millis(2));
        for (index, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, index, "the table is in the order of the enum");
        }
        profile.reset();
        assert_eq!(profile.time(Operation::Wait), Duration::ZERO);
    }

    #[test]
    fn without_a_profile_nothing_is_counted() {
        let watch = Watch::new(None);
        assert_eq!(watch.begin(Operation::Rows), None);
        assert_eq!(watch.begin(Operation::Wait), None);
        watch.stop();
    }
}

//! Counts for metrics.

use metrics::Histogram;

/// A moment's state and the totals since start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Passes waiting for a batch.
    pub waiting: u64,
    /// Passes in the batch that runs now.
    pub running: u64,
    /// Waiting passes that lack pages.
    pub blocked: u64,
    /// Passes that the engine is at work on: begun, or to be in the next batch, and those that owners just answered are
    /// expected to come back with. Seen from outside, a batch is always over or not begun: this is what goes on.
    pub active: u64,
    /// Passes that were left out of the last batch and have no row computed yet.
    pub queued: u64,
    /// Owners known.
    pub owners: u64,
    /// Contexts that exist.
    pub contexts: u64,
    /// Snapshots that exist.
    pub snapshots: u64,
    /// Pages of the backend's pool.
    pub pages_total: u64,
    /// Pages of the pool that hold nothing.
    pub pages_free: u64,
    /// Pages of the pool kept only because a later prefix may match.
    pub pages_cached: u64,
    /// Pages of the pool that contexts, passes or snapshots hold.
    pub pages_held: u64,
    /// Pages, wherever they are, that have more than one holder.
    pub pages_shared: u64,
    /// Pages in host memory.
    pub pages_spilled: u64,
    /// Batches completed.
    pub batches: u64,
    /// Batches that the backend failed.
    pub batches_failed: u64,
    /// Rows computed.
    pub rows_computed: u64,
    /// Rows taken from the prefix cache.
    pub rows_cached: u64,
    /// Rows of finished passes of which the prefix cache could have some: all but the last, of a page that they begin.
    pub prefix_rows_asked: u64,
    /// Of those, rows that it had.
    pub prefix_rows_found: u64,
    /// Seconds that the backend took for each batch.
    pub step_seconds: Histogram,
    /// Rows of each batch.
    pub batch_rows: Histogram,
    /// Passes in batches, summed: divided by `batches`, the mean batch size.
    pub batch_requests: u64,
    /// Passes answered with values.
    pub completed: u64,
    /// Passes answered with an error.
    pub failed: u64,
    /// Passes cancelled.
    pub cancelled: u64,
    /// Contexts that lost pages to host memory.
    pub suspensions: u64,
    /// Passes that brought pages back from host memory.
    pub restores: u64,
    /// Pages moved to host memory.
    pub pages_moved_out: u64,
    /// Pages moved back.
    pub pages_moved_in: u64,
    /// Operations without a reply that were wrong and changed nothing.
    pub ops_refused: u64,
}

impl Stats {
    /// Mean number of passes in a batch; 0 before the first.
    pub fn batch_size_mean(&self) -> f64 {
        if self.batches == 0 { 0.0 } else { self.batch_requests as f64 / self.batches as f64 }
    }
}

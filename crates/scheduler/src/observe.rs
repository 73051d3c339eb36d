//! What the engine's thread tells of its batches, to one who wants to know.

use std::time::Instant;

use crate::request::Ticket;
use crate::stats::Stats;

/// Is told of each batch, on the engine's thread, before the answers of the batch go out. It must not block.
pub trait BatchObserver: Send {
    /// Whether it wants to know of the batch that begins now. Asked once a batch, so it should cost nothing.
    fn wants(&self) -> bool;

    /// A batch has run.
    fn batch(&mut self, record: BatchRecord);
}

/// A batch that has run, or failed.
#[derive(Clone, Debug)]
pub struct BatchRecord {
    /// When it was planned.
    pub began: Instant,
    /// When its page moves were done.
    pub moved: Instant,
    /// When its results were taken in.
    pub ended: Instant,
    /// What was planned.
    pub planned: Planned,
    /// Whether it failed.
    pub failed: bool,
    /// The state once it was planned.
    pub before: Stats,
    /// The state once its results were taken in.
    pub after: Stats,
}

/// What a batch was planned to compute, and the page moves before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planned {
    /// Its passes, and the rows that each has in it.
    pub passes: Vec<(Ticket, u32)>,
    /// Rows that passes took from the prefix cache as it was planned.
    pub rows_cached: u64,
    /// Outputs requested.
    pub outputs: u64,
    /// Pages to copy.
    pub copies: u64,
    /// Pages to move to host memory.
    pub spills: u64,
    /// Pages to bring back.
    pub restores: u64,
}

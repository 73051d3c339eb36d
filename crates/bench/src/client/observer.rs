//! Who looks at a run while it goes, and how it is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock::Nanos;
use crate::record::Record;

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Since the run began.
    pub at: Nanos,
    /// Requests of the plan.
    pub planned: usize,
    /// Requests that are over, in whatever way.
    pub finished: usize,
    /// Of them, those without a whole answer.
    pub failed: usize,
    /// Under way.
    pub in_flight: usize,
    /// Waiting for a slot.
    pub waiting: usize,
}

/// Is told what happens. Called from the coordinator's thread, so it must be quick.
pub trait Observer: Sync {
    /// A request is over.
    fn finished(&self, record: &Record, progress: &Progress) {
        let _ = (record, progress);
    }

    /// Called about ten times a second.
    fn tick(&self, progress: &Progress) {
        let _ = progress;
    }
}

/// An observer that does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Stops a run: what is under way is cancelled, what is left is skipped. Clones stop the same run.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Stops the run.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

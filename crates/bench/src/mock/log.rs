//! What a mock server did, for comparison.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct ServedRequest {
    /// Its `x-request-id`; empty without one.
    pub id: String,
    /// When its last byte had been read.
    pub arrived: Instant,
    /// When it had a slot.
    pub began: Instant,
    /// Right before each write of a chunk with tokens.
    pub chunks: Vec<Instant>,
    /// Right after the last write.
    pub ended: Instant,
    /// Tokens of the prompt: ids, or words.
    pub prompt_tokens: u32,
    /// Its header that names a session, if it came with one.
    pub session: Option<String>,
    /// Its body.
    pub body: String,
}

/// What was done so far. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<ServedRequest>>>);

impl Log {
    pub(super) fn add(&self, served: ServedRequest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(served);
    }

    /// The requests that are over, in the order of their ends.
    pub fn served(&self) -> Vec<ServedRequest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

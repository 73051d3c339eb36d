//! What a mock server did, for comparison.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

#[derive(Debug, Default)]
struct Entries {
    served: Vec<ServedRequest>,
    under_way: usize,
}

#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<Entries>,
    ended: Condvar,
}

/// What was done so far. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Shared>);

/// A request that is under way, until this is dropped.
pub(super) struct UnderWay(Log);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
        self.0.0.ended.notify_all();
    }
}

/// How long [`Log::served`] waits: a client has read the end of an answer before the server has written it down.
const PATIENCE: Duration = Duration::from_secs(10);

impl Log {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a request is under way.
    pub(super) fn begin(&self) -> UnderWay {
        self.lock().under_way += 1;
        UnderWay(self.clone())
    }

    pub(super) fn add(&self, served: ServedRequest) {
        self.lock().served.push(served);
    }

    /// The requests that are over, in the order of their ends. Waits a while for those under way, which may be over for
    /// their client.
    pub fn served(&self) -> Vec<ServedRequest> {
        let entries = self.lock();
        let waited = self.0.ended.wait_timeout_while(entries, PATIENCE, |entries| entries.under_way > 0);
        let (entries, _) = waited.unwrap_or_else(PoisonError::into_inner);
        entries.served.clone()
    }
}

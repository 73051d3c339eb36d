//! Long work of the host for a program: long texts, grammars, adapters, files.
//!
//! The threads that run programs must not do it, for the others would stand still meanwhile. It runs on a few threads of
//! its own, of which one user has half at most; the program pays for it with its processor time and, while it lasts,
//! with the memory of its input. A program that is ended, or that drops the call, is told at once: what has not begun
//! does not begin, and what has begun ends by itself, for every input is bounded, and holds its thread until then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::Instant;

use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::inferlet::InferletState;

/// Work that one inferlet has under way or waiting.
const CALLS: usize = 256;

/// The threads.
pub(crate) struct Workers {
    threads: Arc<Semaphore>,
    count: usize,
}

/// Tells the work that nobody waits for it.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Workers {
    /// As many threads as the machine has cores, two at least.
    pub(crate) fn new() -> Workers {
        let count = available_parallelism().map_or(2, usize::from).max(2);
        Workers { threads: Arc::new(Semaphore::new(count)), count }
    }

    /// The threads that one user may have at once.
    pub(crate) fn threads_of_user(&self) -> usize {
        self.count / 2
    }

    /// The threads that work now.
    pub(crate) fn busy(&self) -> usize {
        self.count - self.threads.available_permits()
    }

    /// Does work for an inferlet that holds `bytes` of host memory meanwhile, when its turn comes.
    ///
    /// # Errors
    /// `limit-exceeded` when the inferlet has too much work waiting or no memory for it; when the work panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        inferlet: &Arc<InferletState>,
        bytes: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let call = inferlet.calls.clone().try_acquire_owned().map_err(|_| {
            ApiError::LimitExceeded(format!("{CALLS} calls of this inferlet wait for long work of the host"))
        })?;
        let held = inferlet.host_memory.take(bytes as u64)?;
        let turn = |semaphore: &Arc<Semaphore>| semaphore.clone().acquire_owned();
        let never_closed = "the semaphores are never closed";
        let share = turn(&inferlet.user.threads).await.expect(never_closed);
        let thread = turn(&self.threads).await.expect(never_closed);
        let abandoned = Arc::new(AtomicBool::new(false));
        let _abandon = Abandon(abandoned.clone());
        let inferlet = inferlet.clone();
        let work = move || {
            let _held = (call, held, share, thread);
            if abandoned.load(Ordering::Relaxed) {
                return Err(ApiError::Cancelled);
            }
            let start = Instant::now();
            let result = work();
            inferlet.spend_cpu(start.elapsed());
            result
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|panic| Err(ApiError::Backend(format!("the host failed: {panic}"))))
    }
}

/// Places for the calls of one inferlet.
pub(crate) fn calls() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CALLS))
}

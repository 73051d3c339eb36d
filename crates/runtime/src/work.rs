//! Long work of the host for a program: long texts, grammars, adapters, files.
//!
//! The threads that run programs must not do it, for the others would stand still meanwhile. It runs on a few threads of
//! its own, of which one user has half at most; the program pays for it with its processor time and, while it lasts,
//! with the memory of its input. A program that is ended, or that drops the call, is told at once: what has not begun
//! does not begin, and what has begun is told that it is not wanted any more. A text to tokenize, an adapter and a
//! grammar end there; other work ends by itself, for every input is bounded, and holds its thread until then.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Instant;

use model::Wanted;
use tokio::sync::{Semaphore, oneshot};

use crate::apart::{apart, while_wanted};
use crate::background;
use crate::error::ApiError;
use crate::inferlet::{InferletState, thread_time};

/// Work that one inferlet has under way or waiting.
const CALLS: usize = 256;

/// The threads.
pub(crate) struct Workers {
    threads: Arc<Semaphore>,
    count: usize,
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
        self.run_while(inferlet, bytes, |_| work()).await
    }

    /// The same with work that can stop in the middle: what it gets says whether its result is still wanted.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(crate) async fn run_while<T: Send + 'static>(
        &self,
        inferlet: &Arc<InferletState>,
        bytes: usize,
        work: impl FnOnce(Wanted<'_>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        // Gone when this call is dropped, which the end of its program does.
        let asker = Arc::new(());
        let asked = Arc::downgrade(&asker);
        let call = inferlet.calls.clone().try_acquire_owned().map_err(|_| {
            ApiError::LimitExceeded(format!("{CALLS} calls of this inferlet wait for long work of the host"))
        })?;
        let held = inferlet.host_memory.take(bytes as u64)?;
        let (inferlet, threads) = (inferlet.clone(), self.threads.clone());
        let done = apart(async move {
            let turn = |semaphore: &Arc<Semaphore>| semaphore.clone().acquire_owned();
            let never_closed = "the semaphores are never closed";
            let share = turn(&inferlet.user.threads).await.expect(never_closed);
            let thread = turn(&threads).await.expect(never_closed);
            let runs_long = inferlet.user.turns.runs_long();
            let work = move || {
                let _held = (call, held, share, thread);
                let (start, before) = (Instant::now(), thread_time());
                let result = work(&|| asked.strong_count() > 0);
                inferlet.spend_cpu(thread_time() - before);
                inferlet.user.turns.ran(start);
                result
            };
            if !runs_long {
                return while_wanted(tokio::task::spawn_blocking(work)).await.ok();
            }
            let (done, result) = oneshot::channel();
            background::spawn(move || {
                // Whoever asked may have given it up.
                let _ = done.send(work());
            });
            result.await.ok()
        });
        let panicked = || Err(ApiError::Backend("the host failed: its work panicked".into()));
        let result = done.await.ok().flatten().unwrap_or_else(panicked);
        drop(asker);
        result
    }
}

/// Places for the calls of one inferlet.
pub(crate) fn calls() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CALLS))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::RuntimeConfig;
    use crate::inferlet::tests::child;
    use crate::turns::Threads;
    use crate::users::Users;

    /// Workers, and an inferlet of each of two users.
    fn workers() -> (Arc<Workers>, [Arc<InferletState>; 2]) {
        let workers = Workers::new();
        let users = Users::new(&RuntimeConfig::default(), &workers, &Arc::new(Threads::new(2)));
        let inferlets = ["ann", "bob"].map(|name| child(&users.of(name), None).0);
        (Arc::new(workers), inferlets)
    }

    /// Starts work that goes on until a message comes.
    fn hold(
        workers: &Arc<Workers>,
        inferlet: &Arc<InferletState>,
        begun: &Arc<AtomicUsize>,
    ) -> (tokio::task::JoinHandle<Result<(), ApiError>>, mpsc::Sender<()>) {
        let (workers, inferlet, begun) = (workers.clone(), inferlet.clone(), begun.clone());
        let (end, ended) = mpsc::channel();
        let work = move || {
            begun.fetch_add(1, Ordering::SeqCst);
            let _ = ended.recv();
            Ok(())
        };
        (tokio::spawn(async move { workers.run(&inferlet, 1000, work).await }), end)
    }

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_user_has_half_of_the_threads_and_what_is_given_up_never_begins() {
        let (workers, [ann, bob]) = workers();
        let (begun, share) = (Arc::new(AtomicUsize::new(0)), workers.threads_of_user());
        let calls: Vec<_> = (0..share + 2).map(|_| hold(&workers, &ann, &begun)).collect();
        until(|| begun.load(Ordering::SeqCst) == share).await;
        assert_eq!(ann.host_memory.taken(), 1000 * calls.len() as u64);
        // Others have theirs at once, on this and every other thread of the program.
        assert_eq!(workers.run(&bob, 0, || Ok(7)).await, Ok(7));
        // The last is given up before its turn, the first in the middle.
        calls.last().unwrap().0.abort();
        calls[0].0.abort();
        until(|| calls[0].0.is_finished() && calls.last().unwrap().0.is_finished()).await;
        assert_eq!(workers.busy(), share, "work that has begun has its thread to its end");
        let calls: Vec<_> = calls.into_iter().map(|(call, end)| (call, drop(end))).collect();
        let ends = futures::future::join_all(calls.into_iter().map(|(call, ())| call)).await;
        assert_eq!(ends.iter().filter(|end| matches!(end, Ok(Ok(())))).count(), share);
        until(|| workers.busy() == 0).await;
        assert_eq!(begun.load(Ordering::SeqCst), share + 1, "what was given up in time has not begun");
        assert_eq!((ann.host_memory.taken(), ann.user.host_memory.taken()), (0, 0));
    }

    #[tokio::test]
    async fn work_that_has_begun_is_told_when_it_is_given_up() {
        let (workers, [ann, _]) = workers();
        let (begun, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let call = tokio::spawn({
            let (workers, ann, begun, asked) = (workers.clone(), ann.clone(), begun.clone(), asked.clone());
            let work = move |wanted: Wanted<'_>| {
                begun.store(1, Ordering::SeqCst);
                while wanted() {
                    asked.fetch_add(1, Ordering::SeqCst);
                }
                Ok(())
            };
            async move { workers.run_while(&ann, 1000, work).await }
        });
        until(|| begun.load(Ordering::SeqCst) == 1 && asked.load(Ordering::SeqCst) > 1000).await;
        call.abort();
        until(|| workers.busy() == 0).await;
        assert_eq!((ann.host_memory.taken(), ann.user.host_memory.taken()), (0, 0));
    }

    #[tokio::test]
    async fn a_call_that_is_not_polled_keeps_no_turn_from_another() {
        let (workers, [ann, _]) = workers();
        let begun = Arc::new(AtomicUsize::new(0));
        let (calls, ends): (Vec<_>, Vec<_>) =
            (0..workers.threads_of_user()).map(|_| hold(&workers, &ann, &begun)).unzip();
        until(|| begun.load(Ordering::SeqCst) == calls.len()).await;
        // It waits for its turn, as a pass of a program does, and then the program is in another call.
        let mut unpolled = Box::pin(workers.run(&ann, 0, || Ok(1)));
        assert_eq!(futures::FutureExt::now_or_never(unpolled.as_mut()), None);
        let next = workers.run(&ann, 0, || Ok(2));
        drop(ends);
        assert_eq!(tokio::time::timeout(Duration::from_secs(60), next).await, Ok(Ok(2)));
        assert_eq!(unpolled.await, Ok(1));
    }

    #[tokio::test]
    async fn an_inferlet_pays_with_its_time_and_has_so_many_calls() {
        let (workers, [ann, _]) = workers();
        let busy = || {
            let start = thread_time();
            while thread_time() - start < Duration::from_millis(6) {}
            Ok(())
        };
        workers.run(&ann, 0, busy).await.unwrap();
        assert!(ann.is_out_of_cpu(), "it had 5 ms");
        assert!(matches!(workers.run(&ann, usize::MAX, busy).await, Err(ApiError::LimitExceeded(_))));
        let panic = workers.run(&ann, 0, || -> Result<(), ApiError> { panic!("a defect") }).await;
        assert!(matches!(panic, Err(ApiError::Backend(_))), "{panic:?}");
        let begun = Arc::new(AtomicUsize::new(0));
        let calls: Vec<_> = (0..CALLS).map(|_| hold(&workers, &ann, &begun)).collect();
        until(|| ann.calls.available_permits() == 0).await;
        assert!(matches!(workers.run(&ann, 0, || Ok(())).await, Err(ApiError::LimitExceeded(_))));
        drop(calls);
    }
}

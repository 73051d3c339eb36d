//! Turns of a user's programs on the threads that run programs.
//!
//! Those threads take up what is ready in the order in which it became so: behind five hundred programs of one user that
//! are ready at once, another user's would wait for all of them. So no more programs of a user are ready, or run, than
//! there are threads. The others wait for each other, in order, and the threads come to everybody else's between.
//!
//! ```text
//!                 woken, no turn is free
//!       idle ──────────────────────────────► waits
//!        │ ▲                                   │ in its order
//!  woken │ │ it waits for something            ▼
//!        └─┼──────────────────────────────► has a turn ──► is run for a moment ──┐
//!          └─────────────────────────────────────────────────────────────────────┘
//! ```

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The turns of one user.
pub(crate) struct Turns {
    state: Mutex<State>,
}

struct State {
    free: usize,
    waiting: VecDeque<Arc<Entry>>,
}

impl Turns {
    /// So many programs at once.
    pub(crate) fn new(programs: usize) -> Turns {
        Turns { state: Mutex::new(State { free: programs.max(1), waiting: VecDeque::new() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing woke it.
    Idle,
    Waits,
    /// Its task is to run it.
    HasTurn,
    /// It was given a turn before its task first ran, which has been in the threads' line since the launch.
    GivenEarly,
    Runs,
    /// It was woken while it ran.
    RunsAgain,
    Gone,
}

/// A program in [`Turns`]. What the program waits for wakes this, and not its task.
struct Entry {
    turns: Arc<Turns>,
    status: Mutex<Status>,
}

/// Changed with the lock of [`Turns`] held.
struct Status {
    phase: Phase,
    /// Wakes its task; none before that first ran, and after its end.
    task: Option<Waker>,
}

impl Entry {
    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a turn or a place among those that wait.
    fn come(self: &Arc<Entry>, state: &mut State) -> Phase {
        if state.free > 0 {
            state.free -= 1;
            Phase::HasTurn
        } else {
            state.waiting.push_back(self.clone());
            Phase::Waits
        }
    }
}

impl State {
    /// Gives a turn to who waits longest; the waker of its task.
    fn give(&mut self) -> Option<Waker> {
        while let Some(next) = self.waiting.pop_front() {
            let mut status = next.status();
            if status.phase == Phase::Waits {
                let task = status.task.clone();
                status.phase = if task.is_some() { Phase::HasTurn } else { Phase::GivenEarly };
                return task;
            }
        }
        self.free += 1;
        None
    }
}

impl Wake for Entry {
    fn wake(self: Arc<Entry>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Entry>) {
        let mut state = self.turns.lock();
        let mut status = self.status();
        match status.phase {
            Phase::Idle => status.phase = self.come(&mut state),
            Phase::Runs => status.phase = Phase::RunsAgain,
            Phase::Waits | Phase::HasTurn | Phase::GivenEarly | Phase::RunsAgain | Phase::Gone => return,
        }
        if status.phase == Phase::HasTurn
            && let Some(task) = status.task.clone()
        {
            drop((status, state));
            task.wake();
        }
    }
}

/// A program's part in the turns of its user, from its launch to its end.
pub(crate) struct Turn(Arc<Entry>);

impl Turn {
    /// Takes a turn or a place among those that wait.
    pub(crate) fn new(turns: &Arc<Turns>) -> Turn {
        let entry = Arc::new(Entry {
            turns: turns.clone(),
            status: Mutex::new(Status { phase: Phase::Idle, task: None }),
        });
        let mut state = turns.lock();
        entry.status().phase = entry.come(&mut state);
        drop(state);
        Turn(entry)
    }

    /// Runs the program in its turns.
    pub(crate) fn run<F: Future + Unpin>(&self, program: F) -> InTurn<'_, F> {
        InTurn { program, entry: &self.0, waker: self.0.clone().into() }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.turns.lock();
        let before =
            std::mem::replace(&mut *self.0.status(), Status { phase: Phase::Gone, task: None }).phase;
        // One that panics while it runs ends with its turn.
        let next = match before {
            Phase::HasTurn | Phase::GivenEarly | Phase::Runs | Phase::RunsAgain => state.give(),
            Phase::Idle | Phase::Waits | Phase::Gone => None,
        };
        drop(state);
        if let Some(task) = next {
            task.wake();
        }
    }
}

/// See [`Turn::run`].
pub(crate) struct InTurn<'a, F> {
    program: F,
    entry: &'a Arc<Entry>,
    waker: Waker,
}

impl<F: Future + Unpin> Future for InTurn<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let InTurn { program, entry, waker } = &mut *self;
        {
            let _state = entry.turns.lock();
            let mut status = entry.status();
            status.task = Some(context.waker().clone());
            match status.phase {
                Phase::HasTurn => {}
                Phase::GivenEarly => {
                    // To the end of the line, where a turn of now would have brought it.
                    status.phase = Phase::HasTurn;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // Its task may be woken for something else.
                _ => return Poll::Pending,
            }
            status.phase = Phase::Runs;
        }
        let result = Pin::new(program).poll(&mut Context::from_waker(waker));
        let mut state = entry.turns.lock();
        let next = state.give();
        let mut status = entry.status();
        status.phase = match (&result, status.phase) {
            (Poll::Ready(_), _) => Phase::Gone,
            (_, Phase::RunsAgain) => entry.come(&mut state),
            _ => Phase::Idle,
        };
        let again = (status.phase == Phase::HasTurn).then(|| context.waker().clone());
        drop((status, state));
        for task in next.into_iter().chain(again) {
            task.wake();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use futures::future::{BoxFuture, join_all};
    use tokio::task::yield_now;

    use super::*;

    fn turns(programs: usize) -> Arc<Turns> {
        Arc::new(Turns::new(programs))
    }

    /// As a launch does it.
    fn spawn<T: Send + 'static>(
        turns: &Arc<Turns>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let turn = Turn::new(turns);
        tokio::spawn(async move { turn.run(Box::pin(work)).await })
    }

    #[tokio::test]
    async fn who_is_ready_later_does_not_wait_for_all_of_another_user() {
        let (many, one) = (turns(2), turns(2));
        let polls = Arc::new(AtomicUsize::new(0));
        let begun: Vec<_> = (0..500)
            .map(|_| {
                let polls = polls.clone();
                spawn(&many, async move { polls.fetch_add(1, Ordering::SeqCst) })
            })
            .collect();
        let seen = polls.clone();
        let last = spawn(&one, async move { seen.load(Ordering::SeqCst) });
        let before = last.await.unwrap();
        assert!(before <= 16, "{before} programs of another user ran before");
        join_all(begun).await;
        assert_eq!(polls.load(Ordering::SeqCst), 500);
        assert_eq!(many.lock().free, 2);
    }

    #[test]
    fn those_of_a_user_take_turns_in_order_and_give_them_back() {
        let turns = turns(1);
        let order = Arc::new(Mutex::new(Vec::new()));
        let program = |name: u32| {
            let (order, turn) = (order.clone(), Turn::new(&turns));
            let work = async move {
                for _ in 0..2 {
                    order.lock().unwrap().push(name);
                    // Outside a runtime this wakes at once.
                    yield_now().await;
                }
            };
            async move { turn.run(work.boxed()).await }.boxed()
        };
        let order_is = |names: &[u32]| assert_eq!(*order.lock().unwrap(), names);
        let poll = |program: &mut BoxFuture<'static, ()>| {
            program.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending()
        };
        let (mut a, mut b, c) = (program(0), program(1), program(2));
        // However often it is polled: it has no turn.
        assert!(poll(&mut b) && poll(&mut b));
        order_is(&[]);
        assert!(poll(&mut a) && poll(&mut a));
        order_is(&[0]);
        assert!(poll(&mut b) && poll(&mut a) && poll(&mut b));
        order_is(&[0, 1]);
        // Who is next goes away, and its turn to the one after it.
        drop(c);
        assert!(poll(&mut a));
        order_is(&[0, 1, 0]);
        drop(a);
        assert!(poll(&mut b));
        order_is(&[0, 1, 0, 1]);
        drop(b);
        assert_eq!(turns.lock().free, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_lost_when_many_come_go_and_panic() {
        let turns = turns(2);
        let work = |index: u64| -> BoxFuture<'static, u64> {
            async move {
                for step in 0..index % 7 {
                    if index % 50 == 49 && step == 3 {
                        panic!("as a program of the host might");
                    }
                    match (index + step) % 3 {
                        0 => tokio::time::sleep(std::time::Duration::from_micros(index % 300)).await,
                        _ => yield_now().await,
                    }
                }
                index
            }
            .boxed()
        };
        let tasks: Vec<_> = (0..2000).map(|index| spawn(&turns, work(index))).collect();
        for (index, task) in tasks.into_iter().enumerate() {
            if index % 11 == 0 {
                task.abort();
            }
            match task.await {
                Ok(value) => assert_eq!(value, index as u64),
                Err(error) => assert!(error.is_cancelled() == (index % 11 == 0) || error.is_panic()),
            }
        }
        let state = turns.lock();
        assert_eq!(
            (state.free, state.waiting.iter().filter(|p| p.status().phase == Phase::Waits).count()),
            (2, 0)
        );
    }
}

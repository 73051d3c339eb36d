//! Turns of a user's programs on the threads that run programs.
//!
//! Those threads take up what is ready in the order in which it became so: behind five hundred programs of one user that
//! are ready at once, another user's would wait for all of them. So no more programs of a user are ready, or run, than
//! there are threads. The others wait for each other, in order, and the threads come to everybody else's between.
//!
//! And a program that computes without end would take a processor from the threads of a batch, which wait for each other.
//! So where programs of several users are there, those of a user that has run for long lately go to the
//! [background](crate::background), until the user has rested.
//!
//! ```text
//!                woken                                      the user ran little lately ─► tokio's threads ─┐
//!     idle ───────────────► waits for a turn ─► has a turn ─┤                                              ├─► idle
//!                                                           others are there, it ran long ─► background ───┘
//! ```

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_task::{Runnable, Task};
use tokio::runtime::Handle;

use crate::background::Background;

/// Who has run for longer lately runs in the background: more than a program needs for a prompt or between two tokens.
const LONG: Duration = Duration::from_millis(10);
/// What counts at most: so long a user rests, times [`RESTS`], until its programs are as those of others.
const LONGEST: Duration = Duration::from_millis(100);
/// A user that runs for one part of so many never runs for long.
const RESTS: u32 = 4;

/// The threads that run programs, of all users.
pub(crate) struct Threads {
    programs: usize,
    /// Users with programs that have not ended.
    users: AtomicUsize,
    background: OnceLock<Background>,
}

impl Threads {
    /// So many programs run at once.
    pub(crate) fn new(programs: usize) -> Threads {
        Threads { programs: programs.max(1), users: AtomicUsize::new(0), background: OnceLock::new() }
    }

    fn background(&self, handle: &Handle) -> &Background {
        self.background.get_or_init(|| Background::new(self.programs, handle))
    }
}

/// The turns of one user.
pub(crate) struct Turns {
    threads: Arc<Threads>,
    /// Programs that have not ended.
    present: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    free: usize,
    waiting: VecDeque<Runnable>,
    lately: Lately,
}

impl Turns {
    pub(crate) fn new(threads: &Arc<Threads>) -> Turns {
        let lately = Lately { ran: Duration::ZERO, at: Instant::now() };
        let state = State { free: threads.programs, waiting: VecDeque::new(), lately };
        Turns { threads: threads.clone(), present: AtomicUsize::new(0), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a program in its turns. Dropping the task ends it, in a turn; a panic goes to who awaits the task.
    pub(crate) fn spawn<T: Send + 'static>(
        self: &Arc<Turns>,
        program: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        let present = Present::new(self);
        let program = async move {
            let _present = present;
            program.await
        };
        let (turns, handle) = (self.clone(), Handle::current());
        let schedule = move |program| turns.woken(program, &handle);
        let builder = async_task::Builder::new().propagate_panic(true);
        let (program, task) = builder.spawn(|()| program, schedule);
        program.schedule();
        task
    }

    /// A program is ready: it takes a turn or a place among those that wait.
    fn woken(self: &Arc<Turns>, program: Runnable, handle: &Handle) {
        let mut state = self.lock();
        if state.free == 0 {
            state.waiting.push_back(program);
            return;
        }
        state.free -= 1;
        drop(state);
        self.begin(program, handle);
    }

    /// Brings a program that has a turn to the threads.
    fn begin(self: &Arc<Turns>, program: Runnable, handle: &Handle) {
        let (turns, own) = (self.clone(), handle.clone());
        let turn = move || turns.take_turn(program, &own);
        match self.runs_long() {
            true => self.threads.background(handle).run(turn),
            false => drop(handle.spawn(async { turn() })),
        }
    }

    /// Runs a program until it waits for something, and gives the turn to who waits longest.
    fn take_turn(self: &Arc<Turns>, program: Runnable, handle: &Handle) {
        if self.has_others() {
            let start = Instant::now();
            program.run();
            self.ran(start);
        } else {
            program.run();
        }
        let mut state = self.lock();
        match state.waiting.pop_front() {
            Some(next) => {
                drop(state);
                self.begin(next, handle);
            }
            None => state.free += 1,
        }
    }

    /// Whether other users have programs.
    fn has_others(&self) -> bool {
        self.threads.users.load(Ordering::Relaxed) > 1
    }

    /// Whether its programs belong in the background now.
    pub(crate) fn runs_long(&self) -> bool {
        self.has_others() && self.lock().lately.after(Instant::now()) > LONG
    }

    /// Counts what ran from `start` until now.
    pub(crate) fn ran(&self, start: Instant) {
        let now = Instant::now();
        let lately = &mut self.lock().lately;
        *lately = Lately { ran: (lately.after(now) + (now - start)).min(LONGEST), at: now };
    }
}

/// How long a user's programs have run lately: it grows by the time they run, on whatever thread, and shrinks with time.
/// It is not processor time: in the background a program waits for a processor and has to count as if it had it.
#[derive(Clone, Copy)]
struct Lately {
    ran: Duration,
    at: Instant,
}

impl Lately {
    fn after(self, now: Instant) -> Duration {
        self.ran.saturating_sub(now.saturating_duration_since(self.at) / RESTS)
    }
}

/// A program that has not ended.
struct Present(Arc<Turns>);

impl Present {
    fn new(turns: &Arc<Turns>) -> Present {
        if turns.present.fetch_add(1, Ordering::Relaxed) == 0 {
            turns.threads.users.fetch_add(1, Ordering::Relaxed);
        }
        Present(turns.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        if self.0.present.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.threads.users.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures::FutureExt;
    use futures::future::{BoxFuture, join_all};
    use tokio::task::yield_now;

    use super::*;

    /// Two users, on threads that run so many programs at once.
    fn users(programs: usize) -> [Arc<Turns>; 2] {
        let threads = Arc::new(Threads::new(programs));
        [(); 2].map(|()| Arc::new(Turns::new(&threads)))
    }

    #[tokio::test]
    async fn who_is_ready_later_does_not_wait_for_all_of_another_user() {
        let [many, one] = users(2);
        let polls = Arc::new(AtomicUsize::new(0));
        let begun: Vec<_> = (0..500)
            .map(|_| {
                let polls = polls.clone();
                many.spawn(async move { polls.fetch_add(1, Ordering::SeqCst) })
            })
            .collect();
        let seen = polls.clone();
        let before = one.spawn(async move { seen.load(Ordering::SeqCst) }).await;
        assert!(before <= 16, "{before} programs of another user ran before");
        join_all(begun).await;
        assert_eq!(polls.load(Ordering::SeqCst), 500);
        assert_eq!(many.lock().free, 2);
    }

    /// Wakes itself before it waits, as a program that spins does at a tick.
    fn again() -> impl Future<Output = ()> {
        let mut waits = true;
        std::future::poll_fn(move |context| {
            context.waker().wake_by_ref();
            match std::mem::take(&mut waits) {
                true => Poll::Pending,
                false => Poll::Ready(()),
            }
        })
    }

    #[tokio::test]
    async fn those_of_a_user_take_turns_in_order_and_give_them_back() {
        let [turns, _] = users(1);
        let order = Arc::new(Mutex::new(Vec::new()));
        let program = |name: u32| {
            let order = order.clone();
            turns.spawn(async move {
                for _ in 0..3 {
                    order.lock().unwrap().push(name);
                    again().await;
                }
            })
        };
        let (a, b, c) = (program(0), program(1), program(2));
        // Its place among those that wait is another's.
        drop(c);
        a.await;
        b.await;
        assert_eq!(*order.lock().unwrap(), [0, 1, 0, 1, 0, 1]);
        until(|| turns.lock().free == 1).await;
    }

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_lost_when_many_come_go_and_panic() {
        let [turns, other] = users(2);
        // So that some run in the background.
        let spins = other.spawn(futures::future::pending::<()>());
        let work = |index: u64| -> BoxFuture<'static, u64> {
            async move {
                for step in 0..index % 7 {
                    if index % 50 == 49 && step == 3 {
                        panic!("as a program of the host might");
                    }
                    if index.is_multiple_of(40) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    match (index + step) % 3 {
                        0 => tokio::time::sleep(Duration::from_micros(index % 300)).await,
                        _ => yield_now().await,
                    }
                }
                index
            }
            .boxed()
        };
        let tasks: Vec<_> = (0..2000).map(|index| turns.spawn(work(index))).collect();
        for (index, task) in tasks.into_iter().enumerate() {
            if index % 11 == 0 {
                drop(task);
                continue;
            }
            match std::panic::AssertUnwindSafe(task).catch_unwind().await {
                Ok(value) => assert_eq!(value, index as u64),
                Err(_) => assert_eq!(index % 50, 49),
            }
        }
        until(|| turns.lock().free == 2 && turns.present.load(Ordering::SeqCst) == 0).await;
        assert!(turns.lock().waiting.is_empty());
        assert!(turns.threads.background.get().is_some(), "none ran long");
        drop(spins);
        until(|| turns.threads.users.load(Ordering::SeqCst) == 0).await;
    }

    /// The names of the threads on which a program runs that needs `run` each time, then `rest`.
    fn threads_of(turns: &Arc<Turns>, run: u64, rest: u64) -> Task<Vec<String>> {
        turns.spawn(async move {
            let mut names = Vec::new();
            for _ in 0..20 {
                names.push(std::thread::current().name().unwrap_or("").to_string());
                std::thread::sleep(Duration::from_millis(run));
                match rest {
                    0 => yield_now().await,
                    rest => tokio::time::sleep(Duration::from_millis(rest)).await,
                }
            }
            names
        })
    }

    fn behind(names: &[String]) -> usize {
        names.iter().filter(|name| *name == "background").count()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_runs_long_makes_way_where_others_are_and_comes_back() {
        let [spins, other] = users(2);
        assert_eq!(behind(&threads_of(&spins, 5, 0).await), 0, "nobody else is there");
        let (leave, present) = tokio::sync::oneshot::channel::<()>();
        let other_is_there = other.spawn(present.map(drop));
        let names = threads_of(&spins, 5, 0).await;
        assert!(behind(&names) >= 10 && names[0] != "background", "{names:?}");
        let ran_long = || spins.lock().lately.after(Instant::now()) > LONG;
        assert!(ran_long());
        let names = threads_of(&other, 0, 5).await;
        assert!(behind(&names) < 10, "it has done next to nothing: {names:?}");
        until(|| !ran_long()).await;
        drop(leave);
        other_is_there.await;
        assert_eq!(behind(&threads_of(&spins, 5, 0).await), 0, "nobody else is there any more");
    }
}

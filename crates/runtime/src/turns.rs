//! The threads that run programs, and the turns of users on them.
//!
//! A thread takes the program that has waited longest of the user whose turn it is, runs it until it waits for something,
//! and goes to the next user: however many programs of one user are ready, another user's waits for one at each thread.
//!
//! And a program that computes without end would take a processor from the threads of a batch, which wait for each other.
//! So where programs of several users are there, those of a user that has run for long lately go to
//! [background](crate::background) threads, until the user has rested.
//!
//! ```text
//!                 woken                              the user ran little lately ─► foreground ─┐
//!     waits ───────────────► in line of its user ──┤                                          ├─► waits, or is woken again
//!                                                    others are there, it ran long ─► background ┘
//! ```
//!
//! They are not the threads of tokio, which has no turns; and to wake a thread that waits for one of them takes less than
//! to wake one that may have to leave a wait for connections.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_task::{Runnable, Task};
use tokio::runtime::Handle;

use crate::background;

/// Who has run for longer lately runs in the background: more than a program needs for a prompt or between two tokens.
const LONG: Duration = Duration::from_millis(10);
/// What counts at most: so long a user rests, times [`RESTS`], until its programs are as those of others.
const LONGEST: Duration = Duration::from_millis(100);
/// A user that runs for one part of so many never runs for long.
const RESTS: u32 = 4;

/// The threads that run programs, of all users. They start with the first program.
pub(crate) struct Threads {
    /// So many of each kind.
    count: usize,
    /// Users with programs that have not ended.
    users: AtomicUsize,
    pool: OnceLock<Arc<Pool>>,
}

impl Threads {
    /// So many programs run at once.
    pub(crate) fn new(count: usize) -> Threads {
        Threads { count: count.max(1), users: AtomicUsize::new(0), pool: OnceLock::new() }
    }

    /// In the context of the tokio runtime that programs need, with which the threads end.
    fn pool(&self) -> &Arc<Pool> {
        self.pool.get_or_init(|| Pool::start(self.count, &Handle::current()))
    }
}

/// The two kinds of threads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Foreground,
    Background,
}

/// The threads and what they share.
#[derive(Default)]
struct Pool {
    line: Mutex<Line>,
    /// What idle threads wait for, by kind.
    woken: [Condvar; 2],
}

/// Users with programs that are ready, by the kind of thread. A user stands in one of them, once.
#[derive(Default)]
struct Line {
    users: [VecDeque<Arc<Turns>>; 2],
    /// Threads that wait.
    idle: [usize; 2],
    /// Threads that run a program.
    running: usize,
    ended: bool,
}

impl Pool {
    fn start(count: usize, handle: &Handle) -> Arc<Pool> {
        let pool = Arc::new(Pool::default());
        for _ in 0..count {
            let (own, context) = (pool.clone(), handle.clone());
            let thread = std::thread::Builder::new().name("program".into());
            let work = move || own.work(Kind::Foreground, &context);
            thread.spawn(work).expect("the system gives a thread");
            let (own, context) = (pool.clone(), handle.clone());
            background::spawn(move || own.work(Kind::Background, &context));
        }
        // Dropped when the runtime ends, before its timers do.
        let end = EndsPool(pool.clone());
        handle.spawn(async move {
            let _end = end;
            std::future::pending::<()>().await
        });
        pool
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        // Nothing in here panics while the lock is held.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does.
    fn work(&self, kind: Kind, context: &Handle) {
        let _context = context.enter();
        while let Some((user, program)) = self.next(kind) {
            user.run(program);
            let mut line = self.lock();
            line.running -= 1;
            if line.ended {
                self.woken.iter().for_each(Condvar::notify_all);
            }
        }
    }

    /// A program is ready: it waits in line, and its user with it.
    fn ready(&self, user: &Arc<Turns>, program: Runnable) {
        let line = self.lock();
        if line.ended {
            return;
        }
        let mut state = user.lock();
        state.ready.push_back(program);
        if state.ready.len() == 1 {
            drop(state);
            self.stand(line, user.clone());
        }
    }

    /// A user with programs that are ready goes to the end of the line where they belong now.
    fn stand(&self, mut line: MutexGuard<'_, Line>, user: Arc<Turns>) {
        let kind = user.kind() as usize;
        line.users[kind].push_back(user);
        let idle = line.idle[kind] > 0;
        drop(line);
        if idle {
            self.woken[kind].notify_one();
        }
    }

    /// What a thread runs next; none when it shall end.
    fn next(&self, kind: Kind) -> Option<(Arc<Turns>, Runnable)> {
        let mut line = self.lock();
        loop {
            if line.ended {
                return None;
            }
            let Some(user) = line.users[kind as usize].pop_front() else {
                line.idle[kind as usize] += 1;
                line = self.woken[kind as usize].wait(line).unwrap_or_else(PoisonError::into_inner);
                line.idle[kind as usize] -= 1;
                continue;
            };
            if user.kind() != kind {
                self.stand(line, user);
                line = self.lock();
                continue;
            }
            let mut state = user.lock();
            let program = state.ready.pop_front().expect("who stands in line has programs that are ready");
            let more = !state.ready.is_empty();
            drop(state);
            line.running += 1;
            if more {
                self.stand(line, user.clone());
            }
            return Some((user, program));
        }
    }

    /// No program runs once this returns; those that are ready are dropped, and others when they become so.
    fn end(&self) {
        let mut line = self.lock();
        line.ended = true;
        let ready: Vec<_> = line.users.iter_mut().flat_map(std::mem::take).collect();
        self.woken.iter().for_each(Condvar::notify_all);
        while line.running > 0 {
            line = self.woken[0].wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        drop(line);
        for user in ready {
            let programs = std::mem::take(&mut user.lock().ready);
            drop(programs);
        }
    }
}

/// Ends the threads when it is dropped.
struct EndsPool(Arc<Pool>);

impl Drop for EndsPool {
    fn drop(&mut self) {
        self.0.end();
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
    /// Programs that are ready, in the order in which they became so.
    ready: VecDeque<Runnable>,
    lately: Lately,
}

impl Turns {
    pub(crate) fn new(threads: &Arc<Threads>) -> Turns {
        let lately = Lately { ran: Duration::ZERO, at: Instant::now() };
        let state = State { ready: VecDeque::new(), lately };
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
        let (turns, pool) = (self.clone(), self.threads.pool().clone());
        let schedule = move |program| pool.ready(&turns, program);
        let builder = async_task::Builder::new().propagate_panic(true);
        let (program, task) = builder.spawn(|()| program, schedule);
        program.schedule();
        task
    }

    /// Runs a program until it waits for something.
    fn run(&self, program: Runnable) {
        if self.has_others() {
            let start = Instant::now();
            program.run();
            self.ran(start);
        } else {
            program.run();
        }
    }

    /// Where its programs belong now.
    fn kind(&self) -> Kind {
        match self.runs_long() {
            true => Kind::Background,
            false => Kind::Foreground,
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

    /// Something that programs wait for without letting go of their thread, until it is dropped.
    fn gate() -> (impl Fn() + Clone + Send + 'static, impl Sized) {
        let (open, opened) = std::sync::mpsc::channel::<()>();
        let opened = Arc::new(Mutex::new(opened));
        (move || _ = opened.lock().unwrap().recv(), open)
    }

    #[tokio::test]
    async fn who_is_ready_later_does_not_wait_for_all_of_another_user() {
        let [many, one] = users(2);
        let polls = Arc::new(AtomicUsize::new(0));
        let (pass, gate) = gate();
        let begun: Vec<_> = (0..500)
            .map(|_| {
                let (polls, pass) = (polls.clone(), pass.clone());
                many.spawn(async move {
                    pass();
                    polls.fetch_add(1, Ordering::SeqCst)
                })
            })
            .collect();
        let seen = polls.clone();
        let before = one.spawn(async move { seen.load(Ordering::SeqCst) });
        drop(gate);
        let before = before.await;
        assert!(before <= 16, "{before} programs of another user ran before");
        join_all(begun).await;
        assert_eq!(polls.load(Ordering::SeqCst), 500);
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
        let (pass, gate) = gate();
        let program = |name: u32| {
            let (order, pass) = (order.clone(), pass.clone());
            turns.spawn(async move {
                pass();
                for _ in 0..3 {
                    order.lock().unwrap().push(name);
                    again().await;
                }
            })
        };
        let (a, b, c) = (program(0), program(1), program(2));
        // Its place among those that wait is another's.
        drop(c);
        drop(gate);
        a.await;
        b.await;
        assert_eq!(*order.lock().unwrap(), [0, 1, 0, 1, 0, 1]);
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
        let behind = Arc::new(AtomicUsize::new(0));
        let work = |index: u64| -> BoxFuture<'static, u64> {
            let behind = behind.clone();
            async move {
                behind.fetch_add((thread_name() == "background").into(), Ordering::SeqCst);
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
        until(|| turns.present.load(Ordering::SeqCst) == 0).await;
        assert!(turns.lock().ready.is_empty());
        assert!(behind.load(Ordering::SeqCst) > 0, "none ran long");
        drop(spins);
        until(|| turns.threads.users.load(Ordering::SeqCst) == 0).await;
    }

    fn thread_name() -> String {
        std::thread::current().name().unwrap_or("").to_string()
    }

    /// The names of the threads on which a program runs that needs `run` each time, then `rest`.
    fn threads_of(turns: &Arc<Turns>, run: u64, rest: u64) -> Task<Vec<String>> {
        turns.spawn(async move {
            let mut names = Vec::new();
            for _ in 0..20 {
                names.push(thread_name());
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

    #[test]
    fn the_threads_end_with_the_runtime_and_what_waits_is_dropped() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let [turns, _] = users(1);
        let held = Arc::new(());
        runtime.block_on(async {
            let program = |held: Arc<()>| async move {
                let _held = held;
                // The timer would panic after the end of its runtime.
                tokio::time::sleep(Duration::from_millis(20)).await;
                std::thread::sleep(Duration::from_millis(5));
                std::future::pending::<()>().await
            };
            (0..50).for_each(|_| turns.spawn(program(held.clone())).detach());
            tokio::time::sleep(Duration::from_millis(50)).await;
        });
        let pool = turns.threads.pool.get().unwrap().clone();
        drop(runtime);
        let line = pool.lock();
        assert!(line.ended && line.running == 0 && line.users.iter().all(VecDeque::is_empty));
        drop(line);
        assert!(turns.lock().ready.is_empty());
        assert!(Arc::strong_count(&held) < 51, "those that were ready are dropped");
    }
}

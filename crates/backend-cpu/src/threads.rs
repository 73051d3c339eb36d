//! The compute threads: a fixed team that runs one job at a time, all members at once.
//!
//! A whole forward pass is one job. Its operations are separated by [`Worker::barrier`], which costs well
//! under a microsecond when all arrive together; a thread that waits longer spins for a moment and then
//! sleeps, so that the team does not take a core from the rest of the server. The calling thread is worker 0.
//! A job that it does alone ([`Team::run_alone`]) takes no lock, wakes nobody and has no barrier. A panic
//! anywhere frees every waiting worker and comes back as an error.

use std::any::Any;
use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Rounds of spinning before a thread sleeps. A pause takes 40 (Zen 3) to 140 (Skylake) cycles: 15 to 45 µs
/// in all.
const SPINS: u32 = 1000;

type Job = Arc<dyn Fn(&Worker) + Send + Sync>;

/// A team of threads. Dropping it ends them.
pub(crate) struct Team {
    control: Arc<Control>,
    threads: Vec<JoinHandle<()>>,
    /// The core that no other worker keeps to, if there is just one.
    core_left: Option<core_affinity::CoreId>,
}

/// Teams of this process so far: the callers of two teams do not keep to the same core.
static TEAMS: AtomicUsize = AtomicUsize::new(0);

impl Team {
    /// A team of `size` workers, the caller of [`Team::run`] among them. With `pin`, the others keep to one
    /// core each; the caller is left where it is until [`Team::own_caller`].
    pub(crate) fn new(size: usize, pin: bool) -> std::io::Result<Team> {
        assert!(size > 0, "a team has at least its caller");
        let control = Arc::new(Control {
            size,
            job: Mutex::new(None),
            started: Gate::default(),
            finished: AtomicUsize::new(0),
            all_finished: Gate::default(),
            arrived: AtomicUsize::new(0),
            passed: Gate::default(),
            next_task: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let mut cores = if pin { core_affinity::get_core_ids().unwrap_or_default() } else { Vec::new() };
        if !cores.is_empty() {
            // Nor those of two processes, where that can be helped.
            let first = TEAMS.fetch_add(1, SeqCst).wrapping_add(std::process::id() as usize);
            let count = cores.len();
            cores.rotate_left(first % count);
        }
        let core_left = cores.first().copied().filter(|_| cores.len() == size);
        let mut team = Team { control, threads: Vec::new(), core_left };
        for index in 1..size {
            let control = Arc::clone(&team.control);
            let core = cores.len().checked_sub(index).map(|i| cores[i]);
            let thread = std::thread::Builder::new().name(format!("compute-{index}")).spawn(move || {
                if let Some(core) = core {
                    core_affinity::set_for_current(core);
                }
                control.serve(index);
            })?;
            team.threads.push(thread);
        }
        Ok(team)
    }

    /// The calling thread is the only one that will call [`Team::run`]: it keeps to the core that the others leave. A
    /// phase takes three times as long while two workers share a core, which the system lets them do for seconds when
    /// something else runs on the other. Where there are cores to spare, it goes where it likes.
    pub(crate) fn own_caller(&self) {
        if let Some(core) = self.core_left {
            core_affinity::set_for_current(core);
        }
    }

    /// Number of workers.
    pub(crate) fn size(&self) -> usize {
        self.control.size
    }

    /// Runs `job` once on every worker and returns when all are done.
    ///
    /// # Errors
    /// The message of the first panic, if any worker panicked.
    pub(crate) fn run(&mut self, job: impl Fn(&Worker) + Send + Sync + 'static) -> Result<(), String> {
        if self.size() == 1 {
            return self.run_alone(job);
        }
        let control = &self.control;
        control.reset();
        let job: Job = Arc::new(job);
        let before = control.all_finished.value();
        *lock(&control.job) = Some(Arc::clone(&job));
        control.started.advance();
        control.work(0, control.size, &*job);
        control.all_finished.wait_past(before);
        *lock(&control.job) = None;
        control.result()
    }

    /// Runs `job` on the calling thread, which is then the only worker: for jobs that would take the others
    /// longer to wake for than to share.
    ///
    /// # Errors
    /// The message of the panic, if the job panicked.
    pub(crate) fn run_alone(&mut self, job: impl Fn(&Worker)) -> Result<(), String> {
        self.control.reset();
        self.control.work(0, 1, &job);
        self.control.result()
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        *lock(&self.control.job) = None;
        self.control.started.advance();
        for thread in self.threads.drain(..) {
            // A worker catches the panics of its jobs, so joining cannot fail; there is nobody to tell if it
            // did.
            let _ = thread.join();
        }
    }
}

/// One member of the team, as the job sees it.
pub(crate) struct Worker<'a> {
    control: &'a Control,
    index: usize,
    /// Workers that do this job.
    size: usize,
    /// Whether this phase handed out its tasks: they are counted once between two barriers.
    tasks_started: Cell<bool>,
}

impl Worker<'_> {
    /// Which worker this is: `0 .. size`.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Workers that do this job.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// This worker's part of `0 .. items`, in whole multiples of `unit` (but for the end).
    pub(crate) fn part(&self, items: usize, unit: usize) -> Range<usize> {
        let units = items.div_ceil(unit);
        let bound = |i: usize| (units * i / self.size * unit).min(items);
        bound(self.index)..bound(self.index + 1)
    }

    /// Tasks `0 .. count`, each given to the first worker that is free. Once between two barriers.
    pub(crate) fn tasks(&self, count: usize) -> impl Iterator<Item = usize> + '_ {
        assert!(!self.tasks_started.replace(true), "tasks are shared out once between two barriers");
        std::iter::from_fn(move || {
            let task = self.control.next_task.fetch_add(1, SeqCst);
            (task < count).then_some(task)
        })
    }

    /// Waits until every worker is here. What they wrote before is visible after.
    pub(crate) fn barrier(&self) {
        let control = self.control;
        self.tasks_started.set(false);
        if self.size == 1 {
            control.next_task.store(0, SeqCst);
            return;
        }
        let before = control.passed.value();
        if control.arrived.fetch_add(1, SeqCst) + 1 == self.size {
            control.arrived.store(0, SeqCst);
            control.next_task.store(0, SeqCst);
            control.passed.advance();
        } else if !control.broken.load(SeqCst) {
            // A panic after this look advances the gate past `before`.
            control.passed.wait_past(before);
        }
        if control.broken.load(SeqCst) {
            resume_unwind(Box::new(TeamBroken));
        }
    }
}

/// Unwinds a worker whose team was broken by another worker's panic.
struct TeamBroken;

struct Control {
    size: usize,
    /// The job being run; `None` when started means the end.
    job: Mutex<Option<Job>>,
    started: Gate,
    finished: AtomicUsize,
    all_finished: Gate,
    arrived: AtomicUsize,
    passed: Gate,
    next_task: AtomicUsize,
    broken: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Control {
    fn serve(&self, index: usize) {
        // Gates start at 0, and no job can have started before this thread was made.
        let mut seen = 0;
        loop {
            // No spinning between jobs: on a machine with as many cores as workers, the programs that were
            // just answered need this core to ask for the next job.
            seen = self.started.sleep_past(seen);
            let Some(job) = lock(&self.job).clone() else { return };
            self.work(index, self.size, &*job);
        }
    }

    /// Before a job.
    fn reset(&self) {
        self.broken.store(false, SeqCst);
        self.arrived.store(0, SeqCst);
        self.next_task.store(0, SeqCst);
        self.finished.store(0, SeqCst);
    }

    /// How the last job ended.
    fn result(&self) -> Result<(), String> {
        lock(&self.failure).take().map_or(Ok(()), Err)
    }

    /// Does the part of worker `index` of `size`.
    fn work(&self, index: usize, size: usize, job: &dyn Fn(&Worker)) {
        let worker = Worker { control: self, index, size, tasks_started: Cell::new(false) };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(&worker)))
            && !panic.is::<TeamBroken>()
        {
            lock(&self.failure).get_or_insert_with(|| format!("worker {index}: {}", message(&*panic)));
            self.broken.store(true, SeqCst);
            self.passed.advance();
        }
        if self.finished.fetch_add(1, SeqCst) + 1 == size {
            self.all_finished.advance();
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

/// A number that only goes up, and threads waiting for it to do so.
#[derive(Default)]
struct Gate {
    value: AtomicU32,
    sleepers: AtomicU32,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Gate {
    fn value(&self) -> u32 {
        self.value.load(SeqCst)
    }

    fn advance(&self) {
        self.value.fetch_add(1, SeqCst);
        // A sleeper announces itself before it looks at the value for the last time, so either it sees the
        // new value or it is seen here; and it holds the lock from that look until it sleeps, so the wake-up
        // comes after.
        if self.sleepers.load(SeqCst) > 0 {
            let _guard = lock(&self.lock);
            self.wake.notify_all();
        }
    }

    /// Waits until the value is no longer `seen`, and returns it.
    fn wait_past(&self, seen: u32) -> u32 {
        for _ in 0..SPINS {
            let value = self.value();
            if value != seen {
                return value;
            }
            std::hint::spin_loop();
        }
        self.sleep_past(seen)
    }

    /// As [`Gate::wait_past`], without spinning before it sleeps.
    fn sleep_past(&self, seen: u32) -> u32 {
        let mut guard = lock(&self.lock);
        self.sleepers.fetch_add(1, SeqCst);
        while self.value() == seen {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, SeqCst);
        self.value()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_sees_the_whole_phase_before_it() {
        for size in [1, 2, 3, 5] {
            let mut team = Team::new(size, false).unwrap();
            let sums: Arc<Vec<AtomicUsize>> = Arc::new((0..300).map(|_| AtomicUsize::new(0)).collect());
            for _ in 0..20 {
                let job_sums = Arc::clone(&sums);
                sums.iter().for_each(|s| s.store(0, SeqCst));
                let job = move |worker: &Worker| {
                    for phase in 0..job_sums.len() {
                        for task in worker.tasks(7) {
                            job_sums[phase].fetch_add(task + 1, SeqCst);
                        }
                        worker.barrier();
                        assert_eq!(job_sums[phase].load(SeqCst), 28);
                    }
                };
                team.run(job).unwrap();
            }
        }
    }

    #[test]
    fn parts_cover_everything_once_in_whole_units() {
        for (items, unit, size) in [(100, 16, 3), (5, 8, 2), (0, 4, 2), (64, 16, 4)] {
            let mut team = Team::new(size, false).unwrap();
            let parts = Arc::new(Mutex::new(vec![0..0; size]));
            let job_parts = Arc::clone(&parts);
            team.run(move |w: &Worker| lock(&job_parts)[w.index()] = w.part(items, unit)).unwrap();
            let parts = lock(&parts);
            assert_eq!((parts[0].start, parts[size - 1].end), (0, items));
            assert!(
                parts.windows(2).all(|w| w[0].end == w[1].start && w[0].end % unit == 0 || w[0].end == items)
            );
        }
    }

    #[test]
    fn a_job_done_alone_has_one_worker_between_jobs_of_all() {
        let mut team = Team::new(3, false).unwrap();
        for _ in 0..50 {
            let ran = AtomicUsize::new(0);
            let alone = |worker: &Worker| {
                assert_eq!((worker.index(), worker.size(), worker.part(10, 4)), (0, 1, 0..10));
                for _ in 0..3 {
                    assert_eq!(worker.tasks(4).count(), 4);
                    worker.barrier();
                }
                ran.fetch_add(1, SeqCst);
            };
            team.run_alone(alone).unwrap();
            assert_eq!(ran.load(SeqCst), 1);
            let all = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&all);
            team.run(move |worker: &Worker| _ = count.fetch_add(worker.size(), SeqCst)).unwrap();
            assert_eq!(all.load(SeqCst), 9);
        }
    }

    #[test]
    fn the_caller_keeps_to_the_core_that_is_left_if_there_is_one() {
        let cores = || core_affinity::get_core_ids().map_or(0, |cores| cores.len());
        let all = cores();
        if all == 0 {
            // A system without affinity.
            return;
        }
        for (size, pin, kept) in [(all, true, 1), (all, false, all), (all + 1, true, all)] {
            let team = Team::new(size, pin).unwrap();
            let seen = std::thread::spawn(move || {
                team.own_caller();
                cores()
            });
            assert_eq!(seen.join().unwrap(), kept, "{size} workers on {all} cores");
        }
        assert_eq!(cores(), all);
    }

    #[test]
    fn a_panic_is_an_error_and_the_team_works_on() {
        for size in [1, 2, 4] {
            let mut team = Team::new(size, false).unwrap();
            for bad in 0..size {
                let job = move |worker: &Worker| {
                    worker.barrier();
                    assert!(worker.index() != bad, "no luck");
                    worker.barrier();
                };
                let error = team.run(job).unwrap_err();
                assert!(error.contains("no luck"), "{error}");
                assert_eq!(team.run(|worker: &Worker| worker.barrier()), Ok(()));
            }
            let error = team.run_alone(|_: &Worker| panic!("no luck alone")).unwrap_err();
            assert!(error.contains("no luck alone"), "{error}");
            assert_eq!(team.run(|worker: &Worker| worker.barrier()), Ok(()));
        }
    }
}

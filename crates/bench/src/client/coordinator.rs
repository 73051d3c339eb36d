//! The one owner of a run's state: what is due, what waits, what is under way.
//!
//! ```text
//! due (heap by moment) -> ready -> waiting for a slot -> a worker -> done -> its successor becomes due
//! ```

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::ClockId;
use tokio::sync::mpsc::UnboundedSender;

use super::api::Ask;
use super::worker::{Job, Order, Report, Shared, cpu_secs, work};
use super::{ClientError, ClientOptions, ClientUse, Observer, Progress, Run, Stop, tls};
use crate::clock::{Clock, Nanos};
use crate::dataset::Message;
use crate::record::{Outcome, Record};
use crate::workload::{Plan, WhenFull};

/// Most worker threads by default: beyond, a server on one machine is not what is measured.
const THREADS_LIMIT: usize = 8;
/// How often an observer hears of a run in which nothing happens.
const TICK: Duration = Duration::from_millis(100);
/// Between the start of the clock and the first moment of the plan, so that workers are there.
const LEAD: Duration = Duration::from_millis(20);

pub(super) fn run(
    plan: &Arc<Plan>,
    options: &Arc<ClientOptions>,
    observer: &dyn Observer,
    stop: &Stop,
) -> Result<Run, ClientError> {
    check_samples(plan, options)?;
    let file_limit = raise_file_limit(plan)?;
    let addresses = resolve(options)?;
    let tls = tls::connector(options)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or(cores.min(THREADS_LIMIT)).max(1);
    let (cpu, own_cpu) = (cpu_secs(ClockId::ProcessCPUTime), cpu_secs(ClockId::ThreadCPUTime));
    let clock = Clock::start();
    let (plan, options) = (Arc::clone(plan), Arc::clone(options));
    let shared =
        Shared { plan: Arc::clone(&plan), options, clock, addresses, tls, connections: AtomicU64::new(0) };
    let shared = Arc::new(shared);
    let (report, reports) = mpsc::channel();
    let mut workers = Vec::new();
    let mut threads_left = Vec::new();
    for index in 0..threads {
        let (order, orders) = tokio::sync::mpsc::unbounded_channel();
        let (shared, report) = (Arc::clone(&shared), report.clone());
        let thread = std::thread::Builder::new().name(format!("bench-worker-{index}"));
        threads_left.push(thread.spawn(move || work(shared, orders, report)).map_err(ClientError::Worker)?);
        workers.push(order);
    }
    drop(report);
    let mut coordinator = Coordinator::new(&plan, &shared, workers, observer);
    let interrupted = coordinator.run(&reports, stop);
    let records = std::mem::take(&mut coordinator.records);
    // Dropping the orders ends the workers.
    drop(coordinator);
    let mut workers_busy = Vec::new();
    let wall_secs = clock.now().secs();
    while let Ok(report) = reports.recv() {
        if let Report::Over(busy) = report {
            workers_busy.push(busy / wall_secs);
        }
    }
    for thread in threads_left {
        // A panic of a worker has been printed; its requests are without an end, which their records say.
        let _ = thread.join();
    }
    workers_busy.sort_by(|a, b| b.total_cmp(a));
    let used = ClientUse {
        cpu_secs: cpu_secs(ClockId::ProcessCPUTime) - cpu,
        wall_secs,
        workers_busy,
        coordinator_busy: (cpu_secs(ClockId::ThreadCPUTime) - own_cpu) / wall_secs,
        connections: shared.connections.load(Ordering::Relaxed),
        file_limit: file_limit as u64,
        peak_memory_bytes: crate::telemetry::process::peak_memory_bytes(std::process::id()).unwrap_or(0),
    };
    Ok(Run { records, clock, interrupted, used })
}

/// Every sample makes a body: what cannot be asked is refused before anything is sent.
fn check_samples(plan: &Plan, options: &ClientOptions) -> Result<(), ClientError> {
    for request in &plan.requests {
        let sample = &plan.samples[request.sample];
        let history = [Message::user("")];
        let history = if request.after.is_some() { &history[..] } else { &[] };
        let ask = Ask {
            model: options.model.as_deref(),
            prompt: &sample.prompt,
            history,
            output_tokens: sample.output_tokens,
            stream: options.stream,
            extra: [&options.extra_body, &sample.extra_body],
        };
        // The kinds of prompts are few, so a text of any length is as good as an empty one.
        if matches!(sample.prompt, crate::dataset::Prompt::Tokens(_)) || request.after.is_some() {
            options.api.body(&ask).map_err(|why| ClientError::Sample { sample: request.sample, why })?;
        }
    }
    Ok(())
}

/// Raises the limit of open files to what the system allows, and returns it.
fn raise_file_limit(plan: &Plan) -> Result<usize, ClientError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // What cannot be raised is looked at below.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize);
    // An open loop may have any number under way; only a bound that is asked for can be judged beforehand.
    let needed = plan.limit.requests.unwrap_or(0).max(plan.users).min(plan.requests.len()) + 50;
    if needed > limit {
        return Err(ClientError::Files { needed, limit });
    }
    Ok(limit)
}

pub(super) fn resolve(options: &ClientOptions) -> Result<Vec<SocketAddr>, ClientError> {
    let address = &options.address;
    let found = (address.host.as_str(), address.port).to_socket_addrs();
    Ok(found.map_err(|error| ClientError::Resolve { host: address.host.clone(), error })?.collect())
}

struct Coordinator<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    observer: &'a dyn Observer,
    workers: Vec<UnboundedSender<Order>>,
    next_worker: usize,
    /// Requests by the moment they are due; with a user's pause over, too.
    due: BinaryHeap<Reverse<(Nanos, usize)>>,
    /// Requests of the closed loop that no user has taken up.
    free: VecDeque<usize>,
    users_free: usize,
    /// Requests that are due and have no slot: index, intended, enqueued.
    waiting: VecDeque<(usize, Nanos, Nanos)>,
    /// First turns that wait for another session to end.
    waiting_sessions: VecDeque<(usize, Nanos, Nanos)>,
    sessions: usize,
    in_flight: usize,
    successors: HashMap<usize, Vec<usize>>,
    /// Requests of each session that are not over.
    left_of_session: HashMap<u32, usize>,
    histories: HashMap<u32, Arc<Vec<Message>>>,
    records: Vec<Record>,
    over: BTreeMap<usize, Record>,
    finished: usize,
    failed: usize,
    rng: fastrand::Rng,
}

impl<'a> Coordinator<'a> {
    fn new(
        plan: &'a Plan,
        shared: &'a Shared,
        workers: Vec<UnboundedSender<Order>>,
        observer: &'a dyn Observer,
    ) -> Self {
        let mut coordinator = Self {
            plan,
            shared,
            observer,
            workers,
            next_worker: 0,
            due: BinaryHeap::new(),
            free: VecDeque::new(),
            users_free: plan.users,
            waiting: VecDeque::new(),
            waiting_sessions: VecDeque::new(),
            sessions: 0,
            in_flight: 0,
            successors: HashMap::new(),
            left_of_session: HashMap::new(),
            histories: HashMap::new(),
            records: Vec::new(),
            over: BTreeMap::new(),
            finished: 0,
            failed: 0,
            rng: fastrand::Rng::with_seed(shared.options.seed ^ 0xaba2_d02e),
        };
        for (index, request) in plan.requests.iter().enumerate() {
            if let Some(session) = plan.samples[request.sample].session {
                *coordinator.left_of_session.entry(session).or_default() += 1;
            }
            match (request.after, request.at) {
                (Some(before), _) => coordinator.successors.entry(before).or_default().push(index),
                (None, Some(at)) => coordinator.due.push(Reverse((at.plus(LEAD.into()), index))),
                (None, None) => coordinator.free.push_back(index),
            }
        }
        coordinator
    }

    /// Runs to the end. Says whether it was stopped before.
    fn run(&mut self, reports: &Receiver<Report>, stop: &Stop) -> bool {
        let mut next_tick = Nanos(0);
        let mut interrupted = false;
        while self.finished < self.plan.requests.len() {
            let now = self.shared.clock.now();
            let is_late = self.plan.stop_at.is_some_and(|at| now > at.plus(LEAD.into()));
            if !interrupted && (stop.is_stopped() || is_late) {
                interrupted = true;
                self.cancel(now);
            }
            self.take_due(now);
            self.release();
            if now >= next_tick {
                self.observer.tick(&self.progress(now));
                next_tick = now.plus(TICK.into());
            }
            let next = self.due.peek().map_or(next_tick, |Reverse((at, _))| (*at).min(next_tick));
            let wait = Duration::from(next.since(self.shared.clock.now()));
            match reports.recv_timeout(wait) {
                Ok(report) => {
                    self.took(report);
                    // Those that came together are taken together.
                    while let Ok(report) = reports.try_recv() {
                        self.took(report);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // All workers are gone, by a panic: what is left has no end.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.records = std::mem::take(&mut self.over).into_values().collect();
        self.observer.tick(&self.progress(self.shared.clock.now()));
        interrupted
    }

    fn progress(&self, at: Nanos) -> Progress {
        Progress {
            at,
            planned: self.plan.requests.len(),
            finished: self.finished,
            failed: self.failed,
            in_flight: self.in_flight,
            waiting: self.waiting.len() + self.waiting_sessions.len(),
        }
    }

    /// Moves what is due to where it waits for a slot.
    fn take_due(&mut self, now: Nanos) {
        while let Some(Reverse((at, index))) = self.due.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.due.pop();
            self.ready(index, at, self.shared.clock.now());
        }
        while self.users_free > 0 {
            let Some(index) = self.free.pop_front() else { break };
            self.users_free -= 1;
            // A user has no moment of its own but this one, so nothing is late and nothing waits.
            let start = now.max(LEAD.into());
            let think = if self.finished == 0 { Nanos(0) } else { self.plan.requests[index].think };
            self.due.push(Reverse((start.plus(think), index)));
            if think == Nanos(0) && start <= now {
                self.due.pop();
                self.ready(index, now, now);
            }
        }
    }

    fn ready(&mut self, index: usize, intended: Nanos, enqueued: Nanos) {
        let sample = &self.plan.samples[self.plan.requests[index].sample];
        let begins_session = sample.session.is_some() && self.plan.requests[index].after.is_none();
        if let (true, Some(limit)) = (begins_session, self.plan.limit.sessions) {
            if self.sessions >= limit {
                self.waiting_sessions.push_back((index, intended, enqueued));
                return;
            }
            self.sessions += 1;
        }
        let is_full =
            self.plan.limit.requests.is_some_and(|limit| self.in_flight + self.waiting.len() >= limit);
        if is_full && self.plan.limit.when_full == WhenFull::Drop {
            let record = self.record(index, intended, enqueued, Outcome::Dropped);
            self.end(record);
        } else {
            self.waiting.push_back((index, intended, enqueued));
        }
    }

    fn record(&self, index: usize, intended: Nanos, enqueued: Nanos, outcome: Outcome) -> Record {
        let sample = &self.plan.samples[self.plan.requests[index].sample];
        let mut record = Record::planned(index, intended, enqueued, outcome);
        record.request_id = format!("{}{index}", self.shared.options.request_id_prefix);
        (record.session, record.turn) = (sample.session, sample.turn);
        record.planned_prompt_tokens = sample.prompt_tokens;
        record.requested_output_tokens = sample.output_tokens;
        record
    }

    /// Gives slots to what waits.
    fn release(&mut self) {
        while self.plan.limit.requests.is_none_or(|limit| self.in_flight < limit) {
            let Some((index, intended, enqueued)) = self.waiting.pop_front() else { break };
            let mut record = self.record(index, intended, enqueued, Outcome::Cancelled);
            let released = self.shared.clock.now();
            record.released = Some(released);
            let history = record.session.and_then(|session| self.histories.get(&session).cloned());
            let abandon = self.shared.options.abandon.filter(|abandon| self.rng.f64() < abandon.share);
            let abandon_at = abandon.map(|abandon| released.plus(abandon.after.into()));
            let job = Job { index, record, history: history.unwrap_or_default(), abandon_at };
            self.in_flight += 1;
            // A worker that is gone has closed its channel, and its requests end with the run.
            let _ = self.workers[self.next_worker].send(Order::Job(Box::new(job)));
            self.next_worker = (self.next_worker + 1) % self.workers.len();
        }
    }

    fn took(&mut self, report: Report) {
        let Report::Done(record) = report else { return };
        self.in_flight -= 1;
        if self.plan.requests[record.index].at.is_none() {
            self.users_free += 1;
        }
        self.end(*record);
    }

    /// A request is over, in whatever way.
    fn end(&mut self, mut record: Record) {
        let index = record.index;
        let completed = record.completed();
        self.finished += 1;
        self.failed += usize::from(!completed);
        if let Some(session) = record.session {
            self.end_turn(session, &mut record);
        }
        for next in self.successors.remove(&index).unwrap_or_default() {
            if completed {
                let request = &self.plan.requests[next];
                let own = request.at.unwrap_or_default().plus(LEAD.into());
                self.due.push(Reverse((own.max(record.end.plus(request.think)), next)));
            } else {
                let skipped = self.record(next, record.end, record.end, Outcome::Skipped);
                self.end(skipped);
            }
        }
        if !self.shared.options.keep_text {
            record.text = String::new();
        }
        self.observer.finished(&record, &self.progress(record.end));
        self.over.insert(index, record);
    }

    fn end_turn(&mut self, session: u32, record: &mut Record) {
        if record.completed() && self.successors.contains_key(&record.index) {
            let sample = &self.plan.samples[self.plan.requests[record.index].sample];
            let history = self.histories.entry(session).or_default();
            let history = Arc::make_mut(history);
            history.extend(sample.prompt.messages().unwrap_or_default());
            history.push(Message::assistant(record.text.as_str()));
        }
        let left = self.left_of_session.entry(session).or_insert(1);
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.histories.remove(&session);
            self.sessions = self.sessions.saturating_sub(1);
            if let (Some(_), Some((index, intended, enqueued))) =
                (self.plan.limit.sessions, self.waiting_sessions.pop_front())
            {
                self.ready(index, intended, enqueued);
            }
        }
    }

    /// Cancels what is under way and skips the rest.
    fn cancel(&mut self, now: Nanos) {
        for worker in &self.workers {
            let _ = worker.send(Order::Cancel);
        }
        let due = std::mem::take(&mut self.due).into_iter().map(|Reverse((at, index))| (index, at));
        let waiting =
            std::mem::take(&mut self.waiting).into_iter().chain(std::mem::take(&mut self.waiting_sessions));
        let free = std::mem::take(&mut self.free).into_iter().map(|index| (index, now));
        let left: Vec<_> =
            due.chain(waiting.map(|(index, intended, _)| (index, intended))).chain(free).collect();
        for (index, intended) in left {
            let record = self.record(index, intended, now.max(intended), Outcome::Skipped);
            self.end(record);
        }
    }
}

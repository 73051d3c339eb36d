//! The loop of the engine's thread.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backend::{Backend, BackendError, Batch, Output};
use rustc_hash::FxHashMap;

use super::Observers;
use super::inbox::{Answer, Handled, Inbox, Message, Queued, Wait};
use crate::config::{EngineConfig, SchedulerConfig};
use crate::observe::{BatchObserver, BatchRecord, Planned};
use crate::ops::{CallError, ContextOp};
use crate::prefix_events::Watch;
use crate::request::{ContextId, ForwardError, ForwardReply, OwnerId, Ticket};
use crate::state::{NextStep, Scheduler};
use crate::stats::Stats;

pub(super) struct Driver {
    backend: Box<dyn Backend>,
    scheduler: Scheduler,
    /// Who is told of the prefix cache.
    watch: Option<Watch>,
    inbox: Arc<Inbox>,
    spin: Duration,
    start: Instant,
    /// Just taken from the inbox.
    messages: VecDeque<Queued>,
    /// Taken before, and not handled yet.
    backlog: BTreeMap<OwnerId, VecDeque<Queued>>,
    /// Time that the messages of each owner took since the last batch.
    spent: FxHashMap<OwnerId, Duration>,
    handled: Handled,
    answers: FxHashMap<Ticket, Answer<ForwardReply, ForwardError>>,
    batch: Batch,
    output: Output,
    /// When abandoned passes were last looked for.
    abandon_scan_at: Duration,
    observer: Option<Box<dyn BatchObserver>>,
}

/// A batch that somebody wants to know of, while it runs.
struct Watched {
    began: Instant,
    planned: Planned,
    before: Stats,
}

/// How often abandoned passes are looked for: shorter than a batch, so none of them goes on to a second chunk.
const ABANDONED: Duration = Duration::from_micros(200);

/// How long the messages of one owner may take between two batches: a tenth of a batch of a small model. One that forks and
/// drops a context of a thousand pages, over and over, has thousands of messages of 0.1 ms in the inbox.
pub(super) const SHARE: Duration = Duration::from_micros(50);
/// The most a thread may spin: more would take the core from the inferlets it waits for.
const SPIN_MAX: Duration = Duration::from_micros(50);

impl Driver {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        scheduler: SchedulerConfig,
        engine: &EngineConfig,
        inbox: Arc<Inbox>,
        observers: Observers,
    ) -> Driver {
        let mut scheduler = Scheduler::new(backend.limits(), scheduler);
        Driver {
            watch: observers.prefixes.map(|watcher| Watch::new(&mut scheduler, watcher)),
            scheduler,
            backend,
            inbox,
            spin: engine.spin.min(SPIN_MAX),
            start: Instant::now(),
            messages: VecDeque::new(),
            backlog: BTreeMap::new(),
            spent: FxHashMap::default(),
            handled: Handled::default(),
            answers: FxHashMap::default(),
            batch: Batch::default(),
            output: Output::default(),
            abandon_scan_at: Duration::ZERO,
            observer: observers.batches,
        }
    }

    /// Works until the engine is shut down.
    ///
    /// # Errors
    /// When the scheduler panicked, with its words. Its state cannot be trusted then, and there is nobody to go on: every
    /// pass is answered with that, every call as closed.
    pub(super) fn run(mut self) -> Result<(), String> {
        let _closing = Closing(self.inbox.clone());
        self.backend.own_thread();
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work())) else {
            self.close(&ForwardError::Closed);
            return Ok(());
        };
        let text = format!("the scheduler panicked: {}", panic_text(panic.as_ref()));
        tracing::error!(error = text, "the engine ends");
        self.inbox.close();
        let mut late = VecDeque::new();
        self.inbox.take(&mut late);
        self.messages.append(&mut late);
        self.close(&ForwardError::Backend(text.clone()));
        Err(text)
    }

    fn work(&mut self) {
        loop {
            let open = self.inbox.take(&mut self.messages);
            if !open {
                return;
            }
            self.drain();
            self.unload_adapters();
            self.cancel_abandoned();
            let plan = self.scheduler.plan(self.start.elapsed(), &mut self.batch);
            if plan == NextStep::Run {
                self.run_batch();
            }
            self.answer();
            if let Some(watch) = &mut self.watch {
                watch.tell(&mut self.scheduler);
            }
            let (until, arrivals) = match plan {
                // Owners that were answered may be back already; the next plan knows how long to wait for the others.
                NextStep::Run => continue,
                _ if !self.backlog.is_empty() => continue,
                NextStep::WaitUntil { until, arrivals } => (self.start.checked_add(until), arrivals),
                NextStep::Idle => (None, 1),
            };
            let (spin, wake_on_any) = (self.spin, self.scheduler.blocked());
            self.inbox.wait(&Wait { until, arrivals: arrivals as usize, wake_on_any, spin });
        }
    }

    /// Handles the messages of the server, and those of each owner as far as its share goes, in order.
    fn drain(&mut self) {
        self.spent.clear();
        let mut last = Instant::now();
        // They stay where they are until their turn: what waits when the scheduler panics is answered.
        let owners: Vec<OwnerId> = self.backlog.keys().copied().collect();
        for owner in owners {
            while !self.is_spent(owner)
                && let Some(queued) = self.backlog.get_mut(&owner).and_then(VecDeque::pop_front)
            {
                self.handle(queued);
                self.charge(owner, &mut last);
            }
        }
        self.backlog.retain(|_, queue| !queue.is_empty());
        while let Some(queued) = self.messages.pop_front() {
            match queued.owner {
                Some(owner) if self.backlog.contains_key(&owner) || self.is_spent(owner) => {
                    self.put_off(owner, queued);
                }
                Some(owner) => {
                    self.handle(queued);
                    self.charge(owner, &mut last);
                }
                None => {
                    self.handle(queued);
                    last = Instant::now();
                }
            }
        }
        self.inbox.handled(&mut self.handled);
    }

    /// Whether an owner has used up its share until the next batch.
    fn is_spent(&self, owner: OwnerId) -> bool {
        self.spent.get(&owner).is_some_and(|spent| *spent >= SHARE)
    }

    /// Charges an owner with the time since `last`.
    fn charge(&mut self, owner: OwnerId, last: &mut Instant) {
        let now = Instant::now();
        *self.spent.entry(owner).or_default() += now - std::mem::replace(last, now);
    }

    /// Puts a message behind those of its owner. An owner that is gone wants nothing any more: what it sent goes, but for
    /// what gives back snapshots, which are its user's.
    fn put_off(&mut self, owner: OwnerId, queued: Queued) {
        let queue = self.backlog.entry(owner).or_default();
        if matches!(queued.message, Message::Op(ContextOp::OwnerGone { .. })) {
            let handled = &mut self.handled;
            queue.retain(|before| {
                let stays = matches!(before.message, Message::Op(ContextOp::DropSnapshot { .. }));
                if !stays {
                    handled.add(before);
                }
                stays
            });
        }
        queue.push_back(queued);
    }

    fn handle(&mut self, queued: Queued) {
        self.handled.add(&queued);
        match queued.message {
            Message::Forward(request, answer) => {
                if answer.is_canceled() {
                    return;
                }
                self.cancel_if_abandoned(request.context);
                let ticket = request.ticket;
                match self.scheduler.submit(*request, self.start.elapsed()) {
                    Ok(()) => drop(self.answers.insert(ticket, answer)),
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Message::Op(op) => {
                if let ContextOp::Truncate { context, .. }
                | ContextOp::Remove { context, .. }
                | ContextOp::Append { to: context, .. } = &op
                {
                    self.cancel_if_abandoned(*context);
                }
                if let Err(error) = self.scheduler.apply(op) {
                    tracing::debug!(%error, "operation refused");
                    self.scheduler.count_refused();
                }
            }
            Message::Call(call) => call(Ok((&mut self.scheduler, self.backend.as_mut()))),
        }
    }

    /// Unloads adapters that nobody has any more. Passes that used them were cancelled before.
    fn unload_adapters(&mut self) {
        for adapter in self.scheduler.orphaned_adapters() {
            let unload = || {
                self.backend.unload_adapter(adapter);
                Ok(())
            };
            if let Err(error) = guard(unload) {
                tracing::error!(%error, ?adapter, "an adapter was not unloaded");
            }
        }
    }

    /// Cancels the pass in flight on a context if nobody waits for its answer any more.
    fn cancel_if_abandoned(&mut self, context: ContextId) {
        if let Some(ticket) = self.scheduler.pass_of(context)
            && self.answers.get(&ticket).is_some_and(|answer| answer.is_canceled())
        {
            self.scheduler.cancel(ticket);
        }
    }

    /// Cancels all passes whose answer nobody waits for; now and then, since it walks them all.
    fn cancel_abandoned(&mut self) {
        let now = self.start.elapsed();
        if now < self.abandon_scan_at + ABANDONED {
            return;
        }
        self.abandon_scan_at = now;
        let abandoned = self.answers.iter().filter(|(_, answer)| answer.is_canceled());
        let mut abandoned: Vec<Ticket> = abandoned.map(|(ticket, _)| *ticket).collect();
        abandoned.sort_unstable();
        for ticket in abandoned {
            self.scheduler.cancel(ticket);
        }
    }

    fn answer(&mut self) {
        for (ticket, result) in self.scheduler.replies() {
            if let Some(answer) = self.answers.remove(&ticket) {
                // The receiver may be gone.
                answer.send(result).ok();
            }
        }
    }

    fn run_batch(&mut self) {
        let watched = self.watch();
        let Driver { backend, scheduler, batch, output, .. } = self;
        let mut compute = Duration::ZERO;
        let mut moved = None;
        let run = || {
            scheduler.carry_out(backend.as_mut())?;
            let start = Instant::now();
            moved = Some(start);
            let result = backend.run(batch, output);
            compute = start.elapsed();
            result
        };
        let failed = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(())) if self.output.values.len() == self.batch.outputs.len() => None,
            Ok(Ok(())) => {
                Some(format!("{} values for {} outputs", self.output.values.len(), self.batch.outputs.len()))
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(panic) => Some(format!("the backend panicked: {}", panic_text(panic.as_ref()))),
        };
        let result = match failed {
            None => Ok(&mut self.output),
            Some(text) => {
                tracing::error!(error = text, sequences = self.batch.sequences.len(), "batch failed");
                self.scheduler.abandon_moves();
                Err(ForwardError::Backend(text))
            }
        };
        let failed = result.is_err();
        self.scheduler.complete(result, compute, self.start.elapsed());
        if let Some(watched) = watched {
            self.tell(watched, moved, failed);
        }
        // Before the answers go out: what outputs share with their programs is theirs alone again, to change in place.
        self.batch.clear();
    }

    /// The batch that begins, if the observer wants to know of it.
    fn watch(&self) -> Option<Watched> {
        let wants = self.observer.as_ref().is_some_and(|observer| observer.wants());
        wants.then(|| Watched {
            began: Instant::now(),
            planned: self.scheduler.planned(),
            before: self.scheduler.stats(),
        })
    }

    /// Tells the observer of a batch, whose moves were done at a time unless they failed.
    fn tell(&mut self, Watched { began, planned, before }: Watched, moved: Option<Instant>, failed: bool) {
        let (ended, after) = (Instant::now(), self.scheduler.stats());
        let moved = moved.unwrap_or(ended);
        if let Some(observer) = &mut self.observer {
            observer.batch(BatchRecord { began, moved, ended, planned, failed, before, after });
        }
    }

    /// Answers passes that wait with an error, and calls as closed.
    fn close(mut self, error: &ForwardError) {
        let mut tickets: Vec<Ticket> = self.answers.keys().copied().collect();
        tickets.sort_unstable();
        for ticket in tickets {
            if let Some(answer) = self.answers.remove(&ticket) {
                answer.send(Err(error.clone())).ok();
            }
        }
        let backlog = std::mem::take(&mut self.backlog).into_values().flatten();
        for queued in backlog.chain(self.messages.drain(..)) {
            match queued.message {
                Message::Forward(_, answer) => drop(answer.send(Err(error.clone()))),
                Message::Call(call) => call(Err(CallError::Closed)),
                Message::Op(_) => {}
            }
        }
    }
}

/// Closes the inbox however the thread ends, so that nobody waits for it.
struct Closing(Arc<Inbox>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
        // What came in before: dropping it tells those who wait.
        self.0.take(&mut VecDeque::new());
    }
}

/// Runs a call into the backend; a panic becomes an error.
pub(super) fn guard<T>(call: impl FnOnce() -> Result<T, BackendError>) -> Result<T, CallError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| CallError::Backend(error.to_string())),
        Err(panic) => {
            Err(CallError::Backend(format!("the backend panicked: {}", panic_text(panic.as_ref()))))
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

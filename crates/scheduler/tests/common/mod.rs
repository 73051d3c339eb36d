//! A world in simulated time: users, their streams, and a scheduler over a fake backend. A *stream* is a program that asks for
//! one pass after another.

#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::time::Duration;

use backend::{Backend, Batch, FakeBackend, Limits, Output, OutputKind, SamplingParams};
use scheduler::{
    ContextId, ContextOp, ForwardError, ForwardReply, ForwardRequest, NextStep, OwnerId, Priority, Scheduler,
    SchedulerConfig, TenantId, Ticket,
};

/// Time of a batch on its own, and of each of its rows: about those of a small model on a few cores.
pub(crate) const A: Duration = Duration::from_millis(6);
pub(crate) const B: Duration = Duration::from_millis(1);

/// What a stream asks for, again and again.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    pub(crate) tenant: u64,
    pub(crate) rows: u32,
    pub(crate) priority: Priority,
    /// Time between an answer and the next pass.
    pub(crate) pause: Duration,
    /// Whether its context grows.
    pub(crate) keep_kv: bool,
}

/// A user's stream of single tokens.
pub(crate) fn decoding(tenant: u64) -> Stream {
    Stream { tenant, rows: 1, priority: Priority::Normal, pause: Duration::ZERO, keep_kv: false }
}

pub(crate) struct World {
    backend: FakeBackend,
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Duration,
    /// Time in which a batch was computed.
    pub(crate) computing: Duration,
    pub(crate) streams: BTreeMap<ContextId, Stream>,
    /// Passes to submit, and when.
    due: Vec<(Duration, ContextId)>,
    passes: BTreeMap<Ticket, ContextId>,
    next_id: u64,
    /// Rows answered, by tenant.
    pub(crate) rows: BTreeMap<u64, u64>,
    /// When the passes of each stream were answered.
    pub(crate) answers: BTreeMap<ContextId, Vec<Duration>>,
    /// How long a batch takes.
    pub(crate) time_of: Box<dyn FnMut(&Batch) -> Duration>,
}

impl World {
    /// Nobody in it yet, and a pool of so many pages.
    pub(crate) fn new(pages: u32, config: SchedulerConfig) -> World {
        let limits = Limits {
            pages,
            page_tokens: 16,
            batch_tokens: 2048,
            batch_sequences: 2048,
            row_outputs: 1,
            batch_outputs: 4096,
            batch_output_values: 1 << 20,
            vocabulary: 50,
            hidden: 8,
            context_tokens: 1 << 20,
            encoder: false,
            page_bytes: 0,
        };
        World::with_limits(limits, config)
    }

    /// The same, with limits of one's own.
    pub(crate) fn with_limits(limits: Limits, config: SchedulerConfig) -> World {
        let backend = FakeBackend::with_limits(limits);
        World {
            scheduler: Scheduler::new(backend.limits(), config),
            backend,
            now: Duration::ZERO,
            computing: Duration::ZERO,
            streams: BTreeMap::new(),
            due: Vec::new(),
            passes: BTreeMap::new(),
            next_id: 0,
            rows: BTreeMap::new(),
            answers: BTreeMap::new(),
            time_of: Box::new(|batch| A + B * batch.rows() as u32),
        }
    }

    /// So many streams begin.
    pub(crate) fn add(&mut self, count: u64, stream: Stream) {
        for _ in 0..count {
            self.next_id += 1;
            let id = self.next_id;
            let (context, owner, tenant) = (ContextId(id), OwnerId(id), TenantId(stream.tenant));
            let op = ContextOp::Create { context, owner, priority: stream.priority, tenant };
            self.scheduler.apply(op).unwrap();
            self.streams.insert(context, stream);
            self.due.push((self.now, context));
        }
    }

    /// A user's streams ask for nothing more.
    pub(crate) fn stop(&mut self, tenant: u64) {
        for (context, stream) in &self.streams {
            if stream.tenant == tenant {
                self.scheduler.apply(ContextOp::Drop { context: *context }).unwrap();
                self.due.retain(|(_, due)| due != context);
            }
        }
        self.streams.retain(|_, stream| stream.tenant != tenant);
    }

    fn submit_due(&mut self) {
        let now = self.now;
        let (due, later) = self.due.drain(..).partition(|(at, _)| *at <= now);
        self.due = later;
        let due: Vec<(Duration, ContextId)> = due;
        for (_, context) in due {
            let Some(stream) = self.streams.get(&context) else { continue };
            self.next_id += 1;
            let ticket = Ticket(self.next_id);
            let tokens = (0..stream.rows).map(|row| row % 50).collect();
            let mut request = ForwardRequest::new(ticket, context, tokens);
            let last = request.tokens.len() - 1;
            let is_encoder = self.scheduler.limits().encoder;
            let drawn = || OutputKind::Token(SamplingParams::greedy());
            request.outputs.push((last, if is_encoder { OutputKind::Hidden } else { drawn() }));
            request.keep_kv = stream.keep_kv;
            self.scheduler.submit(request, self.now).unwrap();
            self.passes.insert(ticket, context);
        }
    }

    /// One turn of the engine's loop.
    pub(crate) fn turn(&mut self) {
        self.submit_due();
        let next_due = self.due.iter().map(|(at, _)| *at).min();
        let (mut batch, mut output) = (Batch::default(), Output::default());
        match self.scheduler.plan(self.now, &mut batch) {
            NextStep::Run => {
                self.scheduler.carry_out(&mut self.backend).unwrap();
                self.backend.run(&batch, &mut output).unwrap();
                let time = (self.time_of)(&batch);
                self.now += time;
                self.computing += time;
                self.scheduler.complete(Ok(&mut output), time, self.now);
            }
            NextStep::WaitUntil { until, .. } => self.now = next_due.unwrap_or(until).min(until),
            NextStep::Idle => self.now = next_due.expect("somebody comes back"),
        }
        let replies: Vec<(Ticket, Result<ForwardReply, ForwardError>)> = self.scheduler.replies().collect();
        for (ticket, reply) in replies {
            let context = self.passes.remove(&ticket).expect("answered once");
            let Some(stream) = self.streams.get(&context) else { continue };
            let reply = reply.expect("computed");
            *self.rows.entry(stream.tenant).or_default() += u64::from(reply.computed_tokens);
            self.answers.entry(context).or_default().push(self.now);
            self.due.push((self.now + stream.pause, context));
        }
    }

    /// Runs for so long; rows that were answered meanwhile, by tenant.
    pub(crate) fn run(&mut self, seconds: u64) -> BTreeMap<u64, u64> {
        let (until, before) = (self.now + Duration::from_secs(seconds), self.rows.clone());
        while self.now < until {
            self.turn();
        }
        self.scheduler.check();
        let new = |(tenant, rows): (&u64, &u64)| (*tenant, rows - before.get(tenant).unwrap_or(&0));
        self.rows.iter().map(new).collect()
    }
}

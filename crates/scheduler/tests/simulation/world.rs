//! Runs operations on the scheduler and on the reference, and compares.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash};
use std::ops::Range;
use std::time::Duration;

use backend::{Backend, Batch, FakeBackend, Limits, Output, OutputKind};
use scheduler::{
    ContextId, ContextOp, ForwardError, ForwardReply, NewContext, NextStep, OwnerId, PolicyKind, Priority,
    Scheduler, SchedulerConfig, SnapshotData, Stats, TenantId, Ticket,
};

use super::ops::{Bounds, Nth, Op, of_encoder, request};
use super::reference::{Expected, Plain, Reference};

pub(crate) struct Setup {
    pub(crate) policy: PolicyKind,
    pub(crate) pool: u32,
    pub(crate) batch_tokens: u32,
    pub(crate) batch_sequences: u32,
    pub(crate) batch_outputs: u32,
    pub(crate) host_pages: u32,
    pub(crate) quota: Option<u32>,
    pub(crate) tenant_quota: Option<u32>,
    pub(crate) prefix_cache: bool,
    pub(crate) priority_across_tenants: bool,
    pub(crate) prefill_share: u32,
    pub(crate) fault_percent: u32,
    pub(crate) encoder: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            policy: PolicyKind::Adaptive,
            pool: 64,
            batch_tokens: 24,
            batch_sequences: 6,
            batch_outputs: 100,
            host_pages: 1000,
            quota: None,
            tenant_quota: None,
            prefix_cache: true,
            priority_across_tenants: false,
            prefill_share: SchedulerConfig::default().prefill_share,
            fault_percent: 0,
            encoder: false,
        }
    }
}

struct Pending {
    context: ContextId,
    expected: Expected,
}

pub(crate) struct World {
    setup: Setup,
    now: Duration,
    backend: FakeBackend,
    scheduler: Scheduler,
    reference: Reference,
    batch: Batch,
    output: Output,
    contexts: BTreeMap<ContextId, (OwnerId, Plain)>,
    snapshots: BTreeMap<String, Plain>,
    pending: BTreeMap<Ticket, Pending>,
    cancelled: BTreeSet<Ticket>,
    owners: Vec<OwnerId>,
    next_id: u64,
    faulty: bool,
    /// Hash of all batches planned.
    pub(crate) planned: DefaultHasher,
}

impl World {
    pub(crate) fn new(setup: Setup) -> World {
        let limits = Limits {
            pages: setup.pool,
            page_tokens: 8,
            batch_tokens: setup.batch_tokens,
            batch_sequences: setup.batch_sequences,
            row_outputs: 4,
            batch_outputs: setup.batch_outputs,
            batch_output_values: 400,
            vocabulary: 40,
            hidden: 8,
            context_tokens: 1 << 20,
            encoder: setup.encoder,
            page_bytes: 0,
        };
        let backend = FakeBackend::with_limits(limits);
        let config = SchedulerConfig {
            policy: setup.policy,
            host_pages: setup.host_pages,
            pages_quota: setup.quota,
            tenant_pages: setup.tenant_quota,
            prefix_cache: setup.prefix_cache,
            prefill_share: setup.prefill_share,
            priority_across_tenants: setup.priority_across_tenants,
            patience: Duration::from_millis(200),
            idle_after: Duration::from_millis(5),
        };
        World {
            setup,
            now: Duration::ZERO,
            scheduler: Scheduler::new(backend.limits(), config),
            reference: Reference::new(backend.limits()),
            backend,
            batch: Batch::default(),
            output: Output::default(),
            contexts: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            pending: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            owners: Vec::new(),
            next_id: 1,
            faulty: false,
            planned: DefaultHasher::new(),
        }
    }

    /// Runs a trace; then everything that waits is answered, everything left is compared, everything is freed. `done`
    /// counts the operations as they end.
    pub(crate) fn run(&mut self, trace: &[Op], done: &Cell<usize>) -> Stats {
        for (index, op) in trace.iter().enumerate() {
            done.set(index);
            self.act(op);
            self.collect();
            self.scheduler.check();
        }
        done.set(trace.len());
        self.settle();
        self.compare_contexts();
        self.free_everything();
        self.scheduler.stats()
    }

    fn act(&mut self, op: &Op) {
        match op {
            Op::Wait { us } => self.now += Duration::from_micros(u64::from(*us)),
            Op::Turn { us, meanwhile, fails } => drop(self.turn(*us, meanwhile.as_deref(), *fails)),
            Op::Create { owner } => self.create(*owner),
            Op::Forward { context, seed } => self.forward(*context, *seed),
            Op::Fork { from } => self.fork(*from),
            Op::Slice { from, bounds } => self.slice(*from, *bounds),
            Op::Truncate { context, length } => self.truncate(*context, *length),
            Op::Remove { context, bounds } => self.remove(*context, *bounds),
            Op::Append { to, from } => self.append(*to, *from),
            Op::Drop { context } => self.drop_one(*context),
            Op::Cancel { pass } => self.cancel(*pass),
            Op::SetPriority { context, priority } => {
                if let Some(context) = self.any_context(*context) {
                    self.scheduler.apply(ContextOp::SetPriority { context, priority: *priority }).unwrap();
                }
            }
            Op::Save { context, name } => self.save(*context, &key(*name)),
            Op::Open { name, owner } => self.open(&key(*name), *owner),
            Op::Delete { name } => {
                let key = key(*name);
                assert_eq!(self.scheduler.delete(&key).is_ok(), self.snapshots.remove(&key).is_some());
            }
            Op::Export { name, keep } => self.export(&key(*name), *keep),
            Op::Nonsense { context } => self.nonsense(*context),
            Op::OwnerGone { owner } => self.owner_gone(*owner),
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// One turn of the engine's loop. Returns what was planned.
    fn turn(&mut self, us: u32, meanwhile: Option<&Op>, fails: bool) -> NextStep {
        let plan = self.scheduler.plan(self.now, &mut self.batch);
        self.scheduler.check();
        if plan != NextStep::Run {
            assert!(self.batch.sequences.is_empty());
            return plan;
        }
        format!("{:?}", self.batch).hash(&mut self.planned);
        self.batch.check(&self.backend.limits()).expect("a batch keeps the contract");
        self.scheduler.carry_out(&mut self.backend).expect("the fake moves pages");
        self.backend.run(&self.batch, &mut self.output).expect("the fake runs");
        // No turn within a turn: one batch runs at a time.
        if let Some(op) = meanwhile.filter(|op| !matches!(op, Op::Turn { .. })) {
            self.act(op);
            self.scheduler.check();
        }
        // A third of the time for the batch, the rest by rows: what the bound on rows is fitted to.
        let compute = Duration::from_micros(u64::from(us / 3 + us / 12 * self.batch.rows() as u32));
        self.now += compute;
        self.faulty |= fails;
        let error = ForwardError::Backend("injected".into());
        let result = if fails { Err(error) } else { Ok(&mut self.output) };
        self.scheduler.complete(result, compute, self.now);
        plan
    }

    /// Takes the answers and compares them.
    fn collect(&mut self) {
        let replies: Vec<_> = self.scheduler.replies().collect();
        for (ticket, result) in replies {
            let pending = self.pending.remove(&ticket);
            let pending =
                pending.unwrap_or_else(|| panic!("{ticket:?} is answered twice, or was never asked"));
            match result {
                Ok(reply) => self.accept(&pending, reply),
                Err(error) => self.excuse(ticket, &error),
            }
        }
    }

    fn accept(&mut self, pending: &Pending, reply: ForwardReply) {
        let Expected { values, after } = &pending.expected;
        assert_eq!(reply.values, *values, "{:?}", pending.context);
        assert_eq!((reply.length, reply.next_position), (after.slots.len() as u32, after.next));
        if let Some((_, plain)) = self.contexts.get_mut(&pending.context) {
            *plain = after.clone();
        }
    }

    /// An error must have a reason.
    fn excuse(&self, ticket: Ticket, error: &ForwardError) {
        match error {
            ForwardError::Cancelled => {
                assert!(self.cancelled.contains(&ticket), "{ticket:?} was not cancelled")
            }
            ForwardError::Backend(_) => assert!(self.faulty, "{ticket:?}: {error}"),
            ForwardError::OutOfPages { needed, available } => {
                assert!(needed > available, "{ticket:?}: {error}");
                let short_host = self.setup.host_pages < 100;
                let quota =
                    self.setup.quota == Some(*available) || self.setup.tenant_quota == Some(*available);
                assert!(short_host || quota || *available == self.setup.pool, "{ticket:?}: {error}");
            }
            other => panic!("{ticket:?}: {other}"),
        }
    }

    fn any_context(&self, nth: Nth) -> Option<ContextId> {
        nth.of(&self.contexts.keys().copied().collect::<Vec<_>>())
    }

    fn any_idle(&self, nth: Nth) -> Option<ContextId> {
        let idle = self.contexts.keys().copied().filter(|id| self.scheduler.pass_of(*id).is_none());
        nth.of(&idle.collect::<Vec<_>>())
    }

    fn length(&self, context: ContextId) -> u32 {
        self.contexts[&context].1.slots.len() as u32
    }

    fn create(&mut self, owner: Nth) {
        if self.contexts.len() > 20 {
            return self.drop_one(owner);
        }
        if self.owners.len() < 6 {
            let new = OwnerId(self.id());
            // Some are launched by another of their user, and draw on its share.
            let parent = owner.of(&self.owners).filter(|parent| tenant(*parent) == tenant(new));
            let pages = self.setup.quota;
            self.scheduler
                .apply(ContextOp::Register { owner: new, parent, tenant: tenant(new), pages })
                .unwrap();
            self.owners.push(new);
        }
        let owner = owner.of(&self.owners).expect("one was added");
        let context = ContextId(self.id());
        let (priority, tenant) = (Priority::Normal, tenant(owner));
        let op = ContextOp::Create { context, owner, priority, tenant };
        self.scheduler.apply(op).unwrap();
        self.contexts.insert(context, (owner, Plain::default()));
    }

    fn forward(&mut self, context: Nth, seed: u64) {
        let Some(context) = self.any_idle(context) else { return };
        let plain = self.contexts[&context].1.clone();
        let ticket = Ticket(self.id());
        let mut request = request(seed, ticket, context, plain.slots.len() as u32, plain.next);
        if self.setup.encoder {
            request = of_encoder(request, self.setup.batch_tokens as usize);
        }
        let expected = self.reference.forward(&plain, &request);
        match self.scheduler.submit(request, self.now) {
            Ok(()) => drop(self.pending.insert(ticket, Pending { context, expected })),
            Err(error) => self.excuse(ticket, &error),
        }
    }

    fn fork(&mut self, from: Nth) {
        let Some(from) = self.any_context(from) else { return };
        let to = ContextId(self.id());
        self.scheduler.apply(ContextOp::Fork { from, to }).unwrap();
        self.contexts.insert(to, self.contexts[&from].clone());
    }

    fn slice(&mut self, from: Nth, bounds: Bounds) {
        let Some(from) = self.any_context(from) else { return };
        let range = range(bounds, self.length(from));
        let to = ContextId(self.id());
        self.scheduler.apply(ContextOp::Slice { from, to, range: range.clone() }).unwrap();
        let (owner, mut plain) = self.contexts[&from].clone();
        plain.slots = plain.slots[range.start as usize..range.end as usize].to_vec();
        plain.next = plain.slots.last().map_or(0, |slot| slot.1 + 1);
        self.contexts.insert(to, (owner, plain));
    }

    fn truncate(&mut self, context: Nth, length: u32) {
        let Some(context) = self.any_idle(context) else { return };
        let length = length % (self.length(context) + 3);
        self.scheduler.apply(ContextOp::Truncate { context, length }).unwrap();
        let plain = &mut self.contexts.get_mut(&context).unwrap().1;
        if let Some(first) = plain.slots.get(length as usize) {
            plain.next = first.1;
            plain.slots.truncate(length as usize);
        }
    }

    fn remove(&mut self, context: Nth, bounds: Bounds) {
        let Some(context) = self.any_idle(context) else { return };
        let range = range(bounds, self.length(context));
        self.scheduler.apply(ContextOp::Remove { context, range: range.clone() }).unwrap();
        let slots = &mut self.contexts.get_mut(&context).unwrap().1.slots;
        slots.drain(range.start as usize..range.end as usize);
    }

    fn append(&mut self, to: Nth, from: Nth) {
        let (Some(to), Some(from)) = (self.any_idle(to), self.any_context(from)) else { return };
        let added = self.contexts[&from].1.clone();
        let plain = &mut self.contexts.get_mut(&to).unwrap().1;
        if plain.slots.len() + added.slots.len() > 64 {
            return;
        }
        self.scheduler.apply(ContextOp::Append { to, from }).unwrap();
        plain.slots.extend(added.slots);
        plain.next = plain.next.max(added.next);
    }

    fn drop_one(&mut self, context: Nth) {
        let Some(context) = self.any_context(context) else { return };
        self.cancelled.extend(self.scheduler.pass_of(context));
        self.scheduler.apply(ContextOp::Drop { context }).unwrap();
        self.contexts.remove(&context);
    }

    fn cancel(&mut self, pass: Nth) {
        if let Some(ticket) = pass.of(&self.pending.keys().copied().collect::<Vec<_>>()) {
            self.cancelled.insert(ticket);
            self.scheduler.apply(ContextOp::Cancel { ticket }).unwrap();
        }
    }

    fn owner_gone(&mut self, owner: Nth) {
        let Some(owner) = owner.of(&self.owners) else { return };
        self.owners.retain(|other| *other != owner);
        let gone: Vec<ContextId> =
            self.contexts.iter().filter(|(_, (o, _))| *o == owner).map(|(id, _)| *id).collect();
        for context in gone {
            self.cancelled.extend(self.scheduler.pass_of(context));
            self.contexts.remove(&context);
        }
        self.scheduler.apply(ContextOp::OwnerGone { owner }).unwrap();
    }

    fn save(&mut self, context: Nth, key: &str) {
        let Some(context) = self.any_context(context) else { return };
        let plain = self.contexts[&context].1.clone();
        let info = self.scheduler.save(context, key.into(), false).unwrap();
        assert_eq!(info.length, plain.slots.len() as u32);
        self.snapshots.insert(key.into(), plain);
    }

    fn open(&mut self, key: &str, owner: Nth) {
        let (Some(plain), Some(owner)) = (self.snapshots.get(key).cloned(), owner.of(&self.owners)) else {
            return;
        };
        let context = ContextId(self.id());
        let new = NewContext { id: context, owner, priority: Priority::Low, tenant: tenant(owner) };
        self.scheduler.open(key, new).unwrap();
        self.contexts.insert(context, (owner, plain));
    }

    fn export(&mut self, key: &str, keep: bool) {
        let Some(plain) = self.snapshots.get(key).cloned() else { return };
        let data = self.read_out(key);
        let copy = format!("{key}/imported");
        // Refused when host memory is full.
        if self.scheduler.import(copy.clone(), TenantId(0), true, data.clone()).is_ok() {
            assert_eq!(self.read_out(&copy), data);
            self.snapshots.insert(copy.clone(), plain);
            if !keep {
                self.snapshots.remove(&copy);
                self.scheduler.delete(&copy).unwrap();
            }
        }
    }

    fn read_out(&mut self, key: &str) -> SnapshotData {
        let info = self.scheduler.list(key).remove(0);
        let half = info.pages / 2;
        let mut pages = self.scheduler.export_pages(key, 0..half, &mut self.backend).unwrap();
        pages.extend(self.scheduler.export_pages(key, half..info.pages, &mut self.backend).unwrap());
        let page_tokens = self.scheduler.limits().page_tokens;
        SnapshotData { page_tokens, next_position: info.next_position, pages }
    }

    /// What a defect above would send: refused, and nothing changes.
    fn nonsense(&mut self, context: Nth) {
        let unknown = ContextId(u64::MAX);
        assert!(self.scheduler.apply(ContextOp::Drop { context: unknown }).is_err());
        assert!(self.scheduler.apply(ContextOp::Append { to: unknown, from: unknown }).is_err());
        let Some(context) = self.any_context(context) else { return };
        let length = self.length(context);
        assert!(self.scheduler.apply(ContextOp::Remove { context, range: 0..length + 1 }).is_err());
        let slice = ContextOp::Slice { from: context, to: unknown, range: length + 1..length + 2 };
        assert!(self.scheduler.apply(slice).is_err());
        assert!(self.scheduler.apply(ContextOp::Fork { from: context, to: context }).is_err());
        if self.scheduler.pass_of(context).is_some() {
            assert!(self.scheduler.apply(ContextOp::Truncate { context, length: 0 }).is_err());
        }
    }

    /// Nobody waits for ever: with nothing new coming in, all are answered in bounded time.
    fn settle(&mut self) {
        let until = self.now + Duration::from_secs(60);
        while !self.pending.is_empty() {
            assert!(self.now < until, "{} passes wait for ever", self.pending.len());
            match self.turn(500, None, false) {
                NextStep::Run => {}
                NextStep::WaitUntil { until, .. } => {
                    assert!(until > self.now, "waits for the past");
                    self.now = until;
                }
                NextStep::Idle => {
                    self.collect();
                    assert!(self.pending.is_empty(), "{} passes wait for nothing", self.pending.len());
                }
            }
            self.collect();
            self.scheduler.check();
        }
    }

    /// Every context left gives what the reference gives.
    fn compare_contexts(&mut self) {
        let contexts: Vec<ContextId> = self.contexts.keys().copied().collect();
        for context in contexts {
            let plain = self.contexts[&context].1.clone();
            let info = self.scheduler.info(context).unwrap();
            assert_eq!((info.length, info.next_position), (plain.slots.len() as u32, plain.next));
            let ticket = Ticket(self.id());
            let mut request = scheduler::ForwardRequest::new(ticket, context, vec![1]);
            request.keep_kv = !self.setup.encoder;
            request
                .outputs
                .push((0, if self.setup.encoder { OutputKind::Hidden } else { OutputKind::Logits }));
            let expected = self.reference.forward(&plain, &request);
            match self.scheduler.submit(request, self.now) {
                Ok(()) => drop(self.pending.insert(ticket, Pending { context, expected })),
                Err(error) => self.excuse(ticket, &error),
            }
        }
        self.settle();
    }

    fn free_everything(&mut self) {
        for owner in self.owners.clone() {
            self.scheduler.apply(ContextOp::OwnerGone { owner }).unwrap();
        }
        for key in self.snapshots.keys() {
            self.scheduler.delete(key).unwrap();
        }
        self.scheduler.check();
        let stats = self.scheduler.stats();
        assert_eq!((stats.pages_held, stats.pages_spilled, stats.contexts, stats.owners), (0, 0, 0, 0));
        assert_eq!(stats.pages_free + stats.pages_cached, stats.pages_total);
    }
}

/// The user of an owner.
fn tenant(owner: OwnerId) -> TenantId {
    TenantId(owner.0 % 3)
}

/// Name of a snapshot.
fn key(name: u32) -> String {
    format!("user/{name}")
}

fn range((a, b): Bounds, length: u32) -> Range<u32> {
    let (a, b) = (a % (length + 1), b % (length + 1));
    a.min(b)..a.max(b)
}

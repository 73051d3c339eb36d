//! The state machine: contexts, passes in flight, and the memory they share.
//!
//! The driver's loop is: [`Scheduler::submit`] and [`Scheduler::apply`] the messages, [`Scheduler::plan`] a batch,
//! [`Scheduler::carry_out`] the page moves, run the batch, [`Scheduler::complete`] it, and deliver
//! [`Scheduler::replies`]. Submitting and applying are allowed at any point but between planning and carrying out.
//!
//! The parts, in reading order: `apply` (bookkeeping), `plan` (who goes into the batch), `room` (who gives up pages),
//! `write` (rows into the batch), `complete` (what a computed row changes), `snapshots`,
//! `holdings` (what there is, for people).

mod apply;
mod complete;
mod holdings;
mod plan;
mod room;
mod snapshots;
mod write;

use std::collections::BTreeMap;
use std::time::Duration;

use backend::{AdapterId, BackendError, Limits};
use metrics::Histogram;

use crate::accounts::{Account, Accounts};
use crate::config::SchedulerConfig;
use crate::context::Context;
use crate::memory::{Holder, Memory};
use crate::observe::Planned;
use crate::pages::{PageLocation, PageMove, Pages};
use crate::pass::Pass;
use crate::policy::{Candidate, Fair, Policy, Rank, Standing, Work};
use crate::prefix::Prefix;
use crate::request::{
    ContextId, ForwardError, ForwardReply, ForwardRequest, OwnerId, Priority, TenantId, Ticket,
};
use crate::stats::Stats;

pub use holdings::{ContextPages, Holdings, OwnerPages};
pub(crate) use snapshots::Snapshot;
pub use snapshots::{Loaded, NewContext, Saved, SnapshotData, SnapshotInfo, SnapshotPage};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// Carry out the moves, run the batch, and complete it.
    Run,
    /// Nothing yet: plan again at this time, or when so many passes came in; when passes are blocked
    /// ([`Scheduler::blocked`]), also after any operation.
    WaitUntil {
        /// The time.
        until: Duration,
        /// The passes, at least 1.
        arrivals: u32,
    },
    /// Nothing: plan again when a pass came in.
    Idle,
}

/// A pass that was answered.
pub type Answered = (Ticket, Result<ForwardReply, ForwardError>);

/// A pass in the batch that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) ticket: Ticket,
    pub(crate) rows: u32,
    pub(crate) work: Work,
    pub(crate) outputs: usize,
}

/// See the module docs. Times are durations since any fixed moment.
pub struct Scheduler {
    pub(crate) limits: Limits,
    pub(crate) config: SchedulerConfig,
    policy: Box<dyn Policy>,
    pub(crate) fair: Fair,
    pub(crate) memory: Memory,
    pub(crate) contexts: BTreeMap<ContextId, Context>,
    pub(crate) passes: BTreeMap<Ticket, Pass>,
    pub(crate) snapshots: BTreeMap<String, Snapshot>,
    /// The batch that runs, in its order; its tickets may be gone meanwhile.
    pub(crate) running: Vec<Running>,
    replies: Vec<Answered>,
    /// Loaded adapters and who loaded them.
    adapters: BTreeMap<AdapterId, OwnerId>,
    orphaned_adapters: Vec<AdapterId>,
    /// Per owner, of a tenant: passes just answered whose follow-up has not arrived.
    expected_back: BTreeMap<(TenantId, OwnerId), u32>,
    started: Duration,
    completed: Option<(Duration, Duration)>,
    /// Number of the round of planning, for pins.
    round: u64,
    /// Ages of owners and contexts, and arrivals of passes.
    sequence: u64,
    /// `sequence` when the last batch was put together.
    sequence_seen: u64,
    totals: Stats,
    /// Rows taken from the prefix cache before the batch that runs was planned.
    rows_cached_before: u64,
}

impl Scheduler {
    /// A scheduler for a backend with these limits.
    pub fn new(limits: Limits, config: SchedulerConfig) -> Scheduler {
        assert!(
            (1..=64).contains(&limits.page_tokens),
            "a page has 1 to 64 slots, not {}",
            limits.page_tokens
        );
        let memory = Memory {
            pages: Pages::new(limits.pages, limits.page_tokens, config.host_pages),
            prefix: Prefix::default(),
            accounts: Accounts::new(config.tenant_pages),
            // What an encoder computes of a text depends on all of it.
            caching: config.prefix_cache && !limits.encoder,
            shared: 0,
        };
        Scheduler {
            limits,
            policy: config.policy.build(),
            fair: Fair::new(config.priority_across_tenants, config.prefill_share),
            config,
            memory,
            contexts: BTreeMap::new(),
            passes: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            running: Vec::new(),
            replies: Vec::new(),
            adapters: BTreeMap::new(),
            orphaned_adapters: Vec::new(),
            expected_back: BTreeMap::new(),
            started: Duration::ZERO,
            completed: None,
            round: 0,
            sequence: 0,
            sequence_seen: 0,
            totals: Stats {
                step_seconds: Histogram::new(metrics::SECONDS),
                batch_rows: Histogram::new(metrics::ROWS),
                ..Stats::default()
            },
            rows_cached_before: 0,
        }
    }

    /// The backend's limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes in a pass.
    ///
    /// # Errors
    /// When it is refused at once; there will be no other answer then.
    pub fn submit(&mut self, request: ForwardRequest, now: Duration) -> Result<(), ForwardError> {
        let id = request.context;
        let Some(context) = self.contexts.get(&id) else {
            return Err(ForwardError::InvalidArgument(format!("unknown context {}", id.0)));
        };
        let by = (context.tenant, context.owner);
        if let Some(expected_back) = self.expected_back.get_mut(&by) {
            *expected_back -= 1;
            if *expected_back == 0 {
                self.expected_back.remove(&by);
            }
        }
        if context.pass.is_some() {
            return Err(ForwardError::Busy);
        }
        if self.passes.contains_key(&request.ticket) {
            return Err(ForwardError::InvalidArgument(format!("ticket {} is in use", request.ticket.0)));
        }
        request.check(context.length, context.next_position, &self.limits)?;
        self.sequence += 1;
        let ticket = request.ticket;
        let pass = Pass::new(request, context, self.limits.page_tokens, self.sequence, now);
        self.fair.enter(context.tenant);
        self.fair.streams.not_away(id);
        self.passes.insert(ticket, pass);
        self.contexts.get_mut(&id).expect("looked up above").pass = Some(ticket);
        Ok(())
    }

    /// Cancels a pass: it is answered as cancelled and its context is as before. Unknown tickets are ignored.
    pub fn cancel(&mut self, ticket: Ticket) {
        if self.passes.contains_key(&ticket) {
            self.totals.cancelled += 1;
            self.fail_pass(ticket, ForwardError::Cancelled);
        }
    }

    /// The pass in flight on a context.
    pub fn pass_of(&self, context: ContextId) -> Option<Ticket> {
        self.contexts.get(&context).and_then(|context| context.pass)
    }

    /// Whether a pass waits for pages, so that any operation may let it go on.
    pub fn blocked(&self) -> bool {
        self.passes.values().any(|pass| pass.blocked)
    }

    /// Takes the answers that have come up since the last call.
    pub fn replies(&mut self) -> std::vec::Drain<'_, Answered> {
        self.replies.drain(..)
    }

    /// Carries out the page moves of the plan, in order.
    ///
    /// # Errors
    /// The first failure. The batch must then be completed with it and not run.
    pub fn carry_out(&mut self, backend: &mut dyn backend::Backend) -> Result<(), BackendError> {
        self.memory.pages.carry_out(backend)
    }

    /// The page moves of the plan that are not yet carried out.
    pub fn moves(&self) -> impl Iterator<Item = PageMove> + '_ {
        self.memory.pages.moves.iter().map(|(one, _)| *one)
    }

    /// Forgets moves that cannot be carried out, for instance because the backend panicked: the pages concerned are
    /// lost, and a pass that needs one gets an error.
    pub fn abandon_moves(&mut self) {
        self.memory.pages.abandon_moves();
    }

    /// What the batch that was planned computes, before its moves are carried out.
    pub fn planned(&self) -> Planned {
        let moves = |wanted: fn(&PageMove) -> bool| self.moves().filter(wanted).count() as u64;
        Planned {
            passes: self.running.iter().map(|pass| (pass.ticket, pass.rows)).collect(),
            rows_cached: self.totals.rows_cached - self.rows_cached_before,
            outputs: self.running.iter().map(|pass| pass.outputs as u64).sum(),
            copies: moves(|one| matches!(one, PageMove::Copy { .. })),
            spills: moves(|one| matches!(one, PageMove::Spill { .. })),
            restores: moves(|one| matches!(one, PageMove::Restore { .. })),
        }
    }

    /// Distinct pages that an owner holds.
    pub fn usage(&self, owner: OwnerId) -> u32 {
        self.memory.accounts.held(owner)
    }

    /// State of this moment and totals.
    pub fn stats(&self) -> Stats {
        let memory = &self.memory;
        let pool = memory.pages.pool();
        let (free, cached) = (memory.pages.free(), memory.prefix.idle());
        let running = self.running.iter().filter(|r| self.passes.contains_key(&r.ticket)).count();
        let queued = self.queued();
        let back = self.expected_back.iter().filter(|((_, owner), _)| memory.accounts.knows(*owner));
        let back: u32 = back.map(|(_, passes)| passes).sum();
        Stats {
            waiting: (self.passes.len() - running) as u64,
            running: running as u64,
            blocked: self.passes.values().filter(|pass| pass.blocked).count() as u64,
            active: (self.passes.len() - queued) as u64 + u64::from(back),
            queued: queued as u64,
            owners: memory.accounts.owners() as u64,
            contexts: self.contexts.len() as u64,
            snapshots: self.snapshots.len() as u64,
            pages_total: u64::from(pool),
            pages_free: u64::from(free),
            pages_cached: u64::from(cached),
            pages_held: u64::from(pool - free - cached),
            pages_shared: u64::from(memory.shared),
            pages_spilled: u64::from(memory.pages.host_used()),
            ..self.totals
        }
    }

    /// Passes that the last batch left out and that have not begun.
    fn queued(&self) -> usize {
        let is_running = |ticket: &Ticket| self.running.iter().any(|running| running.ticket == *ticket);
        let left_out = |pass: &Pass| pass.arrival <= self.sequence_seen && pass.done == pass.cached;
        self.passes.iter().filter(|(ticket, pass)| left_out(pass) && !is_running(ticket)).count()
    }

    /// Counts an operation without a reply that was wrong.
    pub fn count_refused(&mut self) {
        self.totals.ops_refused += 1;
    }

    fn context_of(&self, pass: &Pass) -> &Context {
        self.contexts.get(&pass.request.context).expect("a pass in flight has its context")
    }

    fn candidate(&self, context: &Context, pass: Option<&Pass>, now: Duration) -> Candidate {
        let share = self.memory.accounts.get(Account::Owner(context.owner));
        let share = share.expect("a context's owner is registered");
        Candidate {
            standing: self.standing(context),
            priority: context.priority,
            owner_sequence: share.sequence,
            context_sequence: context.sequence,
            impatient_since: pass.and_then(|pass| pass.impatient_since(self.config.patience, now)),
            blocked: pass.is_some_and(|pass| pass.blocked),
            // Passes of an encoder are not cut, so none is short enough to go before others.
            long: pass.is_some_and(|pass| pass.left() > self.limits.page_tokens && !self.limits.encoder),
            arrival: pass.map_or(0, |pass| pass.arrival),
        }
    }

    /// How a context's tenant stands beside the others at work, if there are any.
    fn standing(&self, context: &Context) -> Standing {
        let at_work = self.fair.at_work();
        if at_work < 2 {
            return Standing::default();
        }
        let tenant = context.tenant;
        let held = self.memory.accounts.get(Account::Tenant(tenant)).map_or(0, |share| share.pages());
        let shares_held = u64::from(held) * u64::from(at_work) / u64::from(self.memory.pages.pool().max(1));
        Standing {
            tenant,
            shares_held: shares_held as u32,
            foremost: context.pass.is_some_and(|pass| self.fair.is_foremost(tenant, pass)),
            priority: match self.config.priority_across_tenants {
                true => context.priority,
                false => Priority::Normal,
            },
        }
    }

    fn rank(&self, context: &Context, now: Duration) -> Rank {
        let pass = context.pass.map(|ticket| &self.passes[&ticket]);
        self.policy.rank(&self.candidate(context, pass, now))
    }

    /// Takes a pass out; its context is as before it.
    fn rollback_pass(&mut self, ticket: Ticket) -> Option<Pass> {
        let pass = self.passes.remove(&ticket)?;
        let context = self.contexts.get_mut(&pass.request.context).expect("a pass in flight has its context");
        context.pass = None;
        let (owner, tenant) = (context.owner, context.tenant);
        self.fair.leave(tenant);
        self.memory.release_all(Holder::Owner(owner), pass.owned());
        Some(pass)
    }

    /// Takes a pass out and answers it with an error.
    fn fail_pass(&mut self, ticket: Ticket, error: ForwardError) {
        if self.rollback_pass(ticket).is_some() {
            if error != ForwardError::Cancelled {
                self.totals.failed += 1;
            }
            self.replies.push((ticket, Err(error)));
        }
    }

    /// Whether all bytes of a page are in the pool, and where.
    fn device(&self, page: crate::pages::LogicalId) -> Option<backend::PageId> {
        match self.memory.pages.get(page).location {
            PageLocation::Device(device) => Some(device),
            PageLocation::Host(_) => None,
        }
    }
}

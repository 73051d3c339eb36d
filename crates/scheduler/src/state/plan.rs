//! Who goes into the next batch, with how many rows.
//!
//! Each tenant has a share of the batch (`policy::fair`), within which its passes are looked at in the policy's order.
//! Each first takes pages of the prefix cache, then as many rows as the batch and the pages allow. A pass that cannot get
//! a page for even one row is *blocked*: it holds no more than before, and is looked at before all others
//! next time.
//!
//! A pass of an encoder is not cut: it is computed with all its rows or not at all. It gets them where its tenant has a
//! share of even one, and where they do not fit into the batch any more, the batch ends there, so that no other takes its
//! turn. A tenant that had more than its share waits until the others have caught up, so shares hold from batch to batch.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use backend::{Batch, Limits};

use super::room::Room;
use super::{NextStep, Scheduler};
use crate::accounts::Account;
use crate::context::Entry;
use crate::memory::Holder;
use crate::pages::{LogicalId, PageLocation};
use crate::pass::Pass;
use crate::policy::{Fire, QueueState, Rank, Share, Waiting};
use crate::prefix::{Key, NodeId};
use crate::request::{ForwardError, Ticket};

/// What is left for the batch being planned.
struct Budget {
    now: Duration,
    rows: u32,
    /// Rows that the backend takes, whatever those of shares.
    rows_max: u32,
    sequences: u32,
    outputs: u32,
    output_values: u64,
    /// Whether the policy lets it have more than one pass.
    several_passes: bool,
    /// First pages that passes of this batch compute: a pass that needs the same one takes it from the cache next time.
    claimed: HashSet<Key>,
    /// The rank of a pass that could not get pages: lower ones need not try to take any away.
    refused: Option<Rank>,
    /// The highest rank of a pass that could not get pages: what was out of pages before and ranks lower does not get any
    /// before it.
    blocked_ahead: Option<Rank>,
}

/// Pages of the pool that the next rows of a pass need beyond those it has there.
pub(super) struct Demand {
    /// Its first row goes to a half-full page that others see: to a copy of it.
    copies_tail: bool,
    /// Pages to bring back or to copy, however many rows are computed.
    pages_fixed: u32,
    /// For one row; for all, where the pass may not be cut.
    pub(super) pages_min: u32,
    /// For all rows.
    pub(super) pages_max: u32,
    /// Rows that the batch has room for.
    rows: u32,
    /// Of them, those that the last page still takes.
    rows_without_page: u32,
}

impl Demand {
    /// The rows that can be computed when `free` pages are free, at least `pages_min` of them.
    fn rows_in(&self, free: u32, limits: &Limits) -> u32 {
        let pages = (free - self.pages_fixed).min(limits.pages);
        self.rows.min(self.rows_without_page + pages * limits.page_tokens)
    }
}

/// A page of the prefix cache that is not the next one of a pass, but begins with so many of its next rows.
#[derive(Clone, Copy)]
struct Part {
    node: NodeId,
    page: LogicalId,
    rows: u32,
}

enum Verdict {
    /// With so many rows.
    Admitted(u32),
    /// It may not be cut, and its rows do not fit into this batch.
    DoesNotFit,
    /// The same page is being computed in this batch.
    Deferred,
    Blocked,
    Failed(ForwardError),
}

impl Scheduler {
    /// Decides what to do next and, if that is to run a batch, fills it. After `Run`, the batch must be completed
    /// before the next plan. Passes that cannot ever be served are answered, see [`Scheduler::replies`].
    pub fn plan(&mut self, now: Duration, batch: &mut Batch) -> NextStep {
        assert!(self.running.is_empty(), "a batch is completed before the next one is planned");
        batch.clear();
        self.rows_cached_before = self.totals.rows_cached;
        if self.passes.is_empty() {
            return NextStep::Idle;
        }
        let waiting = self.passes.len() as u32;
        let oldest = || self.passes.values().map(|pass| pass.last_progress_at).min().unwrap_or(now);
        // With others at work, nobody is waited for whose tenant fills its share of the next batch anyway.
        let several = self.fair.at_work() > 1;
        let returning = self
            .expected_back
            .iter()
            .filter(|((tenant, _), _)| !(several && self.fair.is_left_wanting(*tenant)));
        let expected_back = returning.map(|(_, passes)| passes).sum();
        let view = QueueState { now, waiting, oldest: &oldest, expected_back, completed: self.completed };
        let at_most = match self.policy.fire(&view) {
            Fire::Now { at_most } => at_most,
            Fire::NotBefore { until, arrivals } => {
                return NextStep::WaitUntil { until, arrivals: arrivals.max(1) };
            }
        };
        // A pass that fails for want of memory leaves room to others.
        loop {
            let waiting = self.passes.len();
            self.assemble(now, at_most, batch);
            if !self.running.is_empty() || self.passes.len() == waiting {
                break;
            }
        }
        if self.running.is_empty() {
            return self
                .next_change(now)
                .map_or(NextStep::Idle, |until| NextStep::WaitUntil { until, arrivals: 1 });
        }
        self.started = now;
        NextStep::Run
    }

    fn assemble(&mut self, now: Duration, at_most: u32, batch: &mut Batch) {
        self.round += 1;
        self.sequence_seen = self.sequence;
        let mut shares = self.fair.shares();
        let waiting = self.waiting(&shares, now);
        let mut budget = Budget {
            now,
            rows: self.fair.bound(&mut shares, &waiting, self.limits.batch_tokens, now),
            rows_max: self.limits.batch_tokens,
            sequences: self.limits.batch_sequences.min(at_most),
            outputs: self.limits.batch_outputs,
            output_values: self.limits.batch_output_values,
            several_passes: at_most > 1,
            claimed: HashSet::new(),
            refused: None,
            blocked_ahead: None,
        };
        let mut waiting = self.fair.sort(&shares, waiting);
        self.fair.divide(&mut shares, &waiting, budget.rows, budget.sequences);
        if shares.len() > 1 {
            // 1. Those out of pages, before any other takes some. 2. The others; what the first left is divided anew.
            // 3. Whoever there is still room for, since others could not take their shares.
            let others = waiting.split_off(waiting.partition_point(|pass| pass.blocked));
            let mut left = self.put_in(waiting, &mut shares, &mut budget, batch);
            self.fair.divide(&mut shares, &others, budget.rows, budget.sequences);
            left.extend(self.put_in(others, &mut shares, &mut budget, batch));
            shares.iter_mut().for_each(Share::lift);
            waiting = left;
        }
        self.put_in(waiting, &mut shares, &mut budget, batch);
        self.fair.end(&shares);
    }

    /// All that waits, in no order.
    fn waiting(&mut self, shares: &[Share], now: Duration) -> Vec<Waiting> {
        if shares.len() > 1 {
            self.find_foremost(shares, now);
        }
        let mut waiting = Vec::with_capacity(self.passes.len());
        for (ticket, pass) in &self.passes {
            let context = self.context_of(pass);
            let candidate = self.candidate(context, Some(pass), now);
            let share = shares.binary_search_by_key(&context.tenant, Share::tenant);
            waiting.push(Waiting {
                ticket: *ticket,
                share: share.expect("a tenant with a pass has a share"),
                order: self.policy.order(&candidate),
                rows: pass.left(),
                length: context.length + pass.done,
                long: candidate.long,
                blocked: pass.blocked,
                priority: candidate.priority,
                arrival: candidate.arrival,
            });
        }
        waiting
    }

    /// Finds the pass of each tenant that has waited longest beyond patience.
    fn find_foremost(&mut self, shares: &[Share], now: Duration) {
        let mut foremost: Vec<Option<(Reverse<Duration>, Rank, Ticket)>> = vec![None; shares.len()];
        for (ticket, pass) in &self.passes {
            let Some(since) = pass.impatient_since(self.config.patience, now) else { continue };
            let context = self.context_of(pass);
            let share = shares.binary_search_by_key(&context.tenant, Share::tenant);
            let best = &mut foremost[share.expect("a tenant with a pass has a share")];
            *best = (*best).max(Some((Reverse(since), self.rank(context, now), *ticket)));
        }
        for (share, foremost) in shares.iter().zip(foremost) {
            let Some((Reverse(since), _, ticket)) = foremost else { continue };
            let pass = self.passes.get_mut(&ticket).expect("just looked at");
            pass.overdue_since = Some(since);
            self.fair.set_foremost(share.tenant(), ticket);
        }
    }

    /// Puts passes into the batch, in order, as far as it and their tenants' shares have room. Returns those for which
    /// a share had none.
    fn put_in(
        &mut self,
        waiting: Vec<Waiting>,
        shares: &mut [Share],
        budget: &mut Budget,
        batch: &mut Batch,
    ) -> Vec<Waiting> {
        let mut left_out = Vec::new();
        for pass in waiting {
            if budget.rows == 0 || budget.sequences == 0 {
                break;
            }
            let Waiting { ticket, long, .. } = pass;
            let share = &mut shares[pass.share];
            if pass.blocked && pass.rank() < budget.blocked_ahead {
                share.give_up(&pass);
                continue;
            }
            let reserved = if long { 0 } else { share.reserved };
            let rows = budget.rows.min(share.rows).saturating_sub(reserved);
            let last_for_long = reserved > 0 && share.passes == 1 && budget.several_passes;
            if rows == 0 || share.passes == 0 || last_for_long {
                left_out.push(pass);
                continue;
            }
            let verdict = self.admit(ticket, rows, budget, batch);
            let share = &mut shares[pass.share];
            match verdict {
                Verdict::Admitted(rows) => {
                    let admitted = self.passes.get_mut(&ticket).expect("just admitted");
                    admitted.blocked = false;
                    let left = admitted.left() - rows;
                    share.take(&pass, rows, left);
                    if long {
                        share.reserved = 0;
                    }
                }
                Verdict::Deferred => {}
                Verdict::DoesNotFit => {
                    left_out.push(pass);
                    budget.rows = 0;
                }
                Verdict::Blocked => {
                    self.passes.get_mut(&ticket).expect("just looked at").blocked = true;
                    share.give_up(&pass);
                    budget.blocked_ahead = budget.blocked_ahead.max(pass.rank());
                }
                Verdict::Failed(error) => {
                    share.give_up(&pass);
                    self.fail_pass(ticket, error);
                }
            }
        }
        left_out
    }

    /// Puts up to `rows` rows of a pass into the batch, or all of one that may not be cut.
    fn admit(&mut self, ticket: Ticket, rows: u32, budget: &mut Budget, batch: &mut Batch) -> Verdict {
        // 1. Pages that were computed before; of the next one, what it shares with one of them.
        let key = self.take_cached(ticket);
        let pass = &self.passes[&ticket];
        let rows_of_page = pass.rows_of_page(self.limits.page_tokens);
        if key.as_ref().is_some_and(|key| budget.claimed.contains(key)) {
            return Verdict::Deferred;
        }
        let part = self.find_part(pass);
        let found = part.map_or(0, |part| part.rows);
        let most = if self.limits.encoder { pass.left().min(budget.rows_max) } else { rows };
        let rows = pass.rows_with_outputs(found + most, &self.limits, budget.outputs, budget.output_values);
        if self.limits.encoder && rows < pass.left() {
            return Verdict::DoesNotFit;
        }
        if rows == found {
            return Verdict::Deferred;
        }
        // 2. How many pages it needs, and whether it can ever have them.
        let demand = match self.demand(pass, rows) {
            Ok(demand) => demand,
            Err(error) => return Verdict::Failed(error),
        };
        // 3. Room for them: for as many rows as pages can be had. The page with the part may have to go, the last of those
        //    that nobody holds.
        if let Some(part) = part {
            self.memory.prefix.set_used(part.node);
        }
        let free = match self.make_room(ticket, &demand, budget.refused, budget.now) {
            Room::Free(free) => free,
            Room::Wait(rank) => {
                budget.refused = budget.refused.max(Some(rank));
                return Verdict::Blocked;
            }
            Room::HostFull { available } => {
                return Verdict::Failed(ForwardError::OutOfPages { needed: demand.pages_min, available });
            }
        };
        // 4. Take them, and write the rows.
        let rows = demand.rows_in(free, &self.limits);
        let part = part.filter(|part| self.has_part(*part));
        let found = part.map_or(0, |part| part.rows);
        let rows = (rows - found).min(most);
        self.take_pages(ticket, demand.copies_tail, part, found + rows);
        let first = batch.outputs.len();
        self.write_rows(ticket, rows, batch);
        let outputs = &batch.outputs[first..];
        budget.outputs -= outputs.len() as u32;
        budget.output_values -= outputs.iter().map(|output| output.kind.values(&self.limits)).sum::<u64>();
        budget.rows = budget.rows.saturating_sub(rows);
        budget.rows_max -= rows;
        budget.sequences -= 1;
        // A page that a pass writes in its context's place and gives back is never registered: nobody need wait for it.
        let pass = &self.passes[&ticket];
        let is_kept = pass.request.keep_kv || !pass.tail_in_place;
        if let Some(key) = key.filter(|_| is_kept && found + rows >= rows_of_page) {
            budget.claimed.insert(key);
        }
        Verdict::Admitted(rows)
    }

    /// What the next rows of a pass need, at most `rows`. Looks and changes nothing.
    ///
    /// # Errors
    /// When the pass cannot be computed however long it waits: now, and not after a thousand rows.
    fn demand(&self, pass: &Pass, rows: u32) -> Result<Demand, ForwardError> {
        let page_tokens = self.limits.page_tokens;
        let context = self.context_of(pass);
        let copies_tail = pass.writes_tail(page_tokens) && !self.memory.writable(pass.entries[0].page);
        let (mut pages_in_use, mut absent) = (0, 0);
        for page in self.pages_of(pass).map(|id| self.memory.pages.get(id)) {
            if page.lost {
                return Err(ForwardError::Backend("a page of the context was lost".into()));
            }
            pages_in_use += 1;
            absent += u32::from(matches!(page.location, PageLocation::Host(_)));
        }
        let pages_to_come = pass.pages_for(pass.left(), page_tokens) + u32::from(copies_tail);
        let room = self.memory.accounts.check_room(Account::Owner(context.owner), pages_to_come);
        room.map_err(|e| ForwardError::OutOfPages { needed: e.needed, available: e.quota })?;
        let pool = self.memory.pages.pool();
        // A context may hold a page twice. Telling pages apart takes time and matters only here.
        if absent > 0 || pages_in_use + pages_to_come > pool {
            let distinct: BTreeSet<LogicalId> = self.pages_of(pass).collect();
            pages_in_use = distinct.len() as u32;
            absent = distinct.iter().filter(|id| self.device(**id).is_none()).count() as u32;
        }
        if pages_in_use + pages_to_come > pool {
            return Err(ForwardError::OutOfPages { needed: pages_in_use + pages_to_come, available: pool });
        }
        let pages_fixed = absent + u32::from(copies_tail);
        let rows = rows.min(pass.left());
        let rows_min = if self.limits.encoder { rows } else { 1 };
        Ok(Demand {
            copies_tail,
            pages_fixed,
            pages_min: pages_fixed + pass.pages_for(rows_min, page_tokens),
            pages_max: pages_fixed + pass.pages_for(rows, page_tokens),
            rows,
            rows_without_page: page_tokens - pass.last_page_len,
        })
    }

    /// Pages of a pass and the part of its context that it reads; a page may come more than once.
    pub(super) fn pages_of<'a>(&'a self, pass: &'a Pass) -> impl Iterator<Item = LogicalId> + 'a {
        let read = &self.context_of(pass).entries[..pass.first_written_entry];
        read.iter().chain(&pass.entries).map(|entry| entry.page)
    }

    /// Takes the pages that the prefix cache has for the next rows; the key of the first that it might have and has not.
    fn take_cached(&mut self, ticket: Ticket) -> Option<Key> {
        let page_tokens = self.limits.page_tokens;
        let live = self.memory.full();
        while self.memory.caching {
            let pass = &self.passes[&ticket];
            let owner = self.context_of(pass).owner;
            let key = pass.next_page_key(page_tokens, &self.memory.pages)?;
            let Some((node, page)) = self.memory.prefix.find(&key) else { return Some(key) };
            if pass.writes_tail(page_tokens) && !self.has_room_beside_tail(pass) {
                return None;
            }
            let pass = self.passes.get_mut(&ticket).expect("just looked at");
            self.totals.rows_cached += u64::from(pass.rows_of_page(page_tokens));
            pass.take_cached(Entry { page, live }, node, page_tokens);
            self.memory.hold(Holder::Owner(owner), page);
        }
        None
    }

    /// Whether a page of the prefix cache may take the place of the context's last one, which the context keeps until the
    /// pass commits: then there must be one page more than for rows that are written behind it, for the owner and in the
    /// pool. No other pass can make room for it, so without it the rows are computed.
    fn has_room_beside_tail(&self, pass: &Pass) -> bool {
        let page_tokens = self.limits.page_tokens;
        let context = self.context_of(pass);
        let rest = pass.left() - pass.rows_of_page(page_tokens);
        let more = 1 + rest.div_ceil(page_tokens);
        context.entries.len() as u32 + more <= self.memory.pages.pool()
            && self.memory.accounts.check_room(Account::Owner(context.owner), more).is_ok()
    }

    /// A page of the cache that begins as the page does that a pass begins next.
    fn find_part(&self, pass: &Pass) -> Option<Part> {
        let key = pass.next_part_key(self.limits.page_tokens).filter(|_| self.memory.caching)?;
        let (node, rows) = self.memory.prefix.find_part(&key)?;
        Some(Part { node, page: self.memory.prefix.page(node)?, rows }).filter(|part| self.has_part(*part))
    }

    /// Whether the page is in the cache still, and can be copied.
    fn has_part(&self, part: Part) -> bool {
        self.memory
            .prefix
            .page(part.node)
            .is_some_and(|page| !self.memory.pages.get(page).lost && self.device(page).is_some())
    }

    /// Brings back, copies and creates the pages that the next `rows` rows need, those of `part` among them. Room was made
    /// for them.
    fn take_pages(&mut self, ticket: Ticket, copy: bool, part: Option<Part>, rows: u32) {
        let pass = &self.passes[&ticket];
        let owner = self.context_of(pass).owner;
        let absent: Vec<LogicalId> =
            self.pages_of(pass).filter(|page| self.device(*page).is_none()).collect();
        self.totals.restores += u64::from(!absent.is_empty());
        for page in absent {
            if self.device(page).is_none() {
                self.totals.pages_moved_in += 1;
                self.memory.pages.restore(page);
            }
        }
        let pass = self.passes.get_mut(&ticket).expect("a pass in the queue exists");
        let new = pass.pages_for(rows, self.limits.page_tokens);
        if copy {
            let page = self.memory.pages.create_copy(pass.entries[0].page);
            self.memory.hold(Holder::Owner(owner), page);
            pass.entries[0].page = page;
            pass.tail_in_place = false;
        }
        if let Some(part) = part {
            let page = self.memory.pages.create_copy(part.page);
            self.memory.hold(Holder::Owner(owner), page);
            pass.take_part(page, part.rows);
            self.totals.rows_cached += u64::from(part.rows);
        }
        for _ in u32::from(part.is_some())..new {
            let page = self.memory.pages.create();
            self.memory.hold(Holder::Owner(owner), page);
            pass.entries.push(Entry { page, live: 0 });
        }
    }

    /// When time alone will change what a blocked pass may take: a context becomes idle for long enough, or a pass
    /// impatient.
    fn next_change(&self, now: Duration) -> Option<Duration> {
        let idle = self.contexts.values().filter(|context| context.pass.is_none());
        let idle =
            idle.filter_map(|context| context.answered).map(|at| at.saturating_add(self.config.idle_after));
        let impatient =
            self.passes.values().map(|pass| pass.last_progress_at.saturating_add(self.config.patience));
        idle.chain(impatient).filter(|at| *at > now).min()
    }
}

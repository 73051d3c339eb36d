//! Whose rows go into a batch, and how many, while several tenants want some.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng 1996), with tenants as flows and computed rows as their service, a
//! batch at a time. Each tenant has a *service*, a count of rows that only grows. For each batch:
//!
//! ```text
//! clock   = least service of the tenants that the last batch left wanting; of nobody: the most of all
//! service = max(service, clock)                  of those that it did not leave wanting: no credit for idle times
//! rows    = those of the longest batch that takes at most T times what the least demanding tenant's takes alone,
//!           with some room
//! shares  = the rows poured on the services:     service  wants
//!                                                level ──────────────┬───┬──
//!           share = min(wants, level - service)    A  ████████░░░░░░░│   │
//!                                                  B  ████████████░░░│   │
//!                                                  C  █████████░ 1   C wants only one
//! service += rows computed
//! ```
//! So a tenant gets its part of the rows, however many passes it has and whatever priority it gives them, what one does
//! not want goes to the others, and a step of a tenant that wants little takes at most as many times as long as alone as
//! there are tenants at work (`T`).
//!
//! A tenant is *at work* while it has passes, and from its last answer for as long as a batch of all that the others
//! want takes. So one that is away for a moment comes back to short batches, and one that is away for longer
//! waits at most for one batch, which is less than it was away.
//!
//! That bounds a batch by what the least demanding tenant's takes; `streams` bounds it in the same way by what those that
//! decode take together, of one tenant too. The lower one counts.
//!
//! The order of a tenant's own passes is not decided here. All tenants weigh the same; a weight would divide the rows
//! that `Share::take` adds to a service.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::batch_time::{BatchTime, Work};
use super::streams::Streams;
use super::{Order, Rank};
use crate::request::{Priority, TenantId, Ticket};

/// Classes of passes: what is poured into one comes after all classes before it. One but where the operator lets
/// priority count across tenants.
const CLASSES: usize = 3;

/// Share of a tenant's rows reserved for its long passes: with 1/4, short ones keep three quarters of the throughput while
/// a prompt of n rows needs at most 4 n / rows batches.
const RESERVED: u32 = 4;

/// The part of the time that a tenant's streams are promised for which is planned; the rest is for what is not foreseen.
/// With all of it planned for, one batch in two would take longer.
const PLANNED: f64 = 0.8;

/// What is kept of tenants between batches.
#[derive(Debug, Default)]
pub(crate) struct Fair {
    tenants: BTreeMap<TenantId, Tenant>,
    /// Service of the next tenant to come.
    clock: u64,
    batch_time: BatchTime,
    /// Tenants at work in the last round.
    at_work: u32,
    pub(crate) streams: Streams,
    /// Rows that the streams leave to prompts in the batch that is planned.
    prompt_rows: Option<u32>,
    priority_across_tenants: bool,
}

#[derive(Debug, Default)]
struct Tenant {
    /// Passes that wait or are computed.
    passes: u32,
    service: u64,
    /// Whether the last batch had no room for all the rows it wanted.
    left_wanting: bool,
    /// Whether others took what it could not, as pages or the like were missing for some of its rows.
    gave_up: bool,
    /// What its passes had left when it last had any, by class.
    wants: [Work; CLASSES],
    /// When rows of it were last computed.
    computed_at: Option<Duration>,
    /// The pass that has waited longest beyond patience.
    foremost: Option<Ticket>,
}

/// A tenant's part of the batch that is planned.
#[derive(Debug)]
pub(crate) struct Share {
    tenant: TenantId,
    service: u64,
    wants: [Work; CLASSES],
    /// Rows that its passes still want, those out of pages aside.
    unserved: u64,
    /// Whether some are out of pages, or failed.
    gave_up: bool,
    /// Rows of its longest long pass.
    longest: u32,
    /// Rows it may still have.
    pub(crate) rows: u32,
    /// Passes it may still have in the batch.
    pub(crate) passes: u32,
    /// Of the rows, those for a long pass, so that many short ones cannot hold it up for ever.
    pub(crate) reserved: u32,
}

/// A pass that waits for its turn.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) ticket: Ticket,
    /// Index of its tenant's share.
    pub(crate) share: usize,
    /// Its place among those of its tenant, and among all when there is one tenant.
    pub(crate) order: Order,
    pub(crate) rows: u32,
    /// Tokens that its context holds.
    pub(crate) length: u32,
    pub(crate) long: bool,
    /// Whether it was out of pages last time.
    pub(crate) blocked: bool,
    pub(crate) priority: Priority,
    pub(crate) arrival: u64,
}

/// Where a pass stands among those of all tenants: class, service that its tenant has when its first row is due, and
/// for equals those with few rows left, then the first to arrive.
type Turn = (usize, u64, bool, u64);

impl Waiting {
    /// Its rank, if it is out of pages or impatient.
    pub(crate) fn rank(&self) -> Option<Rank> {
        match self.order {
            Order::First(Reverse(rank)) => Some(rank),
            Order::Then { .. } => None,
        }
    }

    /// Whether it was out of pages last time, for so long that it gets some before others of its tenant.
    pub(super) fn takes_pages_first(&self) -> bool {
        self.blocked && self.rank().is_some_and(|rank| rank.impatient.is_some())
    }

    pub(super) fn work(&self) -> Work {
        Work::of(self.rows, self.length)
    }

    /// Rows that it waits for, unless it waits for pages.
    fn for_rows(&self) -> u64 {
        if self.blocked { 0 } else { u64::from(self.rows) }
    }
}

impl Fair {
    pub(crate) fn new(priority_across_tenants: bool, prefill_share: u32) -> Fair {
        let streams = Streams::new(prefill_share, priority_across_tenants);
        Fair { priority_across_tenants, streams, ..Fair::default() }
    }

    /// A tenant has one more pass.
    pub(crate) fn enter(&mut self, tenant: TenantId) {
        self.tenants.entry(tenant).or_default().passes += 1;
    }

    /// A tenant has one pass less.
    pub(crate) fn leave(&mut self, tenant: TenantId) {
        self.tenants.get_mut(&tenant).expect("it has a pass").passes -= 1;
    }

    /// Rows of a tenant were computed.
    pub(crate) fn computed(&mut self, tenant: TenantId, now: Duration) {
        if let Some(tenant) = self.tenants.get_mut(&tenant) {
            tenant.computed_at = Some(now);
        }
    }

    /// A batch took so long.
    pub(crate) fn observe(&mut self, work: Work, time: Duration) {
        self.batch_time.observe(work, time);
    }

    /// Tenants at work when the last batch was planned.
    pub(crate) fn at_work(&self) -> u32 {
        self.at_work
    }

    /// Whether a tenant has more waiting than the last batch took.
    pub(crate) fn is_left_wanting(&self, tenant: TenantId) -> bool {
        self.tenants.get(&tenant).is_some_and(|tenant| tenant.passes > 0 && tenant.left_wanting)
    }

    /// Whether a pass is the one of its tenant that has waited longest beyond patience, when there are others.
    pub(crate) fn is_foremost(&self, tenant: TenantId, ticket: Ticket) -> bool {
        self.tenants.get(&tenant).is_some_and(|tenant| tenant.foremost == Some(ticket))
    }

    /// Says which pass of a tenant has waited longest beyond patience.
    pub(crate) fn set_foremost(&mut self, tenant: TenantId, foremost: Ticket) {
        self.tenants.get_mut(&tenant).expect("it has a pass").foremost = Some(foremost);
    }

    /// Begins a round: a share for each tenant that has passes, by tenant, with nothing in it yet.
    pub(crate) fn shares(&mut self) -> Vec<Share> {
        let waiting = || self.tenants.values().filter(|tenant| tenant.passes > 0);
        let least = waiting().filter(|tenant| tenant.left_wanting).map(|tenant| tenant.service).min();
        let most = || self.tenants.values().map(|tenant| tenant.service).max();
        self.clock = self.clock.max(least.or_else(most).unwrap_or(0));
        let mut shares = Vec::new();
        for (id, tenant) in &mut self.tenants {
            tenant.foremost = None;
            if tenant.passes == 0 {
                tenant.left_wanting = false;
                continue;
            }
            if !tenant.left_wanting {
                tenant.service = tenant.service.max(self.clock);
            }
            tenant.wants = Default::default();
            shares.push(Share::new(*id, tenant.service));
        }
        shares
    }

    /// The class of a pass.
    fn class(&self, priority: Priority) -> usize {
        match priority {
            _ if !self.priority_across_tenants => 0,
            Priority::High => 0,
            Priority::Normal => 1,
            Priority::Low => 2,
        }
    }

    /// Enters what waits into the shares, and says how many rows the batch may have.
    pub(crate) fn bound(
        &mut self,
        shares: &mut [Share],
        waiting: &[Waiting],
        batch_tokens: u32,
        now: Duration,
    ) -> u32 {
        self.want(shares, waiting);
        for pass in waiting {
            shares[pass.share].unserved += pass.for_rows();
        }
        for share in &mut *shares {
            self.tenants.get_mut(&share.tenant).expect("it has a pass").wants = share.wants;
        }
        let all: Work = waiting.iter().map(Waiting::work).sum();
        let longest = self.batch_time.of(all.at_most(batch_tokens));
        let is_at_work = |tenant: &Tenant| {
            tenant.passes > 0 || tenant.computed_at.is_some_and(|at| now.saturating_sub(at) < longest)
        };
        let clock = self.clock;
        self.tenants.retain(|_, tenant| is_at_work(tenant) || tenant.service > clock);
        let at_work = || self.tenants.values().filter(|tenant| is_at_work(tenant));
        self.at_work = at_work().count() as u32;
        let tenants: Vec<TenantId> = shares.iter().map(Share::tenant).collect();
        self.streams.forget(now.saturating_sub(longest));
        let allowed = self.streams.allow(waiting, &tenants, &self.batch_time, batch_tokens);
        let allowed = allowed.filter(|allowed| allowed.rows <= batch_tokens);
        let bound = allowed.map_or(batch_tokens, |allowed| allowed.rows);
        self.prompt_rows = allowed.map(|allowed| allowed.prompt_rows);
        let at_work = || self.tenants.values().filter(|tenant| is_at_work(tenant));
        if self.at_work < 2 {
            return bound;
        }
        // The least demanding of those who want something of the first class that anybody waits with.
        let class = (0..CLASSES).find(|class| shares.iter().any(|share| share.wants[*class].rows > 0));
        let wants = at_work().map(|tenant| tenant.wants[class.unwrap_or(0)].at_most(batch_tokens));
        let wants = wants.filter(|wants| wants.rows > 0);
        match wants.min_by_key(|wants| (self.batch_time.of(*wants), wants.rows)) {
            Some(least) => {
                let times = PLANNED * f64::from(self.at_work);
                self.batch_time.rows_in(times, least, all, self.at_work).min(bound)
            }
            None => bound,
        }
    }

    /// Enters the rows that passes have left.
    fn want(&self, shares: &mut [Share], waiting: &[Waiting]) {
        for share in &mut *shares {
            (share.wants, share.longest) = Default::default();
        }
        for pass in waiting {
            let share = &mut shares[pass.share];
            let wants = &mut share.wants[self.class(pass.priority)];
            *wants = [*wants, pass.work()].into_iter().sum();
            if pass.long {
                share.longest = share.longest.max(pass.rows);
            }
        }
    }

    /// Divides `rows` rows and `passes` places among the tenants of `waiting`.
    pub(crate) fn divide(&self, shares: &mut [Share], waiting: &[Waiting], rows: u32, passes: u32) {
        self.want(shares, waiting);
        pour(shares, rows);
        for share in &mut *shares {
            // Of two rows one, of one none: whoever waits for long goes first in the end. No more than streams leave.
            let reserved = (share.rows / RESERVED).max(u32::from(share.rows > 1));
            share.reserved = share.longest.min(reserved).min(self.prompt_rows.unwrap_or(u32::MAX));
            share.passes = passes;
        }
        if waiting.len() as u64 > u64::from(passes) && shares.len() > 1 {
            shares.iter_mut().for_each(|share| share.passes = 0);
            let mut turns: Vec<(Turn, usize)> =
                self.turns(shares, waiting).into_iter().zip(waiting.iter().map(|pass| pass.share)).collect();
            turns.sort_unstable();
            turns.iter().take(passes as usize).for_each(|(_, share)| shares[*share].passes += 1);
        }
    }

    /// The turn of each pass. Those of a tenant are in their own order already.
    fn turns(&self, shares: &[Share], waiting: &[Waiting]) -> Vec<Turn> {
        let mut due: Vec<u64> = shares.iter().map(|share| share.service).collect();
        let turn = |pass: &Waiting| {
            let due = &mut due[pass.share];
            let turn = (self.class(pass.priority), *due, pass.long, pass.arrival);
            *due += u64::from(pass.rows);
            turn
        };
        waiting.iter().map(turn).collect()
    }

    /// Puts passes into the order in which they are looked at. Of one tenant: its own. Of several: first those out of
    /// pages, by rank, so that pages go where they are due; then each when its first row is due.
    pub(crate) fn sort(&self, shares: &[Share], mut waiting: Vec<Waiting>) -> Vec<Waiting> {
        waiting.sort_unstable_by_key(|pass| (pass.share, pass.order, pass.ticket));
        if shares.len() > 1 {
            let mut turns: Vec<(Turn, Waiting)> =
                self.turns(shares, &waiting).into_iter().zip(waiting).collect();
            let blocked = |pass: &Waiting| pass.rank().filter(|_| pass.blocked).map(Reverse);
            turns.sort_by_key(|(turn, pass)| (!pass.blocked, blocked(pass), *turn));
            waiting = turns.into_iter().map(|(_, pass)| pass).collect();
        }
        waiting
    }

    /// Ends a round: what the shares became.
    pub(crate) fn end(&mut self, shares: &[Share]) {
        for share in shares {
            let tenant = self.tenants.get_mut(&share.tenant).expect("it was at work");
            (tenant.service, tenant.left_wanting) = (share.service, share.unserved > 0);
            tenant.gave_up = share.gave_up;
        }
    }

    /// Checks that tenants have `passes`, and that no tenant was passed over: one that wants more rows than it got, and
    /// had pages for all of them, is at most two batches behind any other.
    pub(crate) fn check(&self, passes: &BTreeMap<TenantId, u32>, batch_tokens: u32) {
        for (id, tenant) in &self.tenants {
            assert_eq!(tenant.passes, passes.get(id).copied().unwrap_or(0), "{id:?}: passes");
        }
        assert!(passes.keys().all(|id| self.tenants.contains_key(id)), "a tenant with a pass is unknown");
        let wanting = |tenant: &&Tenant| tenant.passes > 0 && tenant.left_wanting && !tenant.gave_up;
        let wanting = self.tenants.values().filter(wanting);
        let least = wanting.map(|tenant| tenant.service).min().filter(|_| !self.priority_across_tenants);
        for (id, tenant) in &self.tenants {
            let ahead = least.map_or(0, |least| tenant.service.saturating_sub(least));
            assert!(ahead <= 2 * u64::from(batch_tokens), "{id:?} is {ahead} rows ahead of one that waits");
        }
    }
}

impl Share {
    fn new(tenant: TenantId, service: u64) -> Share {
        let (wants, unserved, gave_up, longest) = Default::default();
        Share { tenant, service, wants, unserved, gave_up, longest, rows: 0, passes: 0, reserved: 0 }
    }

    pub(crate) fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// A pass got `rows` rows, and wants `left` more.
    pub(crate) fn take(&mut self, pass: &Waiting, rows: u32, left: u32) {
        self.service += u64::from(rows);
        self.rows = self.rows.saturating_sub(rows);
        self.passes = self.passes.saturating_sub(1);
        self.unserved = self.unserved - pass.for_rows() + u64::from(left);
    }

    /// A pass does not wait for rows: it waits for pages, or failed.
    pub(crate) fn give_up(&mut self, pass: &Waiting) {
        self.unserved -= pass.for_rows();
        self.gave_up = true;
    }

    /// Nobody else wants what is left.
    pub(crate) fn lift(&mut self) {
        (self.rows, self.passes, self.reserved) = (u32::MAX, u32::MAX, 0);
    }
}

/// Pours rows on the services, class after class, up to what each tenant wants.
fn pour(shares: &mut [Share], rows: u32) {
    let mut got = vec![0; shares.len()];
    let mut left = u64::from(rows);
    for class in 0..CLASSES {
        let cup = |share: &Share, got: u64| (share.service + got, share.wants[class].rows);
        let cups: Vec<(u64, u64)> = shares.iter().zip(&got).map(|(share, got)| cup(share, *got)).collect();
        for (got, more) in got.iter_mut().zip(fill(&cups, left)) {
            *got += more;
            left -= more;
        }
    }
    for (share, got) in shares.iter_mut().zip(got) {
        share.rows = got as u32;
    }
}

/// Fills cups, each with a bottom and a depth, to one level; what does not make a whole level goes to the first.
fn fill(cups: &[(u64, u64)], rows: u64) -> Vec<u64> {
    let at = |level: u64| cups.iter().map(move |(bottom, depth)| level.saturating_sub(*bottom).min(*depth));
    if cups.iter().map(|(_, depth)| depth).sum::<u64>() <= rows {
        return cups.iter().map(|(_, depth)| *depth).collect();
    }
    // The highest level that the rows reach: from the lowest bottom, it is below that many rows more.
    let mut low = cups.iter().map(|(bottom, _)| *bottom).min().unwrap_or(0);
    let mut high = cups.iter().map(|(bottom, _)| *bottom).max().unwrap_or(0) + rows + 1;
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if at(middle).sum::<u64>() <= rows { low = middle } else { high = middle }
    }
    let mut left = rows - at(low).sum::<u64>();
    let mut filled: Vec<u64> = at(low).collect();
    for (got, (bottom, depth)) in filled.iter_mut().zip(cups) {
        if left > 0 && *bottom <= low && *got < *depth {
            (*got, left) = (*got + 1, left - 1);
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: u32 = 100;

    /// A batch of at most `rows` rows: the wants of each tenant's passes, and what each tenant got, by tenant.
    fn batch(fair: &mut Fair, rows: u32, places: u32, now: Duration, wants: &[(u64, &[u32])]) -> Vec<u32> {
        let tenants = wants.iter().map(|(id, _)| TenantId(*id));
        for tenant in tenants.clone() {
            fair.tenants.entry(tenant).or_default().passes = 0;
        }
        for (id, passes) in wants {
            passes.iter().for_each(|_| fair.enter(TenantId(*id)));
        }
        let mut shares = fair.shares();
        let mut waiting = Vec::new();
        for (id, passes) in wants {
            for rows in *passes {
                let arrival = waiting.len() as u64;
                let (priority, long) = (Priority::Normal, *rows > 16);
                waiting.push(Waiting {
                    ticket: Ticket(arrival),
                    share: shares.iter().position(|share| share.tenant.0 == *id).expect("it has passes"),
                    order: Order::Then { priority: Reverse(priority), long, arrival },
                    rows: *rows,
                    length: 0,
                    long,
                    blocked: false,
                    priority,
                    arrival,
                });
            }
        }
        let bound = fair.bound(&mut shares, &waiting, BATCH, now);
        let waiting = fair.sort(&shares, waiting);
        fair.divide(&mut shares, &waiting, rows.min(bound), places);
        let mut got = vec![0; shares.len()];
        for pass in &waiting {
            let share = &mut shares[pass.share];
            let rows = if share.passes == 0 { 0 } else { share.rows.min(pass.rows) };
            if rows > 0 {
                share.take(pass, rows, pass.rows - rows);
                got[pass.share] += rows;
            }
        }
        fair.end(&shares);
        let counts = tenants.map(|tenant| (tenant, fair.tenants[&tenant].passes)).collect();
        fair.check(&counts, BATCH);
        // All of them go, and come back for the next batch or not.
        fair.tenants.values_mut().for_each(|tenant| tenant.passes = 0);
        shares.iter().for_each(|share| fair.computed(share.tenant, now));
        got
    }

    /// Rows that attend to nothing.
    fn rows_alone(rows: u32) -> Work {
        Work { rows: rows.into(), attended: 0 }
    }

    /// Fair with a known time of batches, in which rows cost little.
    fn cheap_rows() -> Fair {
        let mut fair = Fair::default();
        (1..=BATCH)
            .for_each(|rows| fair.observe(rows_alone(rows), Duration::from_micros(1000 + u64::from(rows))));
        fair
    }

    #[test]
    fn cups_fill_to_one_level() {
        assert_eq!(fill(&[(0, 9), (0, 1), (0, 9)], 7), [3, 1, 3]);
        assert_eq!(fill(&[(4, 9), (0, 9), (9, 9)], 7), [2, 5, 0], "up to 5, and one more");
        assert_eq!(fill(&[(0, 3), (5, 3)], 9), [3, 3], "no more than wanted");
        assert_eq!(fill(&[(0, 5), (0, 5), (0, 5)], 2), [1, 1, 0]);
        assert_eq!(fill(&[], 5), []);
    }

    #[test]
    fn passes_do_not_add_up_to_a_greater_share() {
        let mut fair = cheap_rows();
        let many = [1; 1000];
        for _ in 0..5 {
            let got = batch(&mut fair, 30, 100, Duration::ZERO, &[(1, &many), (2, &[1, 1]), (3, &[4000])]);
            assert_eq!(got, [14, 2, 14]);
        }
        // Places are divided as rows are: here a place is a row to those with single rows.
        let got = batch(&mut fair, 30, 6, Duration::ZERO, &[(1, &many), (2, &many)]);
        assert_eq!(got, [3, 3]);
    }

    #[test]
    fn whoever_got_less_gets_more_next_time_and_whoever_was_away_does_not() {
        let mut fair = cheap_rows();
        let many = [1; 100];
        // One place a batch: the prompt takes all rows of its batch, and then waits until the other is level with it.
        let alone = |fair: &mut Fair| batch(fair, 10, 1, Duration::ZERO, &[(1, &many), (2, &[90])]);
        let turns: Vec<Vec<u32>> = (0..12).map(|_| alone(&mut fair)).collect();
        let sums = [0, 1].map(|tenant| turns.iter().map(|got| got[tenant]).sum::<u32>());
        assert!(sums[0].abs_diff(sums[1]) <= 10, "{turns:?}");
        for _ in 0..50 {
            batch(&mut fair, 30, 100, Duration::ZERO, &[(1, &many)]);
        }
        let got = batch(&mut fair, 30, 100, Duration::ZERO, &[(1, &many), (2, &many)]);
        assert_eq!(got, [15, 15]);
    }

    #[test]
    fn a_batch_takes_as_many_times_the_time_of_the_least_as_there_are_tenants() {
        let mut fair = Fair::default();
        let ms = Duration::from_millis;
        (1..=BATCH).for_each(|rows| fair.observe(rows_alone(rows), ms(10) + ms(1) * rows));
        let many = [1; 1000];
        let rows = |fair: &mut Fair, now, wants: &[(u64, &[u32])]| -> u32 {
            batch(fair, u32::MAX, u32::MAX, now, wants).iter().sum()
        };
        assert_eq!(rows(&mut fair, ms(0), &[(1, &many)]), BATCH, "alone, all that fit");
        assert_eq!(
            rows(&mut fair, ms(0), &[(1, &many), (2, &[1])]),
            7,
            "four fifths of 22 ms, without the 10 that every batch takes"
        );
        assert_eq!(rows(&mut fair, ms(0), &[(1, &many), (2, &[60])]), BATCH);
        // The second is away for a moment, and then for longer than a batch of 100 rows takes.
        rows(&mut fair, ms(0), &[(1, &many), (2, &[1])]);
        assert_eq!(rows(&mut fair, ms(100), &[(1, &many)]), 7);
        assert_eq!(fair.at_work(), 2);
        assert_eq!(rows(&mut fair, ms(115), &[(1, &many)]), BATCH);
        assert_eq!((fair.at_work(), fair.tenants.len()), (1, 1), "forgotten");
        assert_eq!(rows(&mut fair, ms(115), &[(1, &many), (2, &[1, 1, 1]), (3, &many)]), 21);
    }

    #[test]
    fn priority_comes_before_shares_only_where_it_is_allowed() {
        for (across, expected) in [(false, [5, 5]), (true, [0, 10])] {
            let mut fair = Fair { batch_time: cheap_rows().batch_time, ..Fair::new(across, 100) };
            (0..2).for_each(|tenant| fair.enter(TenantId(tenant)));
            let mut shares = fair.shares();
            let pass = |share: usize, priority| Waiting {
                ticket: Ticket(share as u64),
                share,
                order: Order::Then { priority: Reverse(priority), long: true, arrival: share as u64 },
                rows: 90,
                length: 0,
                long: true,
                blocked: false,
                priority,
                arrival: share as u64,
            };
            let waiting = [pass(0, Priority::Normal), pass(1, Priority::High)];
            fair.bound(&mut shares, &waiting, BATCH, Duration::ZERO);
            fair.divide(&mut shares, &waiting, 10, 10);
            assert_eq!([shares[0].rows, shares[1].rows], expected);
        }
    }
}

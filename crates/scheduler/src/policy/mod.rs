//! Batching policies: one file each, one table.
//!
//! A policy answers four questions: when to fire, at most how many passes, in which order those of a tenant go, and who
//! gives up pages first. The last two have an answer that all share, and so has the fifth, whose rows go into the batch
//! when several tenants wait (`fair`), since fairness does not depend on when a batch is fired.

mod adaptive;
mod batch_time;
mod eager;
mod fair;
mod k;
mod kort;
mod streams;
mod t;

use std::cmp::Reverse;
use std::time::Duration;

use crate::request::{Priority, TenantId};

pub(crate) use batch_time::Work;
pub(crate) use fair::{Fair, Share, Waiting};
pub(crate) use streams::Stream;

/// The state of the queue when the backend is idle and something waits.
#[derive(Clone, Copy)]
pub(crate) struct QueueState<'a> {
    pub(crate) now: Duration,
    /// Passes waiting, at least 1.
    pub(crate) waiting: u32,
    /// When the oldest of them was submitted, or last computed a part: walks all that wait.
    pub(crate) oldest: &'a dyn Fn() -> Duration,
    /// Passes that the last batch answered and whose owners have not come back with another. With several tenants at
    /// work, none of those that have more waiting than the next batch takes.
    pub(crate) expected_back: u32,
    /// When the last batch completed, and how long it ran.
    pub(crate) completed: Option<(Duration, Duration)>,
}

/// When to fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fire {
    /// Now, with at most so many passes.
    Now { at_most: u32 },
    /// Not before this moment, unless so many more passes come in.
    NotBefore { until: Duration, arrivals: u32 },
}

/// What orders and ranks a context and the pass in flight on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) priority: Priority,
    pub(crate) owner_sequence: u64,
    pub(crate) context_sequence: u64,
    /// How its tenant stands beside the others at work.
    pub(crate) standing: Standing,
    /// Since when a pass has waited for longer than the scheduler's patience.
    pub(crate) impatient_since: Option<Duration>,
    /// Whether a pass could not get pages when it was looked at last.
    pub(crate) blocked: bool,
    /// Whether a pass has more rows left than a page has slots.
    pub(crate) long: bool,
    /// Order of arrival of the pass.
    pub(crate) arrival: u64,
}

/// How a tenant, and a pass of it, stand beside the others at work. The default where there are none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    /// The tenant; older ones have lower numbers.
    pub(crate) tenant: TenantId,
    /// Whole shares of the pool that the tenant holds, a share being the pool divided by the tenants at work.
    pub(crate) shares_held: u32,
    /// Whether the pass has waited longest of the tenant's impatient ones.
    pub(crate) foremost: bool,
    /// The priority, where the operator lets it count across tenants.
    pub(crate) priority: Priority,
}

/// Who keeps pages: the greater rank. Total over contexts.
///
/// What a tenant says of its own contexts, their priority and how many of them wait, comes after what sets tenants apart.
/// One pass of each may come before: so the pass that has waited longest of all is above all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    foremost: Option<Reverse<Duration>>,
    priority_across: Priority,
    shares_held: Reverse<u32>,
    tenant: Reverse<TenantId>,
    impatient: Option<Reverse<Duration>>,
    priority: Priority,
    owner: Reverse<u64>,
    context: Reverse<u64>,
}

/// Who of a tenant is served first: the smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Impatient, or out of pages last time: before all others, by rank, so that pages go where they are due.
    First(Reverse<Rank>),
    /// By priority, then those with few rows left, then by arrival.
    Then { priority: Reverse<Priority>, long: bool, arrival: u64 },
}

/// See the module docs.
pub(crate) trait Policy: Send {
    /// When to fire, and at most how many passes.
    fn fire(&self, queue: &QueueState<'_>) -> Fire;

    /// Who gives up pages first: the smallest rank.
    fn rank(&self, candidate: &Candidate) -> Rank {
        let standing = &candidate.standing;
        Rank {
            foremost: candidate.impatient_since.filter(|_| standing.foremost).map(Reverse),
            priority_across: standing.priority,
            shares_held: Reverse(standing.shares_held),
            tenant: Reverse(standing.tenant),
            impatient: candidate.impatient_since.map(Reverse),
            priority: candidate.priority,
            owner: Reverse(candidate.owner_sequence),
            context: Reverse(candidate.context_sequence),
        }
    }

    /// In which order passes of a tenant are put into a batch.
    fn order(&self, candidate: &Candidate) -> Order {
        if candidate.impatient_since.is_some() || candidate.blocked {
            return Order::First(Reverse(self.rank(candidate)));
        }
        Order::Then {
            priority: Reverse(candidate.priority),
            long: candidate.long,
            arrival: candidate.arrival,
        }
    }
}

/// A batching policy with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// Work-conserving: as soon as the backend is idle and the owners just answered have come back.
    Adaptive,
    /// Every pass alone, at once.
    Eager,
    /// Exactly `k` passes.
    K {
        /// Passes of a batch, at least 1.
        k: u32,
    },
    /// When the oldest pass has waited `t`.
    T {
        /// The wait.
        t: Duration,
    },
    /// `k` passes, or fewer when the oldest has waited `t`.
    KOrT {
        /// Passes of a batch, at least 1.
        k: u32,
        /// The wait.
        t: Duration,
    },
}

/// One row of the table of policies.
pub struct PolicyRow {
    /// Name in configuration.
    pub name: &'static str,
    /// One line for help texts.
    pub about: &'static str,
    /// Makes it from the configured `batching_strategy_k` and `batching_strategy_t`.
    pub make: fn(k: u32, t: Duration) -> PolicyKind,
}

/// All policies, the default first.
pub const POLICIES: &[PolicyRow] = &[
    PolicyRow {
        name: "adaptive",
        about: "as soon as the backend is idle and the inferlets just answered have come back (it waits a fifth of the last batch for them, 4 ms at most)",
        make: |_, _| PolicyKind::Adaptive,
    },
    PolicyRow { name: "eager", about: "for every pass alone, at once", make: |_, _| PolicyKind::Eager },
    PolicyRow {
        name: "k",
        about: "when k passes wait; a pass that has waited for 100 ms goes anyway",
        make: |k, _| PolicyKind::K { k },
    },
    PolicyRow { name: "t", about: "when the oldest pass has waited t", make: |_, t| PolicyKind::T { t } },
    PolicyRow {
        name: "kort",
        about: "when k passes wait, or the oldest has waited t",
        make: |k, t| PolicyKind::KOrT { k, t },
    },
];

impl PolicyKind {
    pub(crate) fn build(self) -> Box<dyn Policy> {
        match self {
            PolicyKind::Adaptive => Box::new(adaptive::Adaptive),
            PolicyKind::Eager => Box::new(eager::Eager),
            PolicyKind::K { k } => Box::new(k::K { k: k.max(1) }),
            PolicyKind::T { t } => Box::new(t::T { t }),
            PolicyKind::KOrT { k, t } => Box::new(kort::KOrT { k: k.max(1), t }),
        }
    }
}

/// A queue for tests: at `now_us`, `waiting` passes, the oldest since 0.
#[cfg(test)]
pub(crate) fn queue(now_us: u64, waiting: u32) -> QueueState<'static> {
    QueueState {
        now: Duration::from_micros(now_us),
        waiting,
        oldest: &|| Duration::ZERO,
        expected_back: 0,
        completed: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(arrival: u64) -> Candidate {
        Candidate {
            priority: Priority::Normal,
            owner_sequence: arrival,
            context_sequence: arrival,
            standing: Standing::default(),
            impatient_since: None,
            blocked: false,
            long: false,
            arrival,
        }
    }

    #[test]
    fn names_are_unique_and_every_row_builds() {
        for (index, row) in POLICIES.iter().enumerate() {
            assert!(POLICIES[..index].iter().all(|other| other.name != row.name));
            (row.make)(4, Duration::from_millis(1)).build().fire(&queue(0, 1));
        }
        assert_eq!((POLICIES[0].make)(1, Duration::ZERO), PolicyKind::Adaptive);
    }

    #[test]
    fn older_owners_rank_first_unless_priority_or_impatience_say_otherwise() {
        let rank = |s: Candidate| PolicyKind::Adaptive.build().rank(&s);
        assert!(rank(candidate(1)) > rank(candidate(2)));
        assert!(rank(Candidate { priority: Priority::High, ..candidate(2) }) > rank(candidate(1)));
        let since = |ms| Some(Duration::from_millis(ms));
        let impatient = Candidate { impatient_since: since(5), ..candidate(3) };
        assert!(rank(impatient) > rank(Candidate { priority: Priority::High, ..candidate(1) }));
        assert!(rank(impatient) > rank(Candidate { impatient_since: since(6), ..candidate(1) }));
    }

    #[test]
    fn between_tenants_shares_held_decide_and_one_pass_that_waited_for_long() {
        let rank = |s: Candidate| PolicyKind::Adaptive.build().rank(&s);
        let since = |ms| Some(Duration::from_millis(ms));
        let of =
            |tenant, shares_held| Standing { tenant: TenantId(tenant), shares_held, ..Standing::default() };
        let modest = Candidate { standing: of(2, 0), ..candidate(9) };
        let greedy = Candidate { standing: of(1, 1), ..candidate(1) };
        assert!(rank(modest) > rank(greedy), "whoever holds less");
        assert!(rank(modest) > rank(Candidate { priority: Priority::High, ..greedy }), "whatever it says");
        assert!(rank(modest) > rank(Candidate { impatient_since: since(1), ..greedy }), "and for how many");
        let equal = Candidate { standing: of(1, 0), ..candidate(10) };
        assert!(rank(equal) > rank(modest), "then the older tenant");
        assert!(rank(equal) > rank(Candidate { priority: Priority::High, ..modest }));
        let foremost = |s: Candidate, ms| Candidate {
            impatient_since: since(ms),
            standing: Standing { foremost: true, ..s.standing },
            ..s
        };
        assert!(rank(foremost(greedy, 7)) > rank(modest), "nobody waits for ever");
        assert!(rank(foremost(greedy, 7)) < rank(foremost(modest, 6)), "whoever waited longest");
        let allowed =
            |s: Candidate, priority| Candidate { standing: Standing { priority, ..s.standing }, ..s };
        assert!(rank(allowed(greedy, Priority::High)) > rank(allowed(modest, Priority::Normal)));
    }

    #[test]
    fn short_passes_go_before_long_ones_and_blocked_ones_before_both() {
        let order = |s: Candidate| PolicyKind::Adaptive.build().order(&s);
        assert!(order(candidate(2)) < order(Candidate { long: true, ..candidate(1) }));
        assert!(order(candidate(1)) < order(candidate(2)));
        assert!(order(Candidate { blocked: true, ..candidate(9) }) < order(candidate(1)));
    }
}

//! Who gives up pages: cached prefixes first, then idle snapshots, then contexts of the lowest rank.
//!
//! A pass may take pages from contexts of lower rank, and from any context that has been idle for a while. So the pass
//! of the highest rank gets room whenever it fits the pool at all, and since a pass that waits long enough rises above
//! all others, everybody gets it some time. Pages that the planned batch or the requester needs stay; so do pages shared
//! with a context that may not be evicted.

use std::time::Duration;

use rustc_hash::FxHashSet;

use super::Scheduler;
use super::plan::Demand;
use crate::context::Context;
use crate::pages::{LogicalId, Page, PageLocation};
use crate::policy::Rank;
use crate::request::{ContextId, Ticket};

pub(super) enum Room {
    /// So many pages of the pool are free now: at least those of the first row.
    Free(u32),
    /// Not now; nothing was taken. The rank of the requester.
    Wait(Rank),
    /// Not until host memory has room again, and the pass has waited for long. So many pages could be had.
    HostFull { available: u32 },
}

impl Scheduler {
    /// Makes room for a pass: at least for its first row, better for all.
    pub(super) fn make_room(
        &mut self,
        ticket: Ticket,
        demand: &Demand,
        refused: Option<Rank>,
        now: Duration,
    ) -> Room {
        let Demand { pages_min, pages_max, .. } = *demand;
        let free = self.memory.pages.free();
        if free >= pages_max {
            return Room::Free(free);
        }
        let pass = &self.passes[&ticket];
        let requester = pass.request.context;
        let rank = self.rank(&self.contexts[&requester], now);
        let impatient = now.saturating_sub(pass.last_progress_at) >= self.config.patience;
        let reclaimable = free + self.memory.prefix.idle();
        let mut spills = Vec::new();
        let mut wanted = 0;
        if reclaimable < pages_max {
            if refused.is_none_or(|refused| rank > refused) {
                // Its own round of pins: what another needed that got no room in this one may be taken.
                self.round += 1;
                let batch = self.running.iter().map(|pass| &self.passes[&pass.ticket]);
                let needed = batch.chain([pass]).flat_map(|pass| self.pages_of(pass));
                for page in needed.collect::<Vec<LogicalId>>() {
                    self.memory.pages.get_mut(page).pinned = self.round;
                }
                wanted = pages_max - reclaimable;
                spills = self.victims(requester, rank, wanted, now);
            }
            let host = self.memory.pages.host_left();
            let obtainable = reclaimable + (spills.len() as u32).min(host);
            if obtainable < pages_min {
                let host_is_short = reclaimable + spills.len() as u32 >= pages_min;
                return match host_is_short && impatient {
                    true => Room::HostFull { available: obtainable },
                    false => Room::Wait(rank),
                };
            }
            spills.truncate(host.min(wanted) as usize);
        }
        while self.memory.pages.free() < pages_max && self.memory.evict() {}
        let mut suspended: FxHashSet<ContextId> = FxHashSet::default();
        for (page, context) in spills {
            self.memory.pages.spill(page);
            self.totals.pages_moved_out += 1;
            if context.is_some_and(|context| suspended.insert(context)) {
                self.totals.suspensions += 1;
            }
        }
        let free = self.memory.pages.free();
        assert!(free >= pages_min, "room for {pages_min} pages was found, and {free} are free");
        Room::Free(free)
    }

    /// Up to `wanted` pages to spill for a pass of this rank, in order, with the context that loses each.
    fn victims(
        &self,
        requester: ContextId,
        rank: Rank,
        wanted: u32,
        now: Duration,
    ) -> Vec<(LogicalId, Option<ContextId>)> {
        let mut contexts: Vec<(Rank, ContextId, &Context)> =
            self.contexts.iter().map(|(id, context)| (self.rank(context, now), *id, context)).collect();
        contexts.sort_unstable_by_key(|(rank, id, _)| (*rank, *id));
        let idle = |context: &Context| {
            let since = context.answered.map_or(Duration::MAX, |at| now.saturating_sub(at));
            context.pass.is_none() && since >= self.config.idle_after
        };
        let may_evict = |other: Rank, id: ContextId, context: &Context| {
            id != requester && (other < rank || idle(context))
        };
        let mut taken: FxHashSet<LogicalId> = FxHashSet::default();
        for (other, id, context) in &contexts {
            if !may_evict(*other, *id, context) {
                taken.extend(self.all_pages(context));
            }
        }
        let in_pool = |page: &Page| {
            matches!(page.location, PageLocation::Device(_)) && page.pinned != self.round && !page.lost
        };
        let mut victims = Vec::new();
        for (id, page) in self.memory.pages.iter() {
            if victims.len() as u32 >= wanted {
                return victims;
            }
            if page.refs > 0 && page.refs == page.snapshot_refs && in_pool(page) {
                victims.push((id, None));
            }
        }
        for (other, id, context) in &contexts {
            if !may_evict(*other, *id, context) {
                continue;
            }
            for page in self.all_pages(context) {
                if victims.len() as u32 >= wanted {
                    return victims;
                }
                if in_pool(self.memory.pages.get(page)) && taken.insert(page) {
                    victims.push((page, Some(*id)));
                }
            }
        }
        victims
    }

    /// All pages of a context and its pass, the last first.
    fn all_pages<'a>(&'a self, context: &'a Context) -> impl Iterator<Item = LogicalId> + 'a {
        let pass = context.pass.map_or(&[][..], |ticket| self.passes[&ticket].owned());
        pass.iter().rev().chain(context.entries.iter().rev()).map(|entry| entry.page)
    }
}

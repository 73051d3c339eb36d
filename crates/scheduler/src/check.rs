//! All invariants at once, for tests and quiet moments.

use std::collections::{BTreeMap, BTreeSet};

use crate::accounts::Account;
use crate::context;
use crate::memory::low_bits;
use crate::pages::{LogicalId, PageLocation};
use crate::request::TenantId;
use crate::state::Scheduler;

impl Scheduler {
    /// Checks every invariant of the scheduler's state. Costs time proportional to all that is held.
    ///
    /// # Panics
    /// When one is broken.
    pub fn check(&self) {
        self.check_contexts();
        self.check_holders();
        self.check_places();
        self.check_prefix();
    }

    fn check_contexts(&self) {
        let page_tokens = self.limits.page_tokens;
        for (id, context) in &self.contexts {
            assert_eq!(context.length, context::length(&context.entries), "{id:?}: length");
            for entry in &context.entries {
                assert!(entry.live != 0 && entry.live & !low_bits(page_tokens) == 0, "{id:?}: {entry:?}");
            }
            if context.prefix_node.is_some() {
                assert_eq!(
                    context.prefix_node,
                    self.memory.prefix_node(context.tenant, context.salt, &context.entries),
                    "{id:?}: prefix_node"
                );
            }
            if let Some(ticket) = context.pass {
                assert_eq!(self.passes[&ticket].request.context, *id, "{ticket:?}");
            }
        }
        let mut passes: BTreeMap<TenantId, u32> = BTreeMap::new();
        for (ticket, pass) in &self.passes {
            *passes.entry(self.contexts[&pass.request.context].tenant).or_default() += 1;
            let context = &self.contexts[&pass.request.context];
            assert_eq!(context.pass, Some(*ticket));
            assert!(pass.left() > 0, "{ticket:?} is done and not answered");
            assert!(
                context.entries.len() - pass.first_written_entry <= 1,
                "{ticket:?} replaces more than the last page"
            );
            if pass.tail_in_place {
                assert_eq!(
                    context.entries[pass.first_written_entry].page, pass.entries[0].page,
                    "{ticket:?}: tail"
                );
            }
        }
        self.fair.check(&passes, self.limits.batch_tokens);
    }

    fn check_holders(&self) {
        let mut refs: BTreeMap<LogicalId, (u32, u32)> = BTreeMap::new();
        let mut accounts = Vec::new();
        let of_contexts = self.contexts.values().map(|context| (context.owner, &context.entries[..]));
        let of_passes =
            self.passes.values().map(|pass| (self.contexts[&pass.request.context].owner, pass.owned()));
        for (owner, entries) in of_contexts.chain(of_passes) {
            for entry in entries {
                refs.entry(entry.page).or_default().0 += 1;
                accounts.push((Account::Owner(owner), entry.page));
            }
        }
        for snapshot in self.snapshots.values() {
            for entry in &snapshot.entries {
                let refs = refs.entry(entry.page).or_default();
                *refs = (refs.0 + 1, refs.1 + 1);
                accounts.push((Account::Tenant(snapshot.tenant), entry.page));
            }
        }
        let shared = refs.values().filter(|(refs, _)| *refs > 1).count();
        assert_eq!(self.memory.shared as usize, shared, "pages with more than one holder");
        for (id, page) in self.memory.pages.iter() {
            let expected = refs.remove(&id).unwrap_or_default();
            assert_eq!((page.refs, page.snapshot_refs), expected, "{id:?}: holders");
        }
        assert!(refs.is_empty(), "pages are held that do not exist: {refs:?}");
        self.memory.accounts.check(accounts.into_iter());
    }

    fn check_places(&self) {
        let pages = &self.memory.pages;
        let mut device: BTreeSet<u32> = pages.free_ids().iter().map(|page| page.0).collect();
        assert_eq!(device.len() as u32, pages.free(), "a page is free twice");
        let mut host = BTreeSet::new();
        let (mut held, mut cached) = (0, 0);
        for (id, page) in pages.iter() {
            match page.location {
                PageLocation::Device(place) => {
                    assert!(device.insert(place.0), "{place:?} is in two places, one of them {id:?}");
                    if page.refs > 0 { held += 1 } else { cached += 1 }
                }
                PageLocation::Host(slot) => {
                    assert!(host.insert(slot), "host slot {slot} is used twice");
                    assert!(page.refs > 0, "{id:?} is in host memory for nobody");
                }
            }
        }
        assert_eq!(cached, self.memory.prefix.idle(), "pages without holder are the idle ones of the cache");
        assert_eq!(pages.free() + held + cached, pages.pool(), "free + held + cached = all");
        assert_eq!(host.len() as u32, pages.host_used(), "host slots");
        assert!(pages.host_used() <= self.config.host_pages, "host memory is bounded");
    }

    fn check_prefix(&self) {
        let mut nodes = 0;
        for (id, page) in self.memory.pages.iter() {
            if let Some(node) = page.node {
                nodes += 1;
                assert_eq!(self.memory.prefix.page(node), Some(id), "{id:?}: node");
            }
        }
        assert_eq!(nodes, self.memory.prefix.len(), "every node has its page");
    }
}

//! What the owners of a tenant hold, for people to look at. It is found when it is asked for and costs nothing before; an
//! answer looks at a bounded number of page entries, since batches wait for it.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;

use super::Scheduler;
use crate::context::Context;
use crate::pages::PageLocation;
use crate::request::{ContextId, OwnerId, TenantId};

/// Page entries that one answer looks at: a millisecond's work.
const ENTRIES: usize = 65_536;
/// Contexts that one answer lists.
const CONTEXTS: usize = 512;

/// Pages of an owner's contexts, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerPages {
    /// Its contexts.
    pub contexts: u32,
    /// Pages of the pool that nobody else holds: one context does.
    pub private: u32,
    /// Pages of the pool that several contexts or snapshots hold.
    pub shared: u32,
    /// Pages in host memory.
    pub spilled: u32,
}

/// A context, as a picture shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextPages {
    /// Its id.
    pub context: ContextId,
    /// That which it was forked or sliced from, while that exists.
    pub parent: Option<ContextId>,
    /// Live tokens.
    pub length: u32,
    /// Its pages.
    pub pages: u32,
    /// Of these, those at its beginning that are the parent's too.
    pub shared_with_parent: u32,
    /// Of its pages, those in host memory.
    pub spilled: u32,
}

/// What the owners of a tenant hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Pages of each owner that has contexts.
    pub owners: BTreeMap<OwnerId, OwnerPages>,
    /// The contexts of the owner that was asked for, older ones first.
    pub contexts: Vec<ContextPages>,
    /// Contexts that were not looked at or not listed, since there are too many.
    pub left_out: u32,
}

impl Scheduler {
    /// Pages of the owners of a tenant, and the contexts of one of them.
    pub fn holdings(&self, tenant: TenantId, owner: Option<OwnerId>) -> Holdings {
        let mut found = Holdings::default();
        let mut seen: FxHashSet<(OwnerId, u32)> = FxHashSet::default();
        let mut entries = 0;
        for (id, context) in self.contexts.iter().filter(|(_, context)| context.tenant == tenant) {
            entries += context.entries.len();
            if entries > ENTRIES {
                found.left_out += 1;
                continue;
            }
            let pages = found.owners.entry(context.owner).or_default();
            pages.contexts += 1;
            for entry in context.entries.iter().filter(|entry| seen.insert((context.owner, entry.page.0))) {
                let page = self.memory.pages.get(entry.page);
                match page.location {
                    PageLocation::Host(_) => pages.spilled += 1,
                    PageLocation::Device(_) if page.refs > 1 => pages.shared += 1,
                    PageLocation::Device(_) => pages.private += 1,
                }
            }
            if owner == Some(context.owner) {
                match found.contexts.len() < CONTEXTS {
                    true => found.contexts.push(self.context_pages(*id, context)),
                    false => found.left_out += 1,
                }
            }
        }
        found
    }

    fn context_pages(&self, id: ContextId, context: &Context) -> ContextPages {
        let parent = context.parent.and_then(|parent| Some((parent, self.contexts.get(&parent)?)));
        let shared = parent.map_or(0, |(_, parent)| {
            let pairs = context.entries.iter().zip(&parent.entries);
            pairs.take_while(|(own, parents)| own.page == parents.page).count()
        });
        let is_spilled = |page| matches!(self.memory.pages.get(page).location, PageLocation::Host(_));
        ContextPages {
            context: id,
            parent: parent.map(|(parent, _)| parent),
            length: context.length,
            pages: context.entries.len() as u32,
            shared_with_parent: shared as u32,
            spilled: context.entries.iter().filter(|entry| is_spilled(entry.page)).count() as u32,
        }
    }
}

//! Who holds which page: logical pages, the prefix cache and owners' shares, kept consistent with each other.

use crate::accounts::{Account, Accounts};
use crate::context::Entry;
use crate::pages::{LogicalId, Page, PageLocation, Pages, Provenance};
use crate::prefix::{Key, NodeId, Parent, Prefix};
use crate::request::{CacheSalt, OwnerId, TenantId};

/// See the module docs.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) pages: Pages,
    pub(crate) prefix: Prefix,
    pub(crate) accounts: Accounts,
    /// Whether computed pages enter the prefix cache.
    pub(crate) caching: bool,
    /// Pages with more than one entry.
    pub(crate) shared: u32,
}

/// Who holds an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Owner(OwnerId),
    /// A snapshot of a tenant.
    Snapshot(TenantId),
}

impl Holder {
    /// Who pays.
    fn account(self) -> Account {
        match self {
            Holder::Owner(owner) => Account::Owner(owner),
            Holder::Snapshot(tenant) => Account::Tenant(tenant),
        }
    }
}

impl Memory {
    pub(crate) fn full(&self) -> u64 {
        low_bits(self.pages.page_tokens())
    }

    /// One more entry for a page.
    pub(crate) fn hold(&mut self, holder: Holder, id: LogicalId) {
        let page = self.pages.get_mut(id);
        page.refs += 1;
        self.shared += u32::from(page.refs == 2);
        page.snapshot_refs += u32::from(matches!(holder, Holder::Snapshot(_)));
        self.accounts.hold(holder.account(), id);
        if let (1, Some(node)) = (page.refs, page.node) {
            self.prefix.set_held(node);
        }
    }

    pub(crate) fn hold_all(&mut self, holder: Holder, entries: &[Entry]) {
        for entry in entries {
            self.hold(holder, entry.page);
        }
    }

    /// One entry less. The last one frees the page, or leaves it to the prefix cache.
    pub(crate) fn release(&mut self, holder: Holder, id: LogicalId) {
        let page = self.pages.get_mut(id);
        page.refs -= 1;
        self.shared -= u32::from(page.refs == 1);
        page.snapshot_refs -= u32::from(matches!(holder, Holder::Snapshot(_)));
        self.accounts.release(holder.account(), id);
        if page.refs > 0 {
            return;
        }
        match (page.node, page.location, page.lost) {
            (None, ..) => self.pages.free_page(id),
            (Some(node), PageLocation::Device(_), false) => self.prefix.set_idle(node),
            // Not worth its room on the host.
            (Some(node), ..) => self.forget(node),
        }
    }

    /// Releases leaves first, so the LRU order evicts children before parents.
    pub(crate) fn release_all(&mut self, holder: Holder, entries: &[Entry]) {
        for entry in entries.iter().rev() {
            self.release(holder, entry.page);
        }
    }

    /// Takes a node and what follows it out of the prefix cache and frees what nobody holds.
    fn forget(&mut self, node: NodeId) {
        for id in self.prefix.remove(node) {
            let page = self.pages.get_mut(id);
            page.node = None;
            if page.refs == 0 {
                self.pages.free_page(id);
            }
        }
    }

    /// Frees at least one idle page of the prefix cache, if there is one.
    pub(crate) fn evict(&mut self) -> bool {
        let victim = self.prefix.victim();
        if let Some(node) = victim {
            self.forget(node);
        }
        victim.is_some()
    }

    /// Whether the only holder of a page may write its free slots.
    pub(crate) fn writable(&self, id: LogicalId) -> bool {
        let page = self.pages.get(id);
        page.refs == 1 && page.node.is_none()
    }

    /// The last node of the path that the entries follow in the prefix cache, a partial last one aside. `None` when they
    /// are not exactly such a path.
    pub(crate) fn prefix_node(&self, tenant: TenantId, salt: CacheSalt, entries: &[Entry]) -> Option<Parent> {
        if !self.caching {
            return None;
        }
        let mut prefix_node = Parent::Root(tenant, salt);
        for (index, entry) in entries.iter().enumerate() {
            if entry.live != self.full() {
                // With a gap, what follows would not be computed from all tokens of the path.
                let gapless = entry.live & (entry.live + 1) == 0;
                return (gapless && index + 1 == entries.len()).then_some(prefix_node);
            }
            let node = self.pages.get(entry.page).node?;
            if self.prefix.parent(node) != Some(prefix_node) {
                return None;
            }
            prefix_node = Parent::Node(node);
        }
        Some(prefix_node)
    }

    /// A full page has been computed after `prefix_node`. Registers it, or finds the one that holds the same already.
    pub(crate) fn register(&mut self, id: LogicalId, prefix_node: Parent) -> Option<(NodeId, LogicalId)> {
        let key = self.key(id, self.pages.page_tokens()).filter(|key| key.parent == prefix_node)?;
        if let Some(found) = self.prefix.find(&key) {
            return Some(found);
        }
        Some((self.insert(key, id), id))
    }

    /// The last page of a context that ends: what it has begun stays as a page that others may copy, unless one that
    /// begins so is there already.
    pub(crate) fn register_begun(&mut self, last: Entry) {
        let slots = last.live.trailing_ones();
        let page = self.pages.get(last.page);
        let here = page.refs == 1 && matches!(page.location, PageLocation::Device(_));
        if !here || last.live == self.full() || last.live != low_bits(slots) {
            return;
        }
        let Some(key) = self.key(last.page, slots) else { return };
        if self.prefix.find_part(&key).is_none_or(|(_, found)| found < slots) {
            self.insert(key, last.page);
        }
    }

    /// What had begun so is of no more use.
    fn insert(&mut self, key: Key, id: LogicalId) -> NodeId {
        if let Some(shorter) = self.prefix.begun(&key) {
            self.forget(shorter);
        }
        let node = self.prefix.insert(key, id, self.pages.page_tokens());
        self.pages.get_mut(id).node = Some(node);
        node
    }

    /// What the first `slots` slots of a page would be found by, if they may be.
    fn key(&self, id: LogicalId, slots: u32) -> Option<Key> {
        let Page { provenance, positions, tokens, node, lost, .. } = self.pages.get(id);
        let Provenance { parent, adapter } = provenance.filter(|_| node.is_none() && !lost)?;
        let positions = &positions[..slots as usize];
        let consecutive = positions.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        (self.caching && consecutive && self.prefix.contains(parent)).then(|| Key {
            parent,
            adapter,
            position: positions[0],
            tokens: tokens[..slots as usize].into(),
        })
    }
}

/// The lowest `count` bits, up to all 64.
pub(crate) fn low_bits(count: u32) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        let mut accounts = Accounts::new(None);
        accounts.open(OwnerId(1), None, TenantId(0), None, 1);
        Memory { pages: Pages::new(4, 8, 4), prefix: Prefix::default(), accounts, caching: true, shared: 0 }
    }

    /// A held page that was computed from eight times `token`, as the first of its context.
    fn filled(memory: &mut Memory, token: u32) -> LogicalId {
        let id = memory.pages.create();
        memory.hold(Holder::Owner(OwnerId(1)), id);
        let page = memory.pages.get_mut(id);
        page.tokens.fill(token);
        (0..).zip(&mut page.positions).for_each(|(position, slot)| *slot = position);
        page.provenance = Some(Provenance { parent: Parent::Root(TenantId(0), CacheSalt(0)), adapter: None });
        id
    }

    #[test]
    fn released_pages_stay_only_if_a_prefix_may_match() {
        let mut memory = memory();
        let root = Parent::Root(TenantId(0), CacheSalt(0));
        let (plain, cached) = (filled(&mut memory, 1), filled(&mut memory, 2));
        let node = memory.register(cached, root).expect("computed from tokens, full");
        assert_eq!(node.1, cached);
        assert!(memory.writable(plain) && !memory.writable(cached));
        for id in [plain, cached] {
            memory.release(Holder::Owner(OwnerId(1)), id);
        }
        assert_eq!((memory.pages.free(), memory.prefix.idle(), memory.accounts.held(OwnerId(1))), (3, 1, 0));
        assert!(memory.evict() && !memory.evict());
        assert_eq!(memory.pages.free(), 4);
    }

    #[test]
    fn a_page_computed_twice_is_registered_once() {
        let mut memory = memory();
        let root = Parent::Root(TenantId(0), CacheSalt(0));
        let (first, second) = (filled(&mut memory, 3), filled(&mut memory, 3));
        let node = memory.register(first, root).expect("registered");
        assert_eq!(memory.register(second, root), Some(node), "whoever has the second may use the first");
        let other = memory.register(second, Parent::Root(TenantId(1), CacheSalt(0)));
        assert_eq!(other, None, "its rows were not computed after that");
        memory.pages.get_mut(second).positions[4] = 99;
        assert_eq!(memory.register(second, root), None, "its positions have a gap");
    }

    #[test]
    fn a_page_that_was_begun_stays_for_others_to_copy() {
        let mut memory = memory();
        let entries = [1, 1, 2].map(|token| Entry { page: filled(&mut memory, token), live: 0b111 });
        let held_twice = entries[2];
        memory.hold(Holder::Owner(OwnerId(1)), held_twice.page);
        for entry in entries {
            memory.register_begun(entry);
            memory.release(Holder::Owner(OwnerId(1)), entry.page);
        }
        assert_eq!(
            (memory.pages.free(), memory.prefix.idle()),
            (2, 1),
            "the first stays, the second is the same again, the third is somebody else's still"
        );
        let longer = Entry { page: filled(&mut memory, 1), live: 0b1111 };
        memory.register_begun(longer);
        memory.release(Holder::Owner(OwnerId(1)), longer.page);
        assert_eq!(
            (memory.pages.free(), memory.prefix.len()),
            (2, 1),
            "it takes the place of the shorter one"
        );
        for live in [0b101, 0b110, 0xff] {
            memory.register_begun(Entry { live, ..held_twice });
        }
        memory.pages.get_mut(held_twice.page).positions[1] = 9;
        memory.register_begun(Entry { live: 0b11, ..held_twice });
        assert_eq!(
            memory.prefix.len(),
            1,
            "gaps, of slots or of positions, and full pages, which enter as they fill"
        );
        assert!(memory.evict());
        assert_eq!(memory.pages.free(), 3);
    }

    #[test]
    fn a_path_ends_at_a_gap() {
        let mut memory = memory();
        let tenant = TenantId(0);
        let page = filled(&mut memory, 4);
        let (node, _) = memory.register(page, Parent::Root(tenant, CacheSalt(0))).expect("registered");
        let last = filled(&mut memory, 5);
        let prefix_node = |live, last_live| {
            memory.prefix_node(
                tenant,
                CacheSalt(0),
                &[Entry { page, live }, Entry { page: last, live: last_live }],
            )
        };
        assert_eq!(prefix_node(0xff, 0b111), Some(Parent::Node(node)));
        assert_eq!(prefix_node(0xff, 0b101), None);
        assert_eq!(prefix_node(0x7f, 0b111), None);
        assert_eq!(memory.prefix_node(TenantId(1), CacheSalt(0), &[Entry { page, live: 0xff }]), None);
        assert_eq!(memory.prefix_node(tenant, CacheSalt(1), &[Entry { page, live: 0xff }]), None);
    }
}

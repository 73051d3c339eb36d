//! The prefix cache: pages by the tokens they were computed from.
//!
//! An exact trie: a node is a full page, its key the node before it and the page's own tokens and positions. A context whose
//! pages are the nodes of one path holds exactly what computing them again would give, bit for bit. Nodes whose page
//! nobody holds are *idle*: kept until room is needed, least recently used first, leaves first. What a context that ended
//! had begun of its last page is a leaf as well: a page that is only copied.

use std::collections::{BTreeMap, BTreeSet};

use backend::AdapterId;
use rustc_hash::FxHashMap;

use crate::pages::LogicalId;
use crate::prefix_events::{PrefixEvent, PrefixParent};
use crate::request::{CacheSalt, TenantId};

/// A node; never used again after it was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u64);

/// What comes before a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Parent {
    /// Nothing: it is the first page, and only this tenant may reuse it, with this salt.
    Root(TenantId, CacheSalt),
    /// Another page.
    Node(NodeId),
}

/// The source of a page's content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) parent: Parent,
    pub(crate) adapter: Option<AdapterId>,
    /// Position of the first slot; the others follow.
    pub(crate) position: u32,
    pub(crate) tokens: Box<[u32]>,
}

impl Key {
    /// Whether both are pages at the same place, of whatever tokens.
    fn is_beside(&self, other: &Key) -> bool {
        (self.parent, self.adapter, self.position) == (other.parent, other.adapter, other.position)
    }
}

#[derive(Debug)]
struct Node {
    key: Key,
    page: LogicalId,
    full: bool,
    /// When it was last used, on `Prefix::clock`.
    used: u64,
    idle: bool,
}

/// See the module docs.
#[derive(Debug, Default)]
pub(crate) struct Prefix {
    // Only looked up, never walked: its order decides nothing.
    nodes: FxHashMap<NodeId, Node>,
    // In the order of the tokens, so that those that begin alike stand side by side.
    by_key: BTreeMap<Key, NodeId>,
    children: BTreeSet<(NodeId, NodeId)>,
    idle: BTreeSet<(u64, NodeId)>,
    next: u64,
    clock: u64,
    /// What came and went since it was last taken, where somebody wants to know.
    events: Option<Vec<PrefixEvent>>,
}

impl Prefix {
    /// Idle nodes, which is also the number of pages kept for them.
    pub(crate) fn idle(&self) -> u32 {
        self.idle.len() as u32
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// From now on, what comes and goes is kept until it is taken.
    pub(crate) fn watch(&mut self) {
        self.events = Some(Vec::new());
    }

    /// Takes what has come and gone.
    pub(crate) fn take_events(&mut self) -> Vec<PrefixEvent> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// All there is, as if it had come just now: each page after the one before it.
    pub(crate) fn all(&self) -> Vec<PrefixEvent> {
        let full = self.nodes.iter().filter(|(_, node)| node.full);
        let mut ids: Vec<NodeId> = full.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids.into_iter().map(|id| stored(id, &self.nodes[&id].key)).collect()
    }

    pub(crate) fn find(&self, key: &Key) -> Option<(NodeId, LogicalId)> {
        self.by_key.get(key).map(|id| (*id, self.nodes[id].page))
    }

    /// The node at the same place as `key` that begins with the most of its tokens, and how many: at least one.
    pub(crate) fn find_part(&self, key: &Key) -> Option<(NodeId, u32)> {
        let alike = |(other, node): (&Key, &NodeId)| {
            let tokens = other.tokens.iter().zip(&key.tokens).take_while(|(a, b)| a == b).count() as u32;
            (tokens > 0 && other.is_beside(key)).then_some((tokens, *node))
        };
        // No key shares more of the tokens than one of the two that stand next to where this one would.
        let before = self.by_key.range(..key).next_back().and_then(alike);
        let after = self.by_key.range(key..).next().and_then(alike);
        before.max(after).map(|(tokens, node)| (node, tokens))
    }

    /// The begun page whose tokens are the first of those of `key`, if there is one.
    pub(crate) fn begun(&self, key: &Key) -> Option<NodeId> {
        let (before, node) = self.by_key.range(..key).next_back()?;
        let begins = before.is_beside(key) && key.tokens.starts_with(&before.tokens);
        (begins && !self.nodes[node].full).then_some(*node)
    }

    pub(crate) fn page(&self, node: NodeId) -> Option<LogicalId> {
        self.nodes.get(&node).map(|node| node.page)
    }

    pub(crate) fn parent(&self, node: NodeId) -> Option<Parent> {
        self.nodes.get(&node).map(|node| node.key.parent)
    }

    /// Whether pages may be registered after `parent`.
    pub(crate) fn contains(&self, parent: Parent) -> bool {
        match parent {
            Parent::Root(..) => true,
            Parent::Node(node) => self.nodes.contains_key(&node),
        }
    }

    /// Registers a held page under a key that is not there yet: a full page, or the beginning of one. Only full pages are
    /// followed by others, and only of those is told what comes and goes.
    pub(crate) fn insert(&mut self, key: Key, page: LogicalId, page_tokens: u32) -> NodeId {
        let id = NodeId(self.next);
        self.next += 1;
        if let Parent::Node(parent) = key.parent {
            assert!(self.nodes.contains_key(&parent), "a node is registered after its parent");
            self.children.insert((parent, id));
        }
        let full = key.tokens.len() == page_tokens as usize;
        if let Some(events) = self.events.as_mut().filter(|_| full) {
            events.push(stored(id, &key));
        }
        let before = self.by_key.insert(key.clone(), id);
        assert!(before.is_none(), "a key is registered once");
        self.nodes.insert(id, Node { key, page, full, used: 0, idle: false });
        id
    }

    /// Nobody holds the node's page any more.
    pub(crate) fn set_idle(&mut self, id: NodeId) {
        self.clock += 1;
        let node = self.nodes.get_mut(&id).expect("the page names its node");
        (node.used, node.idle) = (self.clock, true);
        self.idle.insert((self.clock, id));
    }

    /// The node's page is of use, though nobody holds it: it goes after those that were idle before now.
    pub(crate) fn set_used(&mut self, id: NodeId) {
        if self.nodes[&id].idle {
            self.set_held(id);
            self.set_idle(id);
        }
    }

    /// Somebody holds the node's page again.
    pub(crate) fn set_held(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).expect("the page names its node");
        if std::mem::take(&mut node.idle) {
            self.idle.remove(&(node.used, id));
        }
    }

    fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.children.range((id, NodeId(0))..=(id, NodeId(u64::MAX))).map(|(_, child)| *child)
    }

    /// The idle node to give up next: the least recently used one, or the last of its idle descendants.
    pub(crate) fn victim(&self) -> Option<NodeId> {
        let mut victim = self.idle.first()?.1;
        while let Some(child) =
            self.children(victim).filter(|c| self.nodes[c].idle).min_by_key(|c| self.nodes[c].used)
        {
            victim = child;
        }
        Some(victim)
    }

    /// Removes a node and all that follow it; their pages are given back, those in use among them.
    pub(crate) fn remove(&mut self, id: NodeId) -> Vec<LogicalId> {
        let mut removed = vec![id];
        let mut pages = Vec::new();
        while let Some(id) = removed.pop() {
            removed.extend(self.children(id));
            let node = self.nodes.remove(&id).expect("a node is removed once");
            if let Some(events) = self.events.as_mut().filter(|_| node.full) {
                events.push(PrefixEvent::Removed { page: id.0 });
            }
            self.by_key.remove(&node.key);
            if let Parent::Node(parent) = node.key.parent {
                self.children.remove(&(parent, id));
            }
            if node.idle {
                self.idle.remove(&(node.used, id));
            }
            pages.push(node.page);
        }
        pages
    }
}

fn stored(id: NodeId, key: &Key) -> PrefixEvent {
    let parent = match key.parent {
        Parent::Root(tenant, salt) => PrefixParent::Root(tenant, salt),
        Parent::Node(node) => PrefixParent::Page(node.0),
    };
    let Key { adapter, position, ref tokens, .. } = *key;
    PrefixEvent::Stored { page: id.0, parent, adapter, position, tokens: tokens.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parent: Parent, token: u32) -> Key {
        Key { parent, adapter: None, position: 0, tokens: Box::new([token; 4]) }
    }

    #[test]
    fn the_least_recently_used_leaf_goes_first() {
        let mut prefix = Prefix::default();
        let root = Parent::Root(TenantId(1), CacheSalt(0));
        let a = prefix.insert(key(root, 1), LogicalId(1), 4);
        let b = prefix.insert(key(Parent::Node(a), 2), LogicalId(2), 4);
        let c = prefix.insert(key(root, 3), LogicalId(3), 4);
        for node in [a, b, c] {
            prefix.set_idle(node);
        }
        assert_eq!(prefix.victim(), Some(b), "a is older, but b needs it");
        prefix.set_held(b);
        assert_eq!(prefix.victim(), Some(a), "b is held, a is not");
        assert_eq!(prefix.remove(a), [LogicalId(1), LogicalId(2)], "b means nothing without a");
        assert_eq!((prefix.victim(), prefix.len(), prefix.idle()), (Some(c), 1, 1));
        assert!(prefix.find(&key(root, 1)).is_none());
    }

    #[test]
    fn what_comes_and_goes_is_told_in_order_to_whoever_watches() {
        let mut prefix = Prefix::default();
        let root = Parent::Root(TenantId(1), CacheSalt(0));
        let a = prefix.insert(key(root, 1), LogicalId(1), 4);
        assert!(prefix.take_events().is_empty(), "nobody watches");
        prefix.watch();
        let b = prefix.insert(key(Parent::Node(a), 2), LogicalId(2), 4);
        let [of_a, of_b] = [(a, root, 1), (b, Parent::Node(a), 2)]
            .map(|(id, parent, token)| stored(id, &key(parent, token)));
        assert_eq!(prefix.all(), [of_a, of_b.clone()]);
        let begun = Key { tokens: [3; 3].into(), ..key(Parent::Node(a), 3) };
        prefix.insert(begun, LogicalId(3), 4);
        assert_eq!(prefix.all().len(), 2, "a page that is not full is nobody else's business");
        prefix.remove(a);
        let removed = |id: NodeId| PrefixEvent::Removed { page: id.0 };
        assert_eq!(prefix.take_events(), [of_b, removed(a), removed(b)]);
        assert!(prefix.take_events().is_empty() && prefix.all().is_empty());
    }

    #[test]
    fn a_page_that_begins_alike_is_found_at_the_same_place() {
        let mut prefix = Prefix::default();
        let root = Parent::Root(TenantId(1), CacheSalt(0));
        let key = |tokens: &[u32]| Key { parent: root, adapter: None, position: 0, tokens: tokens.into() };
        let [a, b, c] = [[5, 6, 7, 8], [5, 6, 9, 1], [5, 8, 0, 0]]
            .map(|tokens| prefix.insert(key(&tokens), LogicalId(tokens[1]), 4));
        let find = |tokens: &[u32]| prefix.find_part(&key(tokens));
        assert_eq!(find(&[5, 6, 7, 8]), Some((a, 4)));
        assert_eq!(find(&[5, 6, 7, 9]), Some((a, 3)));
        assert_eq!(find(&[5, 6, 9]), Some((b, 3)), "of fewer tokens than a page");
        assert_eq!(find(&[5, 6, 9, 0]), Some((b, 3)));
        assert_eq!(find(&[5, 9, 0, 0]), Some((c, 1)));
        assert_eq!(find(&[5]), Some((a, 1)));
        assert_eq!((find(&[4, 6, 7, 8]), find(&[6])), (None, None));
        let elsewhere = [
            Key { parent: Parent::Root(TenantId(2), CacheSalt(0)), ..key(&[5, 6]) },
            Key { adapter: Some(AdapterId(0)), ..key(&[5, 6]) },
            Key { position: 1, ..key(&[5, 6]) },
            Key { parent: Parent::Node(a), ..key(&[5, 6]) },
        ];
        assert!(elsewhere.iter().all(|key| prefix.find_part(key).is_none()));
    }

    #[test]
    fn what_was_of_use_goes_later() {
        let mut prefix = Prefix::default();
        let root = Parent::Root(TenantId(1), CacheSalt(0));
        let [a, b] = [1, 2].map(|token| prefix.insert(key(root, token), LogicalId(token), 4));
        prefix.set_idle(a);
        prefix.set_used(b);
        assert_eq!((prefix.victim(), prefix.idle()), (Some(a), 1), "b is held");
        prefix.set_idle(b);
        prefix.set_used(a);
        assert_eq!((prefix.victim(), prefix.idle()), (Some(b), 2));
    }

    #[test]
    fn keys_tell_tenants_adapters_and_positions_apart() {
        let mut prefix = Prefix::default();
        let base = key(Parent::Root(TenantId(1), CacheSalt(0)), 1);
        prefix.insert(base.clone(), LogicalId(1), 4);
        assert!(prefix.find(&base).is_some());
        let others = [
            Key { parent: Parent::Root(TenantId(2), CacheSalt(0)), ..base.clone() },
            Key { parent: Parent::Root(TenantId(1), CacheSalt(1)), ..base.clone() },
            Key { adapter: Some(AdapterId(0)), ..base.clone() },
            Key { position: 4, ..base.clone() },
            Key { tokens: Box::new([1, 1, 1, 2]), ..base },
        ];
        assert!(others.iter().all(|other| prefix.find(other).is_none()));
    }
}

//! The prefix cache: full pages by the tokens they were computed from.
//!
//! An exact trie: a node is a page, its key the node before it and the page's own tokens and positions. A context whose
//! pages are the nodes of one path holds exactly what computing them again would give, bit for bit. Nodes whose page
//! nobody holds are *idle*: kept until room is needed, least recently used first, leaves first.

use std::collections::{BTreeSet, HashMap};

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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) parent: Parent,
    pub(crate) adapter: Option<AdapterId>,
    /// Position of the first slot; the others follow.
    pub(crate) position: u32,
    pub(crate) tokens: Box<[u32]>,
}

#[derive(Debug)]
struct Node {
    key: Key,
    page: LogicalId,
    /// When it was last used, on `Prefix::clock`.
    used: u64,
    idle: bool,
}

/// See the module docs.
#[derive(Debug, Default)]
pub(crate) struct Prefix {
    // Both maps are only looked up, never walked: their order decides nothing.
    nodes: FxHashMap<NodeId, Node>,
    // Of tokens, which a program chooses: hashed with a secret.
    by_key: HashMap<Key, NodeId>,
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
        let mut ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        ids.sort_unstable();
        ids.into_iter().map(|id| stored(id, &self.nodes[&id].key)).collect()
    }

    pub(crate) fn find(&self, key: &Key) -> Option<(NodeId, LogicalId)> {
        self.by_key.get(key).map(|id| (*id, self.nodes[id].page))
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

    /// Registers a held page under a key that is not there yet.
    pub(crate) fn insert(&mut self, key: Key, page: LogicalId) -> NodeId {
        let id = NodeId(self.next);
        self.next += 1;
        if let Parent::Node(parent) = key.parent {
            assert!(self.nodes.contains_key(&parent), "a node is registered after its parent");
            self.children.insert((parent, id));
        }
        if let Some(events) = &mut self.events {
            events.push(stored(id, &key));
        }
        let before = self.by_key.insert(key.clone(), id);
        assert!(before.is_none(), "a key is registered once");
        self.nodes.insert(id, Node { key, page, used: 0, idle: false });
        id
    }

    /// Nobody holds the node's page any more.
    pub(crate) fn set_idle(&mut self, id: NodeId) {
        self.clock += 1;
        let node = self.nodes.get_mut(&id).expect("the page names its node");
        (node.used, node.idle) = (self.clock, true);
        self.idle.insert((self.clock, id));
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
            if let Some(events) = &mut self.events {
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
        let a = prefix.insert(key(root, 1), LogicalId(1));
        let b = prefix.insert(key(Parent::Node(a), 2), LogicalId(2));
        let c = prefix.insert(key(root, 3), LogicalId(3));
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
        let a = prefix.insert(key(root, 1), LogicalId(1));
        assert!(prefix.take_events().is_empty(), "nobody watches");
        prefix.watch();
        let b = prefix.insert(key(Parent::Node(a), 2), LogicalId(2));
        let [of_a, of_b] = [(a, root, 1), (b, Parent::Node(a), 2)]
            .map(|(id, parent, token)| stored(id, &key(parent, token)));
        assert_eq!(prefix.all(), [of_a, of_b.clone()]);
        prefix.remove(a);
        let removed = |id: NodeId| PrefixEvent::Removed { page: id.0 };
        assert_eq!(prefix.take_events(), [of_b, removed(a), removed(b)]);
        assert!(prefix.take_events().is_empty() && prefix.all().is_empty());
    }

    #[test]
    fn keys_tell_tenants_adapters_and_positions_apart() {
        let mut prefix = Prefix::default();
        let base = key(Parent::Root(TenantId(1), CacheSalt(0)), 1);
        prefix.insert(base.clone(), LogicalId(1));
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

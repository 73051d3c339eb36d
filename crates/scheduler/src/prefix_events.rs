//! Which pages come into the prefix cache and leave it, for somebody outside who sends requests where their prefix is.
//!
//! The engine never waits for a watcher. When one has no room, what it would have been told is gone; as soon as it has some it
//! is told so, and then of all pages that are there.

use backend::AdapterId;

use crate::request::{CacheSalt, TenantId};
use crate::state::Scheduler;

/// What comes before a cached page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixParent {
    /// Nothing: it is the first, and only this tenant may reuse it, with this salt.
    Root(TenantId, CacheSalt),
    /// The page of this number.
    Page(u64),
}

/// A change of the prefix cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrefixEvent {
    /// A full page came in; the page before it came earlier.
    Stored {
        /// Its number, which no other page ever has.
        page: u64,
        /// The page before it.
        parent: PrefixParent,
        /// The adapter it was computed with.
        adapter: Option<AdapterId>,
        /// Position of its first token.
        position: u32,
        /// Its tokens.
        tokens: Box<[u32]>,
    },
    /// A page left.
    Removed {
        /// Its number.
        page: u64,
    },
    /// Some of what came and went before was not told: what is there now is told anew.
    Lost,
}

/// Somebody who is told of changes, on the engine's thread: nothing here may wait.
pub trait PrefixWatcher: Send {
    /// Whether it has room for another [`PrefixWatcher::tell`].
    fn has_room(&self) -> bool;

    /// Takes changes, in order. False when it had no room; then they are lost.
    fn tell(&mut self, events: Vec<PrefixEvent>) -> bool;
}

/// A watcher, and whether it has missed something.
pub(crate) struct Watch {
    watcher: Box<dyn PrefixWatcher>,
    has_missed: bool,
}

impl Watch {
    /// Begins to watch a scheduler.
    pub(crate) fn new(scheduler: &mut Scheduler, watcher: Box<dyn PrefixWatcher>) -> Watch {
        scheduler.memory.prefix.watch();
        Watch { watcher, has_missed: false }
    }

    /// Tells what has changed.
    pub(crate) fn tell(&mut self, scheduler: &mut Scheduler) {
        let mut events = scheduler.memory.prefix.take_events();
        if self.has_missed && self.watcher.has_room() {
            events = scheduler.memory.prefix.all();
            events.insert(0, PrefixEvent::Lost);
        } else if self.has_missed || events.is_empty() {
            return;
        }
        self.has_missed = !self.watcher.tell(events);
    }
}

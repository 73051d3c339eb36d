//! What is held now by inferlets and calls, outside of the engines: all of it is given back when they end.

use std::sync::{Arc, PoisonError};

use crate::Runtime;

/// Counts for tests and quiet moments. A runtime in which nothing runs has none of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Inferlets that run or wait for a place.
    pub inferlets: usize,
    /// Places of inferlets that run.
    pub places: usize,
    /// Places of inferlets that wait for one they launched.
    pub waiting_places: usize,
    /// Subscriptions of topics.
    pub listeners: usize,
    /// Calls that use a queue.
    pub queue_calls: usize,
    /// Threads that do long work for calls.
    pub threads: usize,
    /// Calls that use the store.
    pub store_calls: usize,
    /// Files of snapshots that are being written.
    pub files: usize,
    /// Stores of inferlets, and calls that outlive them. Handles to the runtime count as well, but for one.
    pub users_of_the_state: usize,
}

impl Runtime {
    /// What is held now.
    pub fn held(&self) -> Held {
        let state = &self.0;
        let of_users = state.users.all().iter().map(|user| user.broker.held()).collect::<Vec<_>>();
        let (listeners, queue_calls) =
            of_users.into_iter().fold((0, 0), |sum, held| (sum.0 + held.0, sum.1 + held.1));
        let running = state.running.lock().unwrap_or_else(PoisonError::into_inner);
        Held {
            inferlets: running.len(),
            places: state.config.inferlets as usize - state.places.available_permits(),
            waiting_places: crate::waiting_places(&state.config) as usize
                - state.waiting_places.available_permits(),
            listeners,
            queue_calls,
            threads: state.workers.busy(),
            store_calls: state.store.calls(),
            files: state.snapshots.writes(),
            users_of_the_state: Arc::strong_count(state) - 1,
        }
    }
}

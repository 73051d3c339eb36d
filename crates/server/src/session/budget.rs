//! Bytes of events that are kept: of each user, and of all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bytes of all users.
pub(super) struct Budgets {
    of_user: usize,
    total: usize,
    server: Arc<Semaphore>,
    users: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// The bytes of one user, of those of all.
#[derive(Clone)]
pub(super) struct Budget {
    most: usize,
    places: [Arc<Semaphore>; 2],
}

/// Bytes that are taken until it is dropped.
pub(super) struct Held {
    _permits: [OwnedSemaphorePermit; 2],
}

impl Budgets {
    /// So many bytes for each user, and for all together.
    pub(super) fn new(of_user: usize, total: usize) -> Budgets {
        Budgets { of_user, total, server: Arc::new(Semaphore::new(total)), users: Mutex::default() }
    }

    fn semaphore(&self, user: &str) -> Arc<Semaphore> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = users.get(user) {
            return semaphore.clone();
        }
        let semaphore = Arc::new(Semaphore::new(self.of_user));
        users.insert(user.to_string(), semaphore.clone());
        semaphore
    }

    pub(super) fn of(&self, user: &str) -> Budget {
        // The user's first: who waits for that holds none of the server's.
        let places = [self.semaphore(user), self.server.clone()];
        Budget { most: self.of_user.min(self.total), places }
    }

    /// Bytes that a user has taken.
    pub(super) fn used(&self, user: &str) -> u64 {
        (self.of_user - self.semaphore(user).available_permits()) as u64
    }

    /// Bytes that all have taken.
    pub(super) fn taken(&self) -> u64 {
        (self.total - self.server.available_permits()) as u64
    }

    pub(super) fn limit(&self) -> u64 {
        self.of_user as u64
    }
}

impl Budget {
    /// Takes so many bytes, or all where it wants more than there are; waits for them.
    pub(super) async fn take(&self, bytes: usize) -> Held {
        let bytes = u32::try_from(bytes.min(self.most)).unwrap_or(u32::MAX);
        let take = |places: &Arc<Semaphore>| places.clone().acquire_many_owned(bytes);
        let never_closed = "the semaphores are never closed";
        let of_user = take(&self.places[0]).await.expect(never_closed);
        let of_server = take(&self.places[1]).await.expect(never_closed);
        Held { _permits: [of_user, of_server] }
    }
}

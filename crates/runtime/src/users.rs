//! Users, and what all programs of one share: its namespace, and its part of the server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use scheduler::TenantId;
use tokio::sync::Semaphore;

use crate::RuntimeConfig;
use crate::account::Account;
use crate::grant::Grant;
use crate::limits::UserLimits;
use crate::messaging::Broker;
use crate::turns::{Threads, Turns};
use crate::work::Workers;

/// One user.
pub(crate) struct User {
    pub(crate) name: String,
    /// The user in the engines: pages and the prefix cache.
    pub(crate) tenant: TenantId,
    pub(crate) broker: Broker,
    /// Inferlets that run or wait.
    pub(crate) inferlets: Arc<Account>,
    /// Bytes of linear memory.
    pub(crate) memory: Arc<Account>,
    /// Bytes that the host holds for programs.
    pub(crate) host_memory: Arc<Account>,
    /// What its inferlets may do that came without a key.
    pub(crate) grant: Arc<Grant>,
    /// Places of inferlets that run, of those of the server.
    pub(crate) places: Arc<Semaphore>,
    /// Places of inferlets that wait for one they launched.
    pub(crate) waiting_places: Arc<Semaphore>,
    /// Threads for long work of the host, of those of the server.
    pub(crate) threads: Arc<Semaphore>,
    /// On the threads that run programs.
    pub(crate) turns: Arc<Turns>,
}

/// All users, by name.
pub(crate) struct Users {
    shares: Shares,
    users: Mutex<BTreeMap<String, Arc<User>>>,
}

/// What the server has, and how much of it each user may take.
struct Shares {
    inferlets: Arc<Account>,
    memory: Arc<Account>,
    host_memory: Arc<Account>,
    of_user: UserLimits,
    places: usize,
    waiting_places: usize,
    threads: usize,
    programs: Arc<Threads>,
}

impl Users {
    /// `programs` are the threads that run programs.
    pub(crate) fn new(config: &RuntimeConfig, workers: &Workers, programs: &Arc<Threads>) -> Users {
        let server = &config.server_limits;
        let shares = Shares {
            inferlets: Account::root(
                "the server",
                "inferlets that run or wait",
                config.inferlets_waiting.into(),
            ),
            memory: Account::root("the server", "bytes of linear memory", server.memory_bytes),
            host_memory: Account::root("the server", "bytes of host memory", server.host_memory_bytes),
            of_user: config.user_limits.clone(),
            places: config.user_places() as usize,
            waiting_places: config.user_places() as usize + crate::WAITING_EXTRA as usize / 2,
            threads: workers.threads_of_user(),
            programs: programs.clone(),
        };
        Users { shares, users: Mutex::default() }
    }

    /// All there are.
    pub(crate) fn all(&self) -> Vec<Arc<User>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The user of a name.
    pub(crate) fn of(&self, name: &str) -> Arc<User> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = users.get(name) {
            return user.clone();
        }
        let (shares, limits) = (&self.shares, &self.shares.of_user);
        let host_memory = shares.host_memory.below("the user", limits.host_memory_bytes);
        let inferlets = shares.inferlets.below("the user", limits.inferlets_waiting.into());
        let memory = shares.memory.below("the user", limits.memory_bytes);
        let user = Arc::new(User {
            name: name.to_string(),
            tenant: TenantId(users.len() as u64),
            broker: Broker::new(host_memory.clone()),
            grant: Arc::new(Grant::of_user(name, [&inferlets, &memory, &host_memory])),
            inferlets,
            memory,
            host_memory,
            places: Arc::new(Semaphore::new(shares.places)),
            waiting_places: Arc::new(Semaphore::new(shares.waiting_places)),
            threads: Arc::new(Semaphore::new(shares.threads)),
            turns: Arc::new(Turns::new(&shares.programs)),
        });
        users.insert(name.to_string(), user.clone());
        user
    }
}

//! What a user has taken of the server, beside what it may take.

use std::sync::Arc;

use crate::Runtime;
use crate::account::Account;

/// So much of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Taken now.
    pub taken: u64,
    /// The most that may be taken.
    pub limit: u64,
}

/// What the programs of a user have taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserUsage {
    /// Inferlets that run or wait.
    pub inferlets: Taken,
    /// Bytes of linear memory.
    pub memory_bytes: Taken,
    /// Bytes that the host holds for programs.
    pub host_memory_bytes: Taken,
    /// Bytes of uploaded programs.
    pub program_bytes: Taken,
    /// Uploaded programs.
    pub programs: Taken,
}

impl Runtime {
    /// What a user has taken now.
    pub fn usage_of(&self, user: &str) -> UserUsage {
        let (programs, bytes) = self.0.uploads.taken(user);
        let limits = self.0.uploads.limits();
        let user = self.0.users.of(user);
        let of = |account: &Arc<Account>| Taken { taken: account.taken(), limit: account.limit() };
        UserUsage {
            inferlets: of(&user.inferlets),
            memory_bytes: of(&user.memory),
            host_memory_bytes: of(&user.host_memory),
            program_bytes: Taken { taken: bytes, limit: limits.bytes },
            programs: Taken { taken: programs, limit: limits.programs },
        }
    }
}

//! Sessions: clients that upload programs, launch them, talk with them and watch them, over the messages of `protocol`.
//!
//! `upgrade` makes a WebSocket of a request, `connection` reads and writes it. A [`Session`](state::Session) outlives its
//! connections: it knows what was asked and answered, and what it is attached to. An inferlet is [`hosted`]: its events are
//! in a [`log`] with numbers until all who read it have acknowledged them. The [`hub`] has all of both, and ends what
//! nobody comes back for.

mod budget;
mod calls;
pub(crate) mod connection;
mod hosted;
pub(crate) mod hub;
mod log;
mod outbox;
mod state;
pub(crate) mod upgrade;
mod upload;

use std::time::Duration;

pub use hub::SessionCounts;

/// What sessions may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// The user of all sessions where there are no keys. Default: `local`.
    pub user: String,
    /// How long a session without a connection can be resumed. Default: 60 s.
    pub lease: Duration,
    /// How long an inferlet without a session is kept that has ended, or waits for somebody to take its events. Default:
    /// 1 h.
    pub detached: Duration,
    /// After which silence a client is asked whether it is there. Default: 20 s.
    pub ping: Duration,
    /// Sessions of one user. Default: 256.
    pub user_sessions: u32,
    /// Inferlets of one user whose events are kept: those that run, and those that have ended. Default: 8192.
    pub user_inferlets: u32,
    /// Events that are kept of one inferlet; then it waits. Default: 4096.
    pub log_events: usize,
    /// Their bytes. Default: 1 MiB.
    pub log_bytes: usize,
    /// Bytes of events of all inferlets of one user. Default: 64 MiB.
    pub user_log_bytes: usize,
    /// Bytes of events of all inferlets. Default: 512 MiB.
    pub total_log_bytes: usize,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions {
            user: "local".into(),
            lease: Duration::from_secs(60),
            detached: Duration::from_secs(3600),
            ping: Duration::from_secs(20),
            user_sessions: 256,
            user_inferlets: 8192,
            log_events: 4096,
            log_bytes: 1 << 20,
            user_log_bytes: 64 << 20,
            total_log_bytes: 512 << 20,
        }
    }
}

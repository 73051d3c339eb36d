//! The client: carries out a plan against a server and times every step.
//!
//! ```text
//! coordinator (one thread, owns the state of the run)  --Job-->  worker (one runtime per core, owns its connections)
//!      ^                                                                |
//!      +------------------------- Done: the Record ---------------------+
//! ```
//!
//! The coordinator sleeps until the next moment of the plan or the next answer. A worker reads a connection when it
//! has something, takes the time right behind the read, and looks at the bytes afterwards. No task moves between
//! threads, and no lock is taken while an answer streams.

pub mod address;
pub mod api;
mod connection;
mod coordinator;
mod event;
mod exchange;
mod fetch;
mod framing;
mod launch;
mod observer;
mod options;
mod sse;
mod tls;
mod worker;

pub use address::{Address, AddressError};
pub use fetch::{Fetched, fetch};
pub(crate) use launch::session_options;
pub use observer::{Observer, Progress, Silent, Stop};
pub use options::{Abandon, ClientOptions, Timeouts};
pub use sse::Sse;

use std::sync::Arc;

use crate::clock::Clock;
use crate::record::Record;
use crate::workload::Plan;

/// Why no run began.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
    /// The operating system refuses a runtime or a thread.
    #[error("cannot start a worker: {0}")]
    Worker(std::io::Error),
    /// A sample cannot be sent over this API.
    #[error("sample {sample}: {why}")]
    Sample {
        /// Its index.
        sample: usize,
        /// What is wrong.
        why: String,
    },
    /// The host has no address.
    #[error("`{host}` has no address: {error}")]
    Resolve {
        /// The host.
        host: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The plan needs more open files than the system allows.
    #[error(
        "{needed} requests may be under way and the system allows {limit} open files; raise `ulimit -n`, or bound them with --max-concurrency"
    )]
    Files {
        /// What the plan needs.
        needed: usize,
        /// The limit.
        limit: usize,
    },
}

/// What the client itself used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientUse {
    /// Seconds of CPU of the whole process during the run.
    pub cpu_secs: f64,
    /// Seconds of the run.
    pub wall_secs: f64,
    /// Share of the run that each worker's thread was computing, the busiest first.
    pub workers_busy: Vec<f64>,
    /// Share of the run that the coordinator's thread was computing.
    pub coordinator_busy: f64,
    /// Connections that were opened.
    pub connections: u64,
    /// The limit of open files.
    pub file_limit: u64,
    /// Largest resident memory in bytes; zero where the system does not tell.
    pub peak_memory_bytes: u64,
}

/// A run that is over.
#[derive(Clone, Debug)]
pub struct Run {
    /// One for each request of the plan, in its order.
    pub records: Vec<Record>,
    /// What the moments count from.
    pub clock: Clock,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// What the client used.
    pub used: ClientUse,
}

/// Carries out `plan` and returns a record for each of its requests. Blocks until the last is answered, failed or
/// cancelled. An error of a request is in its record, not in the result.
///
/// # Errors
/// [`ClientError`], before anything is sent.
pub fn run(
    plan: &Arc<Plan>,
    options: &Arc<ClientOptions>,
    observer: &dyn Observer,
    stop: &Stop,
) -> Result<Run, ClientError> {
    coordinator::run(plan, options, observer, stop)
}

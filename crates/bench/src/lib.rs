//! Load for servers of language models, and what it shows: datasets, schedules, a client that times every token,
//! metrics with their definitions, reports.
//!
//! The way of a measurement, each step a folder and each a value that can be looked at:
//!
//! ```text
//! dataset  -> Vec<Sample>   what is asked
//! workload -> Plan          when each request is meant to be sent; made beforehand from a seed
//! client   -> Run           one Record per request: every moment on one clock
//! metrics  -> Summary       named figures, and whether the client itself was the limit
//! report   -> files, terminal
//! ```
//!
//! Nothing here knows pie's own parts: a server is an address that speaks HTTP.

pub mod client;
pub mod clock;
pub mod commands;
pub mod dataset;
pub mod draw;
pub mod metrics;
pub mod mock;
pub mod record;
pub mod report;
pub mod telemetry;
pub mod workload;

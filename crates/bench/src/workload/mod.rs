//! When requests are sent: a [`Plan`], made beforehand from samples and a schedule, so that nothing about it depends
//! on what the server does.
//!
//! Three kinds of requests are in one plan:
//!
//! ```text
//! at: Some(t), after: None      open loop: due at t, whatever happens
//! at: Some(t), after: Some(i)   a session: due at t, yet not before request i has ended, and `think` after it
//! at: None                      closed loop: due when one of `users` is free, `think` after its last answer
//! ```

pub mod arrival;
mod limit;
mod plan;

pub use arrival::{Arrival, ArrivalError};
pub use limit::{Limit, WhenFull};
pub use plan::{Plan, PlannedRequest};

//! A server whose answers follow a script, so that what a client reports can be compared with what is true.
//!
//! It does what it is told, to the moment, and writes down when it did it: each write's time is taken right before the
//! write. It computes nothing; every token is the same word.

mod answer;
mod connection;
mod log;
mod request;
mod script;
mod server;

pub use log::{Log, ServedRequest};
pub use script::{Fault, FaultKind, Script, ScriptError};
pub use server::{Mock, MockError};

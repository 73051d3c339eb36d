//! The API of `wit/` again, with the same names, over the host that runs on this thread.
//!
//! Records are what the bindings generate; resources hold their state themselves. A function that waits in the server
//! lets other tasks run here too.

#![allow(missing_docs, reason = "the documentation is in wit/")]

pub mod adapter;
pub mod answer;
pub mod context;
pub mod embeds;
pub mod forward;
pub mod grammar;
pub mod mcp;
pub mod messaging;
pub mod model;
pub mod others;
pub mod types;

pub use others::{clock, runtime, session, store};

pub(crate) use types::Error;

pub(crate) fn invalid(text: impl Into<String>) -> Error {
    Error::InvalidArgument(text.into())
}

//! One file for each subcommand; `remote` is what those share that ask a running server.

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod doctor;
pub(crate) mod key;
pub(crate) mod model;
pub(crate) mod new;
mod remote;
pub(crate) mod run;
pub(crate) mod shell_files;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod trace;

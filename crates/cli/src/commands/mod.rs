//! One file for each subcommand; `remote` is what those share that ask a running server.

pub(crate) mod attach;
pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod doctor;
pub(crate) mod install;
pub(crate) mod key;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod model;
pub(crate) mod new;
pub(crate) mod programs;
pub(crate) mod ps;
pub(crate) mod remote;
pub(crate) mod remove;
pub(crate) mod run;
pub(crate) mod shell;
pub(crate) mod shell_files;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod trace;

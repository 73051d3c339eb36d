//! One file for each subcommand.

pub(crate) mod bench;
pub(crate) mod doctor;
pub(crate) mod key;
pub(crate) mod model;
pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod stats;
pub(crate) mod trace;

//! What comes with the binary, so that nobody needs a checkout: the programs of `inferlets/`, and the source of the SDK.

use runtime::Bundled;

/// The programs, by name.
pub(crate) static PROGRAMS: Bundled = include!(concat!(env!("OUT_DIR"), "/programs.rs"));

/// The files of the SDK: paths below `sdk/`, and their texts.
pub(crate) static SDK: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

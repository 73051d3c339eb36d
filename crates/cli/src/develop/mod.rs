//! Writing programs: the source of the SDK where cargo finds it, and cargo itself.

pub(crate) mod cargo;
pub(crate) mod sdk;

//! The parts of the simulation: a random source, the reference and the world that compares the two.

pub(crate) mod random;
pub(crate) mod reference;
pub(crate) mod world;

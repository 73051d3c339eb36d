//! Elementwise operations and reductions on rows of f32. Sums run in eight lanes in a fixed order, so every
//! instruction set gives the same bits.

mod gate;
mod norm;
mod reduce;
mod rope;

pub use gate::{Activation, activate, add, gate, scale, soft_cap};
pub use norm::{layer_norm, rms_norm};
pub use reduce::{argmax, dot, exp_scaled, log_sum_exp, max};
pub use rope::{RopePairing, rope, rope_tables};

#[cfg(test)]
mod tests;

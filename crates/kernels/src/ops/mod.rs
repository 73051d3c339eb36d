//! Elementwise operations and reductions on rows of f32. Sums run in eight lanes in a fixed order, so every instruction
//! set gives the same bits.

mod gate;
mod norm;
mod reduce;
mod rope;

pub use gate::{add, gelu, gelu_mul, mul, scale, silu, silu_mul};
pub use norm::{layer_norm, rms_norm};
pub use reduce::{argmax, dot, exp_scaled, log_sum_exp, max, softmax};
pub use rope::{Pairing, rope, rope_tables};

#[cfg(test)]
mod tests;

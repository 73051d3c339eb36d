//! Half-precision conversions of slices.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Writes `from` as f32; exact. Panics unless the lengths are equal.
pub fn f16_to_f32(from: &[f16], to: &mut [f32]) {
    from.convert_to_f32_slice(to);
}

/// Rounds `from` to the nearest f16, ties to even; too large values become infinite. Panics unless the lengths are equal.
pub fn f32_to_f16(from: &[f32], to: &mut [f16]) {
    to.convert_from_f32_slice(from);
}

/// Writes `from` as f32; exact. Panics unless the lengths are equal.
pub fn bf16_to_f32(from: &[bf16], to: &mut [f32]) {
    from.convert_to_f32_slice(to);
}

/// Rounds `from` to the nearest bf16, ties to even. Panics unless the lengths are equal.
pub fn f32_to_bf16(from: &[f32], to: &mut [bf16]) {
    to.convert_from_f32_slice(from);
}

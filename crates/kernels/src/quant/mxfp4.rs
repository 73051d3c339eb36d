//! MXFP4, 17 bytes for 32 values: a byte that is the scale's exponent (E8M0), 16 bytes of nibbles as in Q4_0 that
//! are floats of 4 bits (E2M1). Those are kept doubled, as integers, so the scale is half of `2^(e - 127)`.
//!
//! Each exponent is a finite scale here, as in llama.cpp: 0 is `2^-127`, and 255, which is no number in the
//! standard of the Open Compute Project, is `2^128`. Scales in memory are f16: those below its range become zero,
//! and a matrix with those above it is refused ([`crate::PackError::Scale`]).

use super::{Codes, Offset, Quant};

pub(crate) const QUANT: Quant = Quant {
    ggml_id: 39,
    block_size: 32,
    block_bytes: 17,
    f16_at: &[],
    code_bytes: 1..17,
    bits: 8,
    group: 32,
    offset: Offset::Zero(7),
    dequantize,
    unpack,
};

/// The floats of 4 bits, doubled: `kvalues_mxfp4` of ggml-common.h. The code of minus zero is a zero too.
const TABLE: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// `2^(exponent - 128)`.
fn half_scale(exponent: u8) -> f32 {
    match exponent {
        // The only two that are below the normal floats: 2^-128 and 2^-127.
        0 | 1 => f32::from_bits(1 << (21 + exponent)),
        _ => f32::from_bits(u32::from(exponent - 1) << 23),
    }
}

fn dequantize(block: &[u8], values: &mut [f32]) {
    let scale = half_scale(block[0]);
    for (i, byte) in block[1..].iter().enumerate() {
        values[i] = scale * f32::from(TABLE[usize::from(byte & 15)]);
        values[i + 16] = scale * f32::from(TABLE[usize::from(byte >> 4)]);
    }
}

fn unpack(block: &[u8], out: &mut Codes) {
    out.scales[0] = half_scale(block[0]);
    for (i, byte) in block[1..].iter().enumerate() {
        out.codes[i] = TABLE[usize::from(byte & 15)] as u8 ^ 0x80;
        out.codes[i + 16] = TABLE[usize::from(byte >> 4)] as u8 ^ 0x80;
    }
}

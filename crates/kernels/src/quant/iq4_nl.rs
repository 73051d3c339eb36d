//! IQ4_NL, 18 bytes for 32 values: f16 scale, 16 bytes of nibbles as in Q4_0 that index a fixed table of
//! signed bytes.

use super::{Codes, Offset, Quant, half_at};

pub(crate) const QUANT: Quant = Quant {
    ggml_id: 20,
    block_size: 32,
    block_bytes: 18,
    f16_at: &[0],
    code_bytes: 2..18,
    bits: 8,
    group: 32,
    offset: Offset::Zero(7),
    dequantize,
    unpack,
};

/// `kvalues_iq4nl` of ggml-common.h.
pub(super) const TABLE: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn dequantize(block: &[u8], values: &mut [f32]) {
    let d = half_at(block, 0);
    for (i, byte) in block[2..].iter().enumerate() {
        values[i] = d * f32::from(TABLE[usize::from(byte & 15)]);
        values[i + 16] = d * f32::from(TABLE[usize::from(byte >> 4)]);
    }
}

fn unpack(block: &[u8], out: &mut Codes) {
    // The table's values are not evenly spaced, so the codes in memory are its 8-bit values.
    out.scales[0] = half_at(block, 0);
    for (i, byte) in block[2..].iter().enumerate() {
        out.codes[i] = TABLE[usize::from(byte & 15)] as u8 ^ 0x80;
        out.codes[i + 16] = TABLE[usize::from(byte >> 4)] as u8 ^ 0x80;
    }
}

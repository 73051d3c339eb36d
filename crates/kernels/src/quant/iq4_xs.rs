//! IQ4_XS, 136 bytes for 256 values: f16 d, 16 bits of eight high bit pairs, 4 bytes of eight low nibbles, which
//! make 6-bit scales, 128 bytes of nibbles that index the table of IQ4_NL; `value = d (scale - 32) table[q]` per
//! 32 values, whose nibbles are as in Q4_0.

use super::iq4_nl::TABLE;
use super::{Codes, Offset, Quant, half_at};

pub(crate) const QUANT: Quant = Quant {
    ggml_id: 23,
    block_size: 256,
    block_bytes: 136,
    f16_at: &[0],
    code_bytes: 8..136,
    bits: 8,
    group: 32,
    offset: Offset::Zero(7),
    dequantize,
    unpack,
};

/// The scale of 32 values: number `index` of eight.
fn scale(block: &[u8], index: usize) -> f32 {
    let low = block[4 + index / 2] >> (index % 2 * 4) & 15;
    let high = u16::from_le_bytes([block[2], block[3]]) >> (2 * index) & 3;
    half_at(block, 0) * f32::from((low | (high as u8) << 4) as i8 - 32)
}

fn dequantize(block: &[u8], values: &mut [f32]) {
    for (index, values) in values.chunks_exact_mut(32).enumerate() {
        let scale = scale(block, index);
        for (i, byte) in block[8 + index * 16..][..16].iter().enumerate() {
            values[i] = scale * f32::from(TABLE[usize::from(byte & 15)]);
            values[i + 16] = scale * f32::from(TABLE[usize::from(byte >> 4)]);
        }
    }
}

fn unpack(block: &[u8], out: &mut Codes) {
    for (index, codes) in out.codes.chunks_exact_mut(32).enumerate() {
        out.scales[index] = scale(block, index);
        for (i, byte) in block[8 + index * 16..][..16].iter().enumerate() {
            codes[i] = TABLE[usize::from(byte & 15)] as u8 ^ 0x80;
            codes[i + 16] = TABLE[usize::from(byte >> 4)] as u8 ^ 0x80;
        }
    }
}

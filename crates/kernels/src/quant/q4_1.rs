//! Q4_1, 20 bytes for 32 values: f16 scale, f16 minimum, 16 bytes of nibbles as in Q4_0, `value = d q + m`.

use super::{Codes, Offset, Quant, half_at, unpack_nibbles};

pub(crate) const QUANT: Quant = Quant {
    ggml_id: 3,
    block_size: 32,
    block_bytes: 20,
    f16_at: &[0, 2],
    code_bytes: 4..20,
    bits: 4,
    group: 32,
    offset: Offset::Min,
    dequantize,
    unpack,
};

fn dequantize(block: &[u8], values: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (i, byte) in block[4..].iter().enumerate() {
        values[i] = d * f32::from(byte & 15) + m;
        values[i + 16] = d * f32::from(byte >> 4) + m;
    }
}

fn unpack(block: &[u8], out: &mut Codes) {
    (out.scales[0], out.mins[0]) = (half_at(block, 0), half_at(block, 2));
    unpack_nibbles(&block[4..], &mut out.codes);
}

//! Q4_0, 18 bytes for 32 values: f16 scale, 16 bytes of nibbles (low: values 0-15, high: 16-31), `value = d
//! (q - 8)`.

use super::{Codes, Offset, Quant, half_at, unpack_nibbles};

pub(crate) const QUANT: Quant = Quant {
    ggml_id: 2,
    block_size: 32,
    block_bytes: 18,
    f16_at: &[0],
    code_bytes: 2..18,
    bits: 4,
    group: 32,
    offset: Offset::Zero(3),
    dequantize,
    unpack,
};

fn dequantize(block: &[u8], values: &mut [f32]) {
    let d = half_at(block, 0);
    for (i, byte) in block[2..].iter().enumerate() {
        values[i] = d * f32::from((byte & 15) as i8 - 8);
        values[i + 16] = d * f32::from((byte >> 4) as i8 - 8);
    }
}

fn unpack(block: &[u8], out: &mut Codes) {
    out.scales[0] = half_at(block, 0);
    unpack_nibbles(&block[2..], &mut out.codes);
}

//! Q5_0, 22 bytes for 32 values: f16 scale, 32 high bits, 16 bytes of nibbles as in Q4_0, `value = d (q -
//! 16)`.

use super::{Codes, Offset, Quant, half_at, unpack_fifth_bits, unpack_nibbles};

pub(crate) const QUANT: Quant = Quant {
    ggml_id: 6,
    block_size: 32,
    block_bytes: 22,
    f16_at: &[0],
    code_bytes: 2..22,
    bits: 5,
    group: 32,
    offset: Offset::Zero(4),
    dequantize,
    unpack,
};

fn dequantize(block: &[u8], values: &mut [f32]) {
    let d = half_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for (i, byte) in block[6..].iter().enumerate() {
        let low = (byte & 15) | ((high >> i) << 4 & 16) as u8;
        let upper = (byte >> 4) | ((high >> (i + 16)) << 4 & 16) as u8;
        values[i] = d * (f32::from(low) - 16.0);
        values[i + 16] = d * (f32::from(upper) - 16.0);
    }
}

fn unpack(block: &[u8], out: &mut Codes) {
    out.scales[0] = half_at(block, 0);
    unpack_nibbles(&block[6..], &mut out.codes);
    unpack_fifth_bits(&block[2..6], &mut out.codes);
}

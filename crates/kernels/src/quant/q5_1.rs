//! Q5_1, 24 bytes for 32 values: f16 scale, f16 minimum, 32 high bits, 16 bytes of nibbles, `value = d q +
//! m`.

use super::{Codes, Offset, Quant, half_at, unpack_fifth_bits, unpack_nibbles};

pub(crate) const QUANT: Quant = Quant {
    ggml_id: 7,
    block_size: 32,
    block_bytes: 24,
    f16_at: &[0, 2],
    code_bytes: 4..24,
    bits: 5,
    group: 32,
    offset: Offset::Min,
    dequantize,
    unpack,
};

fn dequantize(block: &[u8], values: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for (i, byte) in block[8..].iter().enumerate() {
        let low = (byte & 15) | ((high >> i) << 4 & 16) as u8;
        let upper = (byte >> 4) | ((high >> (i + 16)) << 4 & 16) as u8;
        values[i] = d * f32::from(low) + m;
        values[i + 16] = d * f32::from(upper) + m;
    }
}

fn unpack(block: &[u8], out: &mut Codes) {
    (out.scales[0], out.mins[0]) = (half_at(block, 0), half_at(block, 2));
    unpack_nibbles(&block[8..], &mut out.codes);
    unpack_fifth_bits(&block[4..8], &mut out.codes);
}

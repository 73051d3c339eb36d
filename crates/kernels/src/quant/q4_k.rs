//! Q4_K, 144 bytes for 256 values: f16 d, f16 dmin, 12 bytes of eight 6-bit (scale, minimum) pairs, 128 bytes
//! of nibbles; `value = d scale q - dmin min` per 32 values. Each 32 bytes hold 64 values: low nibbles, then
//! high nibbles.

use super::{Codes, Offset, Quant, half_at, scale_min_k4};

pub(crate) const QUANT: Quant = Quant {
    ggml_id: 12,
    block_size: 256,
    block_bytes: 144,
    f16_at: &[0, 2],
    code_bytes: 16..144,
    bits: 4,
    group: 32,
    offset: Offset::Min,
    dequantize,
    unpack,
};

fn dequantize(block: &[u8], values: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    for (pair, bytes) in block[16..].chunks(32).enumerate() {
        for (part, shift) in [0, 4].into_iter().enumerate() {
            let (scale, min) = scale_min_k4(pair * 2 + part, &block[4..16]);
            for (l, byte) in bytes.iter().enumerate() {
                values[pair * 64 + part * 32 + l] = d * scale * f32::from(byte >> shift & 15) - dmin * min;
            }
        }
    }
}

fn unpack(block: &[u8], out: &mut Codes) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    for group in 0..8 {
        let (scale, min) = scale_min_k4(group, &block[4..16]);
        (out.scales[group], out.mins[group]) = (d * scale, -dmin * min);
    }
    for (codes, bytes) in out.codes.as_chunks_mut::<64>().0.iter_mut().zip(block[16..].as_chunks::<32>().0) {
        for (l, byte) in bytes.iter().enumerate() {
            codes[l] = byte & 15;
            codes[l + 32] = byte >> 4;
        }
    }
}

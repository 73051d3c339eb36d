//! Q2_K, 84 bytes for 256 values: 16 bytes of (4-bit scale, 4-bit minimum) per 16 values, 64 bytes of 2-bit
//! codes, f16 d, f16 dmin; `value = d scale q - dmin min`. Codes: each 32 bytes hold 128 values, bits 2j of
//! byte l is value 32j + l.

use super::{Codes, Offset, Quant, half_at};

pub(crate) const QUANT: Quant = Quant {
    ggml_id: 10,
    block_size: 256,
    block_bytes: 84,
    f16_at: &[80, 82],
    code_bytes: 16..80,
    bits: 4,
    group: 16,
    offset: Offset::Min,
    dequantize,
    unpack,
};

fn dequantize(block: &[u8], values: &mut [f32]) {
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    let mut at = 0;
    for bytes in block[16..80].chunks(32) {
        for shift in [0, 2, 4, 6] {
            for half in bytes.chunks(16) {
                let packed = block[at / 16];
                let (scale, min) = (d * f32::from(packed & 15), dmin * f32::from(packed >> 4));
                for byte in half {
                    values[at] = scale * f32::from(byte >> shift & 3) - min;
                    at += 1;
                }
            }
        }
    }
}

fn unpack(block: &[u8], out: &mut Codes) {
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    for (group, packed) in block[..16].iter().enumerate() {
        out.scales[group] = d * f32::from(packed & 15);
        out.mins[group] = -dmin * f32::from(packed >> 4);
    }
    let quarters = block[16..80].as_chunks::<32>().0;
    for (at, codes) in out.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (code, byte) in codes.iter_mut().zip(&quarters[at / 4]) {
            *code = byte >> (at % 4 * 2) & 3;
        }
    }
}

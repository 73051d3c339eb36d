//! Q5_K, 176 bytes for 256 values: as Q4_K with 32 bytes of high bits before the nibbles; bit j of high byte
//! l belongs to value 32j + l.

use super::{Codes, Offset, Quant, half_at, scale_min_k4};

pub(crate) const QUANT: Quant = Quant {
    ggml_id: 13,
    block_size: 256,
    block_bytes: 176,
    f16_at: &[0, 2],
    code_bytes: 16..176,
    bits: 5,
    group: 32,
    offset: Offset::Min,
    dequantize,
    unpack,
};

fn dequantize(block: &[u8], values: &mut [f32]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    for (pair, bytes) in block[48..].chunks(32).enumerate() {
        for (part, shift) in [0, 4].into_iter().enumerate() {
            let group = pair * 2 + part;
            let (scale, min) = scale_min_k4(group, &block[4..16]);
            for (l, byte) in bytes.iter().enumerate() {
                let high = if block[16 + l] & 1 << group == 0 { 0.0 } else { 16.0 };
                values[group * 32 + l] = d * scale * (f32::from(byte >> shift & 15) + high) - dmin * min;
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
    let high: &[u8; 32] = block[16..48].try_into().expect("a bit for each of eight times 32 codes");
    let pairs = out.codes.as_chunks_mut::<64>().0.iter_mut().zip(block[48..].as_chunks::<32>().0);
    for (pair, (codes, bytes)) in pairs.enumerate() {
        for l in 0..32 {
            let high = high[l] >> (2 * pair);
            codes[l] = (bytes[l] & 15) | (high & 1) << 4;
            codes[l + 32] = (bytes[l] >> 4) | (high & 2) << 3;
        }
    }
}

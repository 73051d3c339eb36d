//! Q3_K, 110 bytes for 256 values: 32 bytes of high bits, 64 bytes of low two bits (order as in Q2_K), 12
//! bytes of sixteen 6-bit scales, f16 d; `value = d (scale - 32) (q - 4)`. Bit j of high byte l belongs to
//! value 32j + l.

use super::{Codes, Offset, Quant, half_at};

pub(crate) const QUANT: Quant = Quant {
    ggml_id: 11,
    block_size: 256,
    block_bytes: 110,
    f16_at: &[108],
    code_bytes: 0..96,
    bits: 4,
    group: 16,
    offset: Offset::Zero(2),
    dequantize,
    unpack,
};

/// Scale `index` of 16: low nibbles in bytes 0-7 (0-7 low, 8-15 high), two high bits in bytes 8-11.
fn scale(packed: &[u8], index: usize) -> f32 {
    let low = packed[index % 8] >> (index / 8 * 4) & 15;
    let high = packed[8 + index % 4] >> (index / 4 * 2) & 3;
    f32::from(low | high << 4) - 32.0
}

fn dequantize(block: &[u8], values: &mut [f32]) {
    let d = half_at(block, 108);
    let (mut at, mut high_bit) = (0, 1u8);
    for bytes in block[32..96].chunks(32) {
        for shift in [0, 2, 4, 6] {
            for (l, byte) in bytes.iter().enumerate() {
                let low = f32::from(byte >> shift & 3);
                let q = if block[l] & high_bit == 0 { low - 4.0 } else { low };
                values[at] = d * scale(&block[96..108], at / 16) * q;
                at += 1;
            }
            high_bit = high_bit.rotate_left(1);
        }
    }
}

fn unpack(block: &[u8], out: &mut Codes) {
    let d = half_at(block, 108);
    for group in 0..16 {
        out.scales[group] = d * scale(&block[96..108], group);
    }
    let high: &[u8; 32] = block[..32].try_into().expect("a bit for each of eight times 32 codes");
    let quarters = block[32..96].as_chunks::<32>().0;
    for (at, codes) in out.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for ((code, byte), high) in codes.iter_mut().zip(&quarters[at / 4]).zip(high) {
            *code = (byte >> (at % 4 * 2) & 3) | (high >> at & 1) << 2;
        }
    }
}

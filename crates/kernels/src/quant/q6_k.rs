//! Q6_K, 210 bytes for 256 values: 128 bytes of low nibbles, 64 bytes of high two bits, 16 signed scales, f16
//! d; `value = d scale (q - 32)` per 16 values. Each half of 128 values takes 64 low and 32 high bytes.

use super::{Codes, Offset, Quant, half_at};

pub(crate) const QUANT: Quant = Quant {
    ggml_id: 14,
    block_size: 256,
    block_bytes: 210,
    f16_at: &[208],
    code_bytes: 0..192,
    bits: 6,
    group: 16,
    offset: Offset::Zero(5),
    dequantize,
    unpack,
};

fn dequantize(block: &[u8], values: &mut [f32]) {
    let d = half_at(block, 208);
    for half in 0..2 {
        let (low, high) = (&block[half * 64..][..64], &block[128 + half * 32..][..32]);
        let scales = &block[192 + half * 8..][..8];
        let values = &mut values[half * 128..][..128];
        for l in 0..32 {
            let quarters = [low[l] & 15, low[l + 32] & 15, low[l] >> 4, low[l + 32] >> 4];
            for (quarter, nibble) in quarters.into_iter().enumerate() {
                let q = (nibble | (high[l] >> (2 * quarter) & 3) << 4) as i8 - 32;
                let scale = scales[l / 16 + 2 * quarter] as i8;
                values[l + 32 * quarter] = d * f32::from(scale) * f32::from(q);
            }
        }
    }
}

fn unpack(block: &[u8], out: &mut Codes) {
    let d = half_at(block, 208);
    for group in 0..16 {
        out.scales[group] = d * f32::from(block[192 + group] as i8);
    }
    let (lows, highs) = (block[..128].as_chunks::<64>().0, block[128..192].as_chunks::<32>().0);
    for (codes, (low, high)) in out.codes.as_chunks_mut::<128>().0.iter_mut().zip(lows.iter().zip(highs)) {
        for l in 0..32 {
            codes[l] = (low[l] & 15) | (high[l] & 3) << 4;
            codes[l + 32] = (low[l + 32] & 15) | (high[l] & 12) << 2;
            codes[l + 64] = (low[l] >> 4) | (high[l] & 48);
            codes[l + 96] = (low[l + 32] >> 4) | (high[l] & 192) >> 2;
        }
    }
}

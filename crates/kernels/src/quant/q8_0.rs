//! Q8_0, 34 bytes for 32 values: f16 scale, 32 signed bytes, `value = d q`.

use super::{Codes, Offset, Quant, half_at};

pub(crate) const QUANT: Quant = Quant {
    ggml_id: 8,
    block_size: 32,
    block_bytes: 34,
    f16_at: &[0],
    code_bytes: 2..34,
    bits: 8,
    group: 32,
    offset: Offset::Zero(7),
    dequantize,
    unpack,
};

fn dequantize(block: &[u8], values: &mut [f32]) {
    let d = half_at(block, 0);
    for (value, &byte) in values.iter_mut().zip(&block[2..]) {
        *value = d * f32::from(byte as i8);
    }
}

fn unpack(block: &[u8], out: &mut Codes) {
    out.scales[0] = half_at(block, 0);
    let bytes: &[u8; 32] = block[2..].try_into().expect("a block has 32 codes");
    for (code, byte) in out.codes.iter_mut().zip(bytes) {
        *code = byte ^ 0x80; // Two's complement plus 128.
    }
}

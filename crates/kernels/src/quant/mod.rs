//! How each quantized format of GGUF lays out a block, one file per format, each with its scalar reference.
//!
//! Layouts are those of `ggml-common.h` and `ggml-quants.c` in llama.cpp. A format says two things: what the
//! values of a block are ([`Quant::dequantize`], written the way the source of the format defines it), and
//! how to see the same block as unsigned codes with a scale and a minimum per 16 or 32 values
//! ([`Quant::unpack`]), which is all the packed matrix needs. A test holds them against each other.

pub(crate) mod q4_0;
pub(crate) mod q4_1;
pub(crate) mod q5_0;
pub(crate) mod q5_1;
pub(crate) mod q8_0;

pub(crate) mod q2_k;
pub(crate) mod q3_k;
pub(crate) mod q4_k;
pub(crate) mod q5_k;
pub(crate) mod q6_k;

pub(crate) mod iq4_nl;
pub(crate) mod iq4_xs;
pub(crate) mod mxfp4;

use std::ops::Range;

/// One quantized format: everything that is to know about it.
pub(crate) struct Quant {
    /// Its number in `enum ggml_type` of ggml.h.
    pub(crate) ggml_id: u32,
    /// Values per block: a multiple of 32, at most 256.
    pub(crate) block_size: usize,
    /// Bytes per block in the file.
    pub(crate) block_bytes: usize,
    /// Where in a block its f16 numbers begin, the scales and minimums. Tests put ordinary numbers there, and into the
    /// exponents of MXFP4, which has none.
    pub(crate) f16_at: &'static [usize],
    /// Which bytes of a block hold nothing but codes. Tests put extreme ones there.
    pub(crate) code_bytes: Range<usize>,
    /// Bits of a code in the packed matrix: 4, 5, 6 or 8.
    pub(crate) bits: u32,
    /// Values that share a scale: 16 or 32.
    pub(crate) group: usize,
    /// What a code is relative to.
    pub(crate) offset: Offset,
    /// Reads one block of the file as values; `values` has the block's length.
    pub(crate) dequantize: fn(block: &[u8], values: &mut [f32]),
    /// Reads one block of the file as codes.
    pub(crate) unpack: fn(block: &[u8], codes: &mut Codes),
}

impl Quant {
    /// Panics, at compile time, where the declaration contradicts itself.
    pub(crate) const fn check(&self) {
        assert!(self.block_size.is_multiple_of(32) && self.block_size <= 256, "blocks are 32 to 256 values");
        assert!(self.group == 16 || self.group == 32, "a scale covers 16 or 32 values");
        let codes = &self.code_bytes;
        assert!(codes.start < codes.end && codes.end <= self.block_bytes, "codes are bytes of the block");
        let mut i = 0;
        while i < self.f16_at.len() {
            let at = self.f16_at[i];
            assert!(at + 2 <= self.block_bytes, "an f16 is two bytes of the block");
            assert!(at + 2 <= codes.start || codes.end <= at, "an f16 is no code");
            i += 1;
        }
    }
}

/// How a code becomes a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Offset {
    /// `value = scale * (code - 2^n)`.
    Zero(u32),
    /// `value = scale * code + min`, with a minimum per group.
    Min,
}

/// A block of up to 256 values as unsigned codes.
pub(crate) struct Codes {
    pub(crate) codes: [u8; 256],
    /// Per group of 16 or 32 values.
    pub(crate) scales: [f32; 16],
    /// Per group; zero unless the format has minimums.
    pub(crate) mins: [f32; 16],
}

impl Codes {
    pub(crate) fn new() -> Codes {
        Codes { codes: [0; 256], scales: [0.0; 16], mins: [0.0; 16] }
    }
}

/// Reads the f16 at byte `at`.
#[inline(always)]
fn half_at(block: &[u8], at: usize) -> f32 {
    // `to_f32` looks each time whether the processor has an instruction for it, which takes longer than to do without.
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32_const()
}

/// Reads 16 bytes of nibbles: the low ones are codes 0-15, the high ones 16-31.
#[inline(always)]
fn unpack_nibbles(bytes: &[u8], codes: &mut [u8; 256]) {
    let bytes: &[u8; 16] = bytes.try_into().expect("16 bytes are 32 nibbles");
    for (i, byte) in bytes.iter().enumerate() {
        codes[i] = byte & 15;
        codes[i + 16] = byte >> 4;
    }
}

/// Adds bit 4 of 32 codes, of which each has its bit in `high`, the lowest first.
#[inline(always)]
fn unpack_fifth_bits(high: &[u8], codes: &mut [u8; 256]) {
    for (high, codes) in high.iter().zip(codes.as_chunks_mut::<8>().0) {
        *codes = (u64::from_le_bytes(*codes) | FIFTH_BITS[usize::from(*high)]).to_le_bytes();
    }
}

/// For each byte, its eight bits as bit 4 of eight bytes.
const FIFTH_BITS: [u64; 256] = {
    let mut spread = [0; 256];
    let mut at = 0;
    while at < 256 * 8 {
        let (byte, bit) = (at / 8, at % 8);
        spread[byte] |= ((byte >> bit & 1) as u64) << (8 * bit + 4);
        at += 1;
    }
    spread
};

/// Scale and minimum number `index` of the 12 bytes in which Q4_K and Q5_K keep eight pairs of 6-bit numbers.
fn scale_min_k4(index: usize, packed: &[u8]) -> (f32, f32) {
    let (scale, min) = if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        let high = (packed[index - 4] >> 6, packed[index] >> 6);
        ((packed[index + 4] & 15) | high.0 << 4, (packed[index + 4] >> 4) | high.1 << 4)
    };
    (f32::from(scale), f32::from(min))
}

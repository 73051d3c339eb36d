//! Random inputs for the tests of this crate.

use crate::DType;
use half::{bf16, f16};

/// A small generator (xorshift64*), so that a test is repeatable from its seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Uniform in [-1, 1).
    pub(crate) fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }
}

/// `count` blocks with random codes and scales of an ordinary size.
pub(crate) fn random_blocks(dtype: DType, count: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::new();
    for _ in 0..count {
        let at = bytes.len();
        match dtype {
            DType::F32 => bytes.extend(random.value().to_le_bytes()),
            DType::F16 => bytes.extend(f16::from_f32(random.value()).to_le_bytes()),
            DType::BF16 => bytes.extend(bf16::from_f32(random.value()).to_le_bytes()),
            _ => bytes.extend((0..dtype.block_bytes()).map(|_| random.bits() as u8)),
        }
        let halves: &[usize] = match dtype {
            DType::F32 | DType::F16 | DType::BF16 => &[],
            DType::Q8_0 | DType::Q4_0 | DType::Q5_0 | DType::IQ4_NL => &[0],
            DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
            DType::Q2_K => &[80, 82],
            DType::Q3_K => &[108],
            DType::Q6_K => &[208],
        };
        for half in halves {
            let value = f16::from_f32(random.value() * 0.1);
            bytes[at + half..at + half + 2].copy_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

//! Random inputs for the tests of this crate, repeatable from their seed.

use crate::DType;
use fastrand::Rng;
use half::{bf16, f16};

/// A generator whose numbers have nothing to do with those of other seeds: fastrand's own streams of
/// neighbouring seeds are correlated.
pub(crate) fn seeded(seed: u64) -> Rng {
    Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Uniform in [-1, 1).
pub(crate) fn value(rng: &mut Rng) -> f32 {
    rng.f32() * 2.0 - 1.0
}

/// `len` of them.
pub(crate) fn values(rng: &mut Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| value(rng)).collect()
}

/// `count` blocks with random codes and scales of an ordinary size.
pub(crate) fn random_blocks(dtype: DType, count: usize, seed: u64) -> Vec<u8> {
    let mut rng = seeded(seed);
    let mut bytes = Vec::new();
    for _ in 0..count {
        match (dtype, dtype.quant()) {
            (_, Some(quant)) => {
                let mut block: Vec<u8> = (0..quant.block_bytes).map(|_| rng.u8(..)).collect();
                for &at in quant.f16_at {
                    let scale = f16::from_f32(value(&mut rng) * 0.1);
                    block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
                }
                if dtype == DType::MXFP4 {
                    block[0] = rng.u8(118..126);
                }
                bytes.extend(block);
            }
            (DType::F16, None) => bytes.extend(f16::from_f32(value(&mut rng)).to_le_bytes()),
            (DType::BF16, None) => bytes.extend(bf16::from_f32(value(&mut rng)).to_le_bytes()),
            (_, None) => bytes.extend(value(&mut rng).to_le_bytes()),
        }
    }
    bytes
}

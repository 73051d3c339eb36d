//! From numbers to blocks of Q8_0, for models whose weights are floats and that should take half the memory.
//!
//! The blocks are those of ggml's reference, bit for bit. Of 32 values the one that is farthest from zero is 127 steps:
//!
//! ```text
//! d = max |x| / 127;  code = round(x * (1 / d)), halves away from zero;  d is kept as f16
//! ```
//! No search for better scales is done: at 8 bits there is little to be found.

use crate::lanes::{Lanes, Number, Reduce, ReduceKernel, run};
use crate::{DType, Isa};
use half::{bf16, f16};

/// Values that share a scale.
const BLOCK: usize = 32;

/// Turns whole rows of F32, F16 or BF16 into [`DType::Q8_0`]. A value that is not finite spoils its block.
///
/// # Panics
/// When `dtype` is another format, or the values are not whole blocks of 32.
pub fn quantize_q8_0(isa: Isa, dtype: DType, bytes: &[u8]) -> Vec<u8> {
    assert!(!dtype.is_quantized(), "{} is quantized already", dtype.name());
    let count = bytes.len() / dtype.block_bytes();
    assert!(
        bytes.len() == dtype.row_bytes(count) && count.is_multiple_of(BLOCK),
        "{count} values are not blocks"
    );
    let mut out = vec![0; DType::Q8_0.row_bytes(count)];
    match dtype {
        DType::F16 => run(isa, Quantize { bytes, read: f16::from_le_bytes, out: &mut out }),
        DType::BF16 => run(isa, Quantize { bytes, read: bf16::from_le_bytes, out: &mut out }),
        _ => run(isa, Quantize { bytes, read: f32::from_le_bytes, out: &mut out }),
    }
    out
}

struct Quantize<'a, F, const BYTES: usize> {
    bytes: &'a [u8],
    read: F,
    out: &'a mut [u8],
}

impl<T: Number + Default, F: Fn([u8; BYTES]) -> T, const BYTES: usize> ReduceKernel
    for Quantize<'_, F, BYTES>
{
    type Output = ();

    #[inline(always)]
    fn run<L: Reduce>(self) {
        let (blocks, _) = self.bytes.as_chunks::<BYTES>();
        let mut values = [T::default(); BLOCK];
        let mut codes = [0i8; BLOCK];
        for (from, to) in blocks.chunks_exact(BLOCK).zip(self.out.chunks_exact_mut(BLOCK + 2)) {
            values.iter_mut().zip(from).for_each(|(value, bytes)| *value = (self.read)(*bytes));
            let mut largest = L::splat(0.0);
            for part in values.chunks_exact(L::N) {
                largest = T::load::<L>(part).abs().max(largest);
            }
            let scale = largest.max_lane() / 127.0;
            let inverse = L::splat(if scale == 0.0 { 0.0 } else { 1.0 / scale });
            for (part, codes) in values.chunks_exact(L::N).zip(codes.chunks_exact_mut(L::N)) {
                round_half_away(T::load::<L>(part).mul(inverse)).store_i8(codes);
            }
            to[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
            to[2..].iter_mut().zip(codes).for_each(|(to, code)| *to = code as u8);
        }
    }
}

/// To the nearest integer, halves away from zero.
#[inline(always)]
fn round_half_away<L: Lanes>(x: L) -> L {
    let (one, size) = (L::splat(1.0), x.abs());
    let even = size.round();
    // A half that was rounded down to an even number: the only case in which the two roundings differ.
    let size = even.add(one.zero_below(size.sub(even), L::splat(0.5)));
    let sign = L::splat(2.0).zero_below(x, L::splat(0.0)).sub(one);
    size.mul(sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{seeded, values};

    fn bytes_of(dtype: DType, values: &[f32]) -> Vec<u8> {
        match dtype {
            DType::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
            DType::BF16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    /// The reference, as ggml has it.
    fn plain(values: &[f32]) -> Vec<u8> {
        let mut out = Vec::new();
        for block in values.chunks_exact(BLOCK) {
            let scale = block.iter().fold(0f32, |largest, x| largest.max(x.abs())) / 127.0;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            out.extend(f16::from_f32(scale).to_le_bytes());
            out.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
        }
        out
    }

    /// Blocks of many sizes, of zeros, and one where every second value is half a step.
    fn inputs() -> Vec<f32> {
        let mut all = values(&mut seeded(1), 64 * BLOCK);
        for (i, block) in all.chunks_exact_mut(BLOCK).enumerate() {
            block.iter_mut().for_each(|x| *x *= 10f32.powi(i as i32 % 12 - 7));
        }
        all[..BLOCK].fill(0.0);
        for (i, x) in all[BLOCK..2 * BLOCK].iter_mut().enumerate() {
            *x = (i as f32 - 16.0) * 0.5;
        }
        all[BLOCK] = 127.0;
        all
    }

    #[test]
    fn blocks_are_those_of_the_reference_on_every_instruction_set() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let bytes = bytes_of(dtype, &inputs());
            let mut rounded = inputs();
            dtype.dequantize(&bytes, &mut rounded);
            for isa in Isa::available() {
                assert_eq!(quantize_q8_0(isa, dtype, &bytes), plain(&rounded), "{dtype:?} {isa}");
            }
        }
    }

    #[test]
    fn values_are_within_half_a_step() {
        let values = values(&mut seeded(2), 64 * BLOCK);
        let quantized = quantize_q8_0(Isa::detect(), DType::F32, &bytes_of(DType::F32, &values));
        let mut found = vec![0.0; values.len()];
        DType::Q8_0.dequantize(&quantized, &mut found);
        for (values, found) in values.chunks(BLOCK).zip(found.chunks(BLOCK)) {
            let largest = values.iter().fold(0f32, |largest, x| largest.max(x.abs()));
            // Half a step, and what rounding the scale to f16 makes of 127 steps.
            let bound = largest / 127.0 * 0.5 + largest / 2048.0;
            assert!(values.iter().zip(found).all(|(x, found)| (x - found).abs() <= bound));
        }
    }
}

//! `out = x * W^T` for a packed matrix, any number of activation rows and any rectangle of the output.
//!
//! For each tile of weights and a few rows of activations at a time, a kernel walks the blocks of 32 inputs in order:
//!
//! ```text
//! n   = sum over the block of code * activation code          exact, in integers
//! acc = fma(n, scale_w * scale_x, acc)                        in f32, one lane per output row
//! acc = fma(min_w, sum_x, acc)                                min_w = -zero * scale_w unless stored
//! ```
//! (twice per block for formats whose scales cover 16 values; 8-bit codes count from 128, without a minimum). Rows of activations only share the unpacked weights, so
//! every output element goes through the same operations whatever the batch, the rectangle and the instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float;
mod scalar;

use crate::activations::Block;
use crate::isa::Kind;
use crate::matrix::{Body, Packed};
use crate::quant::Offset;
use crate::{Activations, Matrix, Tile, TileMut};
use half::f16;
use std::ops::Range;

/// What a matrix is multiplied with. Rows are found by their index in the whole buffer.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// 8-bit rows, for quantized matrices.
    Quantized(&'a Activations),
    /// f32 rows, all columns, for F32, F16 and BF16 matrices.
    Float(&'a Tile<'a, f32>),
}

/// Computes the rectangle `out`: its rows are rows of the activations, its columns are rows of the matrix.
///
/// Threads share a product by calling this with disjoint rectangles of one [`crate::Shared`]. The columns start at a
/// multiple of [`Matrix::tile_rows`] and end at one or at the last row. Results do not depend on the rectangle.
///
/// Panics when the rectangle is not aligned so, when shapes differ, or when the kind of input does not suit the matrix
/// ([`crate::DType::is_quantized`]).
pub fn matmul(matrix: &Matrix, input: Input<'_>, out: &mut TileMut<'_, f32>) {
    let (rows, cols, tile_rows) = (out.rows(), out.cols(), matrix.tile_rows());
    assert!(
        cols.start.is_multiple_of(tile_rows)
            && (cols.end.is_multiple_of(tile_rows) || cols.end == matrix.rows())
            && cols.end <= matrix.rows(),
        "columns {cols:?} are not whole tiles of {tile_rows} in a matrix of {} rows",
        matrix.rows()
    );
    let row_bytes = match input {
        Input::Quantized(_) => size_of::<Block>() * matrix.cols() / 32,
        Input::Float(_) => 4 * matrix.cols(),
    };
    for chunk in chunks(rows, row_bytes) {
        match (&matrix.body, input) {
            (Body::Quant(packed), Input::Quantized(x)) => {
                assert_eq!(x.cols(), matrix.cols(), "columns of the activations and of the matrix");
                quantized(matrix, packed, &x.read(chunk), out);
            }
            (Body::F32(w), Input::Float(x)) => float::product(matrix, w, x, chunk, out),
            (Body::F16(w), Input::Float(x)) => float::product(matrix, w, x, chunk, out),
            (Body::BF16(w), Input::Float(x)) => float::product(matrix, w, x, chunk, out),
            (_, Input::Float(_)) => panic!("a {} matrix needs quantized activations", matrix.dtype().name()),
            (_, Input::Quantized(_)) => panic!("a {} matrix needs f32 activations", matrix.dtype().name()),
        }
    }
}

/// Bytes of activations that are kept at hand while all tiles pass by: they stay in the second-level cache, else every
/// tile would fetch all of them again. Half of the 512 KiB that the smallest machines of interest have.
const CHUNK_BYTES: usize = 256 << 10;

/// Cuts rows into chunks of about that size, each a multiple of 16 rows.
fn chunks(rows: Range<usize>, row_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let chunk = (CHUNK_BYTES / row_bytes / 16 * 16).max(16);
    let end = rows.end;
    rows.step_by(chunk).map(move |start| start..(start + chunk).min(end))
}

/// One tile of weights: all blocks of `tile_rows` rows.
#[derive(Clone, Copy)]
struct Weights<'a> {
    /// `blocks * 4 * tile_rows * bits` bytes.
    codes: &'a [u8],
    /// `blocks * groups * tile_rows` values.
    scales: &'a [f16],
    /// As many as scales, or none.
    mins: &'a [f16],
}

/// Bytes of codes between the block being computed and the one asked of memory: more than what the processor asks for by
/// itself while it is busy with a block, less than what the first-level cache loses.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 4096;

/// Asks memory for the weights that come [`AHEAD`] bytes after block `block`, those of the next tile at the end.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch<const BITS: usize, const GROUPS: usize, const OFFSET: u32, const TILE_ROWS: usize>(
    weights: Weights<'_>,
    block: usize,
) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    const LINE: usize = 64;
    let block_bytes = 4 * TILE_ROWS * BITS;
    let later = block + AHEAD / block_bytes;
    let ask = |from: *const u8| {
        // SAFETY: a prefetch reads nothing that a program could see and never faults, wherever it points; every x86-64
        // has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    };
    for line in 0..block_bytes.div_ceil(LINE) {
        ask(weights.codes.as_ptr().wrapping_add(later * block_bytes + line * LINE));
    }
    let scales = later * GROUPS * TILE_ROWS;
    ask(weights.scales.as_ptr().wrapping_add(scales).cast());
    if OFFSET == MIN {
        ask(weights.mins.as_ptr().wrapping_add(scales).cast());
    }
}

/// [`Offset`] as a constant of a kernel: the shift of the zero point, or this.
const MIN: u32 = u32::MAX;

/// Calls `$kernel::<BITS, GROUPS, OFFSET>` for the format: the list of all shapes of code that formats use.
macro_rules! for_format {
    ($quant:expr, $kernel:ident($($arg:expr),*)) => {
        match ($quant.bits, 32 / $quant.group, $quant.offset) {
            (4, 1, Offset::Zero(3)) => $kernel::<4, 1, 3>($($arg),*),
            (4, 1, Offset::Min) => $kernel::<4, 1, MIN>($($arg),*),
            (4, 2, Offset::Zero(2)) => $kernel::<4, 2, 2>($($arg),*),
            (4, 2, Offset::Min) => $kernel::<4, 2, MIN>($($arg),*),
            (5, 1, Offset::Zero(4)) => $kernel::<5, 1, 4>($($arg),*),
            (5, 1, Offset::Min) => $kernel::<5, 1, MIN>($($arg),*),
            (6, 2, Offset::Zero(5)) => $kernel::<6, 2, 5>($($arg),*),
            (8, 1, Offset::Zero(7)) => $kernel::<8, 1, 7>($($arg),*),
            (bits, groups, offset) => unreachable!("no kernel for {bits} bits, {groups} groups, {offset:?}"),
        }
    };
}

fn quantized(matrix: &Matrix, packed: &Packed, x: &Tile<'_, Block>, out: &mut TileMut<'_, f32>) {
    for_format!(packed.quant, quantized_as(matrix, packed, x, out))
}

fn quantized_as<const BITS: usize, const GROUPS: usize, const OFFSET: u32>(
    matrix: &Matrix,
    packed: &Packed,
    x: &Tile<'_, Block>,
    out: &mut TileMut<'_, f32>,
) {
    let (tile_rows, blocks, cols) = (matrix.tile_rows(), matrix.cols() / 32, out.cols());
    let code_bytes = blocks * 4 * tile_rows * BITS;
    let scales = blocks * GROUPS * tile_rows;
    for tile in cols.start / tile_rows..cols.end.div_ceil(tile_rows) {
        let weights = Weights {
            codes: &packed.codes()[tile * code_bytes..][..code_bytes],
            scales: &packed.scales[tile * scales..][..scales],
            mins: if OFFSET == MIN { &packed.mins[tile * scales..][..scales] } else { &[] },
        };
        let at = tile * tile_rows - cols.start;
        let out_cols = at..(at + tile_rows).min(cols.len());
        match matrix.isa.0 {
            Kind::Scalar => scalar::tile::<BITS, GROUPS, OFFSET>(weights, x, out, out_cols),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the matrix was packed for an `Isa` that proves the features.
            Kind::Avx2 => unsafe { avx2::tile::<BITS, GROUPS, OFFSET>(weights, x, out, out_cols) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kind::Avx512Vnni => unsafe { avx512::tile::<BITS, GROUPS, OFFSET>(weights, x, out, out_cols) },
        }
    }
}

#[cfg(test)]
mod tests;

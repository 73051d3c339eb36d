//! `out = x * W^T` for a packed matrix, any number of activation rows and any rectangle of the output.
//!
//! The routines below are long, but the idea is simple. One output is one row of weights times one row of
//! activations, 32 inputs at a time. On the right is the first block of a row of Q4_K whose weights are -2.5,
//! 2, -0.5, 0 ... and of activations 1, -0.5, 1.27, 0 ...:
//!
//! ```text
//! acc = 0
//! for each block:                              q = 3, 12, 7, 8 ...        scale_w = 0.5, min_w = -4
//!                                              x = 100, -50, 127, 0 ...   scale_x = 0.01
//!     n = sum of q[i] * x[i], in integers      n = 300 - 600 + 889 + 0 ... = 589
//!     acc = fma(n, scale_w * scale_x, acc)     acc = 589 * 0.005 = 2.945
//!     sum_x = scale_x * sum of x[i]            sum_x = 0.01 * 177 = 1.77
//!     acc = fma(min_w, sum_x, acc)             acc = 2.945 - 4 * 1.77 = -4.135
//!                                              which is -2.5 * 1 - 2 * 0.5 - 0.5 * 1.27
//! ```
//! A format without minimums has `min_w = -2^z * scale_w`, its zero point (Q4_0: z = 3, codes count from 8).
//! Codes of 8 bits count from 128, which is taken off in integers instead: `n - 128 * sum of x[i]`. Where
//! scales cover 16 values, a block takes both steps for its first half and then for its second.
//!
//! `scalar.rs` is written like that. The vector kernels differ in four ways, and none of them changes a bit,
//! since integer sums are exact and the float steps of an output stay the same, in the same order:
//!
//! 1. They compute a tile of output rows at once, a lane for each. [`crate::matrix`] packs the weights so
//!    that one vector holds four inputs of every row of the tile; they are multiplied with the same four
//!    activations, broadcast. No sum ever runs across lanes, so there is nothing to reorder.
//! 2. A block is unpacked once for several rows of activations, 16 on AVX2, 8 on AVX-512 and 4 on NEON, because
//!    unpacking 4 bits takes about as long as one row's products. Rows share the unpacked codes and nothing
//!    else.
//! 3. The products of AVX2 without VNNI are sums of two in 16 bits. How many of those may be added before they are
//!    widened to 32 bits follows from the bits of a code; the head of `avx2.rs` has the arithmetic, and that of `neon.rs`
//!    for CPUs without `sdot`.
//! 4. Those of x86 prefetch weights 4 KiB ahead. With several rows of activations the work on one block is long, and
//!    the processor does not look far enough ahead by itself to keep memory busy.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod unpack;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::{EVEX, VEX, dot as dot_256};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::{dot, multiply};

use crate::activations::Block;
use crate::isa::Kind;
use crate::matrix::{Body, Packed};
#[cfg(target_arch = "x86_64")]
use crate::memory::Level;
use crate::quant::{Offset, Quant};
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
/// Threads share a product by calling this with disjoint rectangles of one [`crate::Shared`]. The columns
/// start at a multiple of [`Matrix::tile_rows`] and end at one or at the last row. Results do not depend on
/// the rectangle.
///
/// Panics when the rectangle is not aligned so, when shapes differ, or when the kind of input does not suit
/// the matrix ([`crate::DType::is_quantized`]).
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

/// Bytes of activations that pass by all tiles before the next rows do: they stay in the second-level cache,
/// else every tile would fetch all of them again. Half of the 512 KiB that the smallest machines of interest
/// have.
const CHUNK_BYTES: usize = 256 << 10;

/// Cuts rows into chunks of that size at most, about equal and each but the last a multiple of 16 rows.
fn chunks(rows: Range<usize>, row_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let most = (CHUNK_BYTES / row_bytes / 16 * 16).max(16);
    let count = rows.len().div_ceil(most).max(1);
    let chunk = rows.len().div_ceil(count).next_multiple_of(16);
    let end = rows.end;
    rows.step_by(chunk.max(1)).map(move |start| start..(start + chunk).min(end))
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

/// Prefetch distance in bytes of codes: beyond what the processor reads ahead by itself, short enough not to
/// be evicted from the cache before it is used.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 4096;

/// Where the weights of a product with so many rows are wanted. A single row waits for nothing but them, so they come as near
/// as can be; beside the work of several, lines on their way to the first level take the places of the loads that this work
/// needs.
#[cfg(target_arch = "x86_64")]
const fn wanted(rows: usize) -> Level {
    if rows == 1 { Level::First } else { Level::Second }
}

/// Prefetches the weights [`AHEAD`] bytes after block `block`; at the end of a tile, those of the next one.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch<const BITS: usize, const GROUPS: usize, const HAS_MIN: bool, const TILE_ROWS: usize>(
    weights: Weights<'_>,
    block: usize,
    level: Level,
) {
    use crate::memory::{LINE_BYTES, prefetch};
    let block_bytes = 4 * TILE_ROWS * BITS;
    let later = block + AHEAD / block_bytes;
    for line in 0..block_bytes.div_ceil(LINE_BYTES) {
        prefetch(weights.codes.as_ptr().wrapping_add(later * block_bytes + line * LINE_BYTES), level);
    }
    let scales = later * GROUPS * TILE_ROWS;
    prefetch(weights.scales.as_ptr().wrapping_add(scales).cast(), level);
    if HAS_MIN {
        prefetch(weights.mins.as_ptr().wrapping_add(scales).cast(), level);
    }
}

/// Calls `$kernel::<BITS, GROUPS, ZERO, HAS_MIN>` for the format: the list of all shapes of code that formats
/// use. `ZERO` is the shift of the zero point, and means nothing with a minimum.
macro_rules! for_format {
    ($quant:expr, $kernel:ident($($arg:expr),*)) => {
        match ($quant.bits, 32 / $quant.group, $quant.offset) {
            (4, 1, Offset::Zero(3)) => $kernel::<4, 1, 3, false>($($arg),*),
            (4, 1, Offset::Min) => $kernel::<4, 1, 0, true>($($arg),*),
            (4, 2, Offset::Zero(2)) => $kernel::<4, 2, 2, false>($($arg),*),
            (4, 2, Offset::Min) => $kernel::<4, 2, 0, true>($($arg),*),
            (5, 1, Offset::Zero(4)) => $kernel::<5, 1, 4, false>($($arg),*),
            (5, 1, Offset::Min) => $kernel::<5, 1, 0, true>($($arg),*),
            (6, 2, Offset::Zero(5)) => $kernel::<6, 2, 5, false>($($arg),*),
            (8, 1, Offset::Zero(7)) => $kernel::<8, 1, 7, false>($($arg),*),
            _ => panic!("`for_format!` has no line for the bits, groups and offset of a format"),
        }
    };
}

/// Panics, at compile time, where no kernel computes with the format.
pub(crate) const fn check_kernel(quant: &Quant) {
    const fn found<const BITS: usize, const GROUPS: usize, const ZERO: u32, const HAS_MIN: bool>() {}
    for_format!(quant, found())
}

fn quantized(matrix: &Matrix, packed: &Packed, x: &Tile<'_, Block>, out: &mut TileMut<'_, f32>) {
    for_format!(packed.quant, quantized_as(matrix, packed, x, out))
}

fn quantized_as<const BITS: usize, const GROUPS: usize, const ZERO: u32, const HAS_MIN: bool>(
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
            mins: if HAS_MIN { &packed.mins[tile * scales..][..scales] } else { &[] },
        };
        let at = tile * tile_rows - cols.start;
        let out_cols = at..(at + tile_rows).min(cols.len());
        match matrix.isa.0 {
            Kind::Scalar => scalar::tile::<BITS, GROUPS, ZERO, HAS_MIN>(weights, x, out, out_cols),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the matrix was packed for an `Isa` that proves the features.
            Kind::Avx2 => unsafe {
                avx2::tile::<BITS, GROUPS, ZERO, HAS_MIN, { avx2::MADD }>(weights, x, out, out_cols)
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kind::AvxVnni { evex: false } => unsafe {
                avx2::tile::<BITS, GROUPS, ZERO, HAS_MIN, { avx2::VEX }>(weights, x, out, out_cols)
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kind::AvxVnni { evex: true } => unsafe {
                avx2::tile::<BITS, GROUPS, ZERO, HAS_MIN, { avx2::EVEX }>(weights, x, out, out_cols)
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kind::Avx512Vnni => unsafe {
                avx512::tile::<BITS, GROUPS, ZERO, HAS_MIN>(weights, x, out, out_cols)
            },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Kind::Neon => unsafe {
                neon::tile::<BITS, GROUPS, ZERO, HAS_MIN, { neon::MULL }>(weights, x, out, out_cols)
            },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Kind::NeonDot => unsafe {
                neon::tile::<BITS, GROUPS, ZERO, HAS_MIN, { neon::SDOT }>(weights, x, out, out_cols)
            },
            #[cfg(target_arch = "aarch64")]
            // SAFETY: as above.
            Kind::NeonI8mm => unsafe {
                neon::tile::<BITS, GROUPS, ZERO, HAS_MIN, { neon::SMMLA }>(weights, x, out, out_cols)
            },
        }
    }
}

#[cfg(test)]
mod tests;

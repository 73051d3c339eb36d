//! Weights in the order the kernels read them.
//!
//! A matrix `[rows][cols]` is cut into tiles of `tile_rows` output rows: one row per 32-bit lane of the
//! instruction set, 8 or 16, so that one vector of codes holds four inputs of every row of the tile and is
//! multiplied with four broadcast activations. A block is 32 inputs of a tile. Its codes, by bits per code
//! (`V` is a vector, `4 * tile_rows` bytes, byte `4r + i` for row `r`; group `g` of 8 is inputs `4g .. 4g +
//! 4`):
//!
//! ```text
//! 4 bits   4 V: vector j has group j in the low nibbles, group j + 4 in the high nibbles
//! 5 bits   as 4 bits, then 1 V: bit g of a byte is bit 4 of the code of group g
//! 6 bits   as 4 bits, then 2 V: bits 2(g % 4) .. of vector g / 4 are bits 4-5 of the code of group g
//! 8 bits   8 V: vector g is group g
//! ```
//! Scales, and minimums if the format has them, are f16 in arrays `[tile][block][1 or 2 groups][tile_rows]`.
//! So a matrix takes as many bits per weight as its format, except that the short scales of K-quants are
//! multiplied out (Q4_K: 5 bits for 4.5, Q6_K: 7 for 6.56), codes of 2 and 3 bits are kept in 4, and codes
//! that index a table as its 8-bit values. Rows are padded to whole tiles.
//!
//! F32, F16 and BF16 keep their numbers, in tiles of two vectors of rows: `[tile][cols][tile_rows]`.

use crate::arena::{Arena, Piece, Zeroable};
use crate::isa::Kind;
use crate::memory::{LINE_BYTES, Level, prefetch};
use crate::quant::{Codes, Offset, Quant};
use crate::{DType, Isa};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Weights packed for one instruction set.
pub struct Matrix {
    pub(crate) isa: Isa,
    dtype: DType,
    rows: usize,
    cols: usize,
    tile_rows: usize,
    pub(crate) body: Body,
}

pub(crate) enum Body {
    F32(Piece<f32>),
    F16(Piece<f16>),
    BF16(Piece<bf16>),
    Quant(Packed),
}

/// The arrays of a quantized matrix, see the module docs.
pub(crate) struct Packed {
    pub(crate) quant: &'static Quant,
    codes: Piece<Line>,
    pub(crate) scales: Piece<f16>,
    /// Empty unless the format has minimums.
    pub(crate) mins: Piece<f16>,
}

impl Packed {
    pub(crate) fn codes(&self) -> &[u8] {
        // SAFETY: a `Line` is 64 initialized bytes without padding.
        unsafe { std::slice::from_raw_parts(self.codes.as_ptr().cast(), self.codes.len() * 64) }
    }
}

/// A cache line, so that no vector of codes crosses one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

// SAFETY: every pattern of bits is a value.
unsafe impl Zeroable for Line {}

/// Why a matrix cannot be packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// The row length does not suit the format.
    #[error("rows of {cols} values are not whole blocks of {block} as {} needs", dtype.name())]
    Columns {
        /// Values per row.
        cols: usize,
        /// Values per block.
        block: usize,
        /// The format.
        dtype: DType,
    },
    /// The bytes are more or fewer than the shape needs.
    #[error("{rows} x {cols} values in {} take {expected} bytes, found {found}", dtype.name())]
    Bytes {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// The format.
        dtype: DType,
        /// What the shape needs.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// A scale or minimum is finite, and too large for the f16 that a matrix keeps it in.
    #[error("row {row} has a scale or minimum beyond 65504 in {}, which is not supported; is the file damaged?", dtype.name())]
    Scale {
        /// The row.
        row: usize,
        /// The format.
        dtype: DType,
    },
    /// No rows or no columns.
    #[error("a matrix of {rows} x {cols} has no values")]
    Empty {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
    },
}

impl Matrix {
    /// Repacks the bytes of a weight file, `rows` rows of `cols` values in `dtype`, for the instruction set, into `arena`.
    ///
    /// # Errors
    /// [`PackError`] when the shape is empty, does not suit the format, or does not match the number of
    /// bytes; or when a scale is too large.
    pub fn pack(
        isa: Isa,
        arena: &Arena,
        dtype: DType,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Matrix, PackError> {
        if rows == 0 || cols == 0 {
            return Err(PackError::Empty { rows, cols });
        }
        if !cols.is_multiple_of(dtype.block_size()) {
            return Err(PackError::Columns { cols, block: dtype.block_size(), dtype });
        }
        let expected = dtype.row_bytes(cols).saturating_mul(rows);
        if bytes.len() != expected {
            return Err(PackError::Bytes { rows, cols, dtype, expected, found: bytes.len() });
        }
        let lanes = match isa.0 {
            Kind::Scalar => 8,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::AvxVnni { .. } => 8,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => 16,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon | Kind::NeonDot | Kind::NeonI8mm => 8,
        };
        let floats = Interleave { arena, rows, cols, tile_rows: 2 * lanes };
        let (tile_rows, body) = match (dtype, dtype.quant()) {
            (_, Some(quant)) => {
                (lanes, Body::Quant(pack_codes(arena, quant, dtype, rows, cols, lanes, bytes)?))
            }
            (DType::F16, None) => (2 * lanes, Body::F16(floats.pack(bytes, f16::from_le_bytes))),
            (DType::BF16, None) => (2 * lanes, Body::BF16(floats.pack(bytes, bf16::from_le_bytes))),
            (_, None) => (2 * lanes, Body::F32(floats.pack(bytes, f32::from_le_bytes))),
        };
        Ok(Matrix { isa, dtype, rows, cols, tile_rows, body })
    }

    /// Output rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs per row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The format the weights came in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Rows that one pass of a kernel computes: work is divided at multiples of this many rows. 8, 16 or 32.
    pub fn tile_rows(&self) -> usize {
        self.tile_rows
    }

    /// Size in memory: what a product with one row of activations reads.
    pub fn bytes(&self) -> usize {
        match &self.body {
            Body::F32(values) => values.len() * 4,
            Body::F16(values) => values.len() * 2,
            Body::BF16(values) => values.len() * 2,
            Body::Quant(packed) => packed.codes.len() * 64 + (packed.scales.len() + packed.mins.len()) * 2,
        }
    }

    /// Writes one row as f32, for embedding look-up. The values are those of the file, except that the
    /// product of the two scales of a K-quant is rounded to f16. Panics when the row or the length of `out`
    /// is wrong.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "a row has {} values", self.cols);
        let (tile, tile_row) = (row / self.tile_rows, row % self.tile_rows);
        let at = |col: usize| (tile * self.cols + col) * self.tile_rows + tile_row;
        match &self.body {
            Body::F32(values) => out.iter_mut().enumerate().for_each(|(col, out)| *out = values[at(col)]),
            Body::F16(values) => {
                out.iter_mut().enumerate().for_each(|(col, out)| *out = values[at(col)].to_f32())
            }
            Body::BF16(values) => {
                out.iter_mut().enumerate().for_each(|(col, out)| *out = values[at(col)].to_f32())
            }
            Body::Quant(packed) => {
                for (i, out) in out.chunks_exact_mut(32).enumerate() {
                    packed.dequantize(tile * (self.cols / 32) + i, tile_row, self.tile_rows, out);
                }
            }
        }
    }
}

impl Packed {
    /// The 32 values of one row of a block.
    fn dequantize(&self, block: usize, tile_row: usize, tile_rows: usize, out: &mut [f32]) {
        let vector = 4 * tile_rows;
        let bytes = vector * self.quant.bits as usize;
        let codes = &self.codes()[block * bytes..][..bytes];
        let groups = 32 / self.quant.group;
        for (i, out) in out.iter_mut().enumerate() {
            let code = code_at(codes, self.quant.bits, vector, i / 4, tile_row * 4 + i % 4);
            let at = (block * groups + i / self.quant.group) * tile_rows + tile_row;
            let scale = self.scales[at].to_f32();
            *out = match self.quant.offset {
                Offset::Zero(shift) => scale * (f32::from(code) - (1 << shift) as f32),
                Offset::Min => scale * f32::from(code) + self.mins[at].to_f32(),
            };
        }
    }
}

/// The code of group `group`, byte `byte` of its vector.
pub(crate) fn code_at(codes: &[u8], bits: u32, vector: usize, group: usize, byte: usize) -> u8 {
    if bits == 8 {
        return codes[group * vector + byte];
    }
    let low = codes[group % 4 * vector + byte] >> (group / 4 * 4) & 15;
    let high = match bits {
        5 => codes[4 * vector + byte] >> group & 1,
        6 => codes[(4 + group / 4) * vector + byte] >> (group % 4 * 2) & 3,
        _ => 0,
    };
    low | high << 4
}

/// Writes what [`code_at`] reads: one row's 32 codes into its four bytes of each vector of a block, all four
/// inputs of a group at once. A vector has the four bytes of each row of the tile.
fn put_codes(block: &mut [[u8; 4]], bits: u32, tile_rows: usize, tile_row: usize, codes: &[u8; 32]) {
    let (codes, _) = codes.as_chunks::<4>();
    let group = |g: usize| u32::from_le_bytes(codes[g]);
    let mut put = |v: usize, bytes: u32| block[v * tile_rows + tile_row] = bytes.to_le_bytes();
    if bits == 8 {
        (0..8).for_each(|g| put(g, group(g)));
        return;
    }
    for g in 0..4 {
        put(g, group(g) & 0x0f0f_0f0f | (group(g + 4) & 0x0f0f_0f0f) << 4);
    }
    let high = |g: usize| group(g) >> 4 & 0x0303_0303;
    match bits {
        5 => put(4, (0..8).fold(0, |all, g| all | high(g) << g)),
        6 => (0..2)
            .for_each(|half| put(4 + half, (0..4).fold(0, |all, g| all | high(4 * half + g) << (2 * g)))),
        _ => {}
    }
}

fn pack_codes(
    arena: &Arena,
    quant: &'static Quant,
    dtype: DType,
    rows: usize,
    cols: usize,
    tile_rows: usize,
    bytes: &[u8],
) -> Result<Packed, PackError> {
    let (tiles, blocks, groups) = (rows.div_ceil(tile_rows), cols / 32, 32 / quant.group);
    // In fours of bytes.
    let block_fours = tile_rows * quant.bits as usize;
    let tile_fours = blocks * block_fours;
    let tile_scales = blocks * groups * tile_rows;
    let tile_mins = if quant.offset == Offset::Min { tile_scales } else { 0 };
    let mut codes = arena.take::<Line>((tiles * tile_fours).div_ceil(16));
    let (mut scales, mut mins) = (arena.take(tiles * tile_scales), arena.take(tiles * tile_mins));
    // SAFETY: a `Line` is 64 initialized bytes, and every value of them is valid.
    let fours = unsafe { std::slice::from_raw_parts_mut(codes.as_mut_ptr().cast(), codes.len() * 16) };

    let row_bytes = dtype.row_bytes(cols);
    let parts = dtype.block_size() / 32;
    let mut unpacked = Codes::new();
    // Those of a tile; of rows that pad it they stay zero.
    let (mut exact_scales, mut exact_mins) = (vec![0.0; tile_scales], vec![0.0; tile_mins]);
    for (tile, tile_bytes) in bytes.chunks(tile_rows * row_bytes).enumerate() {
        let flat = &mut fours[tile * tile_fours..][..tile_fours];
        // They are zero already: in order, this brings them into the cache before they are written in another.
        flat.fill([0; 4]);
        // The rows of a tile are read side by side, which the processor does not see as going on in each.
        let next = bytes.get((tile + 1) * tile_rows * row_bytes..).unwrap_or_default();
        for line in next[..next.len().min(tile_rows * row_bytes)].chunks(LINE_BYTES) {
            prefetch(line.as_ptr(), Level::Second);
        }
        if tile + 1 == tiles {
            exact_scales.fill(0.0);
            exact_mins.fill(0.0);
        }
        // Block by block, all rows of the tile for each: what is written stays in the cache until it is
        // whole.
        for i in 0..blocks / parts {
            for (tile_row, row) in tile_bytes.chunks_exact(row_bytes).enumerate() {
                (quant.unpack)(&row[i * dtype.block_bytes()..][..dtype.block_bytes()], &mut unpacked);
                for part in 0..parts {
                    let block = i * parts + part;
                    let packed = &mut flat[block * block_fours..][..block_fours];
                    let codes = &unpacked.codes.as_chunks::<32>().0[part];
                    put_codes(packed, quant.bits, tile_rows, tile_row, codes);
                    for group in 0..groups {
                        let at = (block * groups + group) * tile_rows + tile_row;
                        exact_scales[at] = unpacked.scales[part * groups + group];
                        if let Some(min) = exact_mins.get_mut(at) {
                            *min = unpacked.mins[part * groups + group];
                        }
                    }
                }
            }
        }
        round(&exact_scales, &mut scales[tile * tile_scales..][..tile_scales])
            .and_then(|()| round(&exact_mins, &mut mins[tile * tile_mins..][..tile_mins]))
            .map_err(|at| PackError::Scale { row: tile * tile_rows + at % tile_rows, dtype })?;
    }
    Ok(Packed { quant, codes, scales, mins })
}

/// Numbers as the nearest f16. Where one is finite and its f16 is not, its index is the error.
fn round(exact: &[f32], rounded: &mut [f16]) -> Result<(), usize> {
    rounded.convert_from_f32_slice(exact);
    let beyond = |(half, exact): (&f16, &f32)| !half.is_finite() && exact.is_finite();
    rounded.iter().zip(exact).position(beyond).map_or(Ok(()), Err)
}

/// Turns row-major numbers into `[tile][cols][tile_rows]`, padded with zero rows.
struct Interleave<'a> {
    arena: &'a Arena,
    rows: usize,
    cols: usize,
    tile_rows: usize,
}

impl Interleave<'_> {
    fn pack<T: Zeroable, const BYTES: usize>(&self, bytes: &[u8], read: fn([u8; BYTES]) -> T) -> Piece<T> {
        let mut out = self.arena.take(self.rows.next_multiple_of(self.tile_rows) * self.cols);
        for (row, row_bytes) in bytes.chunks_exact(self.cols * BYTES).enumerate() {
            let tile =
                &mut out[row / self.tile_rows * self.cols * self.tile_rows..][..self.cols * self.tile_rows];
            for (col, value) in row_bytes.as_chunks::<BYTES>().0.iter().enumerate() {
                tile[col * self.tile_rows + row % self.tile_rows] = read(*value);
            }
        }
        out
    }
}

//! Rows of activations as 8-bit integers: what quantized matrices are multiplied with.
//!
//! Each 32 values share an f32 scale, `value ~ scale * code` with `scale = max |value| / 127`; beside it are
//! the sums of the codes, since a weight `s q + m` times an activation `a c` sums up to `s a (sum q c) + m a
//! (sum c)`.

use crate::lanes::{Reduce, ReduceKernel, run};
use crate::{Isa, Shared, Tile};
use std::ops::Range;

/// Values per scale.
pub const BLOCK: usize = 32;

/// A block of 32 activations; one row is one stream of them.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
#[repr(C)]
pub(crate) struct Block {
    pub(crate) codes: [i8; BLOCK],
    pub(crate) scale: f32,
    /// `scale` times the sum of the codes.
    pub(crate) sum: f32,
    /// The same for the first half of the block; the second half's is defined as `sum - first_sum`.
    pub(crate) first_sum: f32,
    /// Sum of the codes.
    pub(crate) total: i32,
}

/// Quantized rows `[rows][cols]`, reusable from call to call. Threads may fill disjoint rows at once.
pub struct Activations {
    blocks: Shared<Block>,
}

impl Default for Activations {
    fn default() -> Activations {
        Activations { blocks: Shared::new(0, 0) }
    }
}

impl Activations {
    /// Gives the buffer a shape, keeping its memory when that is large enough; the values are unspecified
    /// after. Panics unless `cols` is a multiple of 32.
    pub fn reshape(&mut self, rows: usize, cols: usize) {
        assert!(cols.is_multiple_of(BLOCK), "{cols} columns are not whole blocks of {BLOCK}");
        self.blocks.reshape(rows, cols / BLOCK);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.blocks.rows()
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.blocks.cols() * BLOCK
    }

    /// Quantizes `x`, whole rows `[rows.len()][cols]`, into the rows `rows`. A value that is not finite
    /// spoils its block (the products are unspecified), never memory. Panics when the shapes differ, or when
    /// another thread reads or writes one of these rows.
    pub fn quantize(&self, isa: Isa, rows: Range<usize>, x: &[f32]) {
        assert_eq!(x.len(), rows.len() * self.cols(), "values for {} rows of {}", rows.len(), self.cols());
        run(isa, Quantize { x, blocks: self.blocks.write_rows(rows).as_mut_slice() });
    }

    /// Writes the values of row `row`, `scale * code`. Panics when the row or the length of `out` is wrong,
    /// or when another thread writes the row.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols(), "a row has {} values", self.cols());
        let blocks = self.blocks.read_rows(row..row + 1);
        for (block, out) in blocks.as_slice().iter().zip(out.chunks_exact_mut(BLOCK)) {
            for (&code, out) in block.codes.iter().zip(out) {
                *out = block.scale * f32::from(code);
            }
        }
    }

    pub(crate) fn read(&self, rows: Range<usize>) -> Tile<'_, Block> {
        self.blocks.read_rows(rows)
    }
}

struct Quantize<'a> {
    x: &'a [f32],
    blocks: &'a mut [Block],
}

impl ReduceKernel for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Reduce>(self) {
        for (x, block) in self.x.chunks_exact(BLOCK).zip(self.blocks) {
            let mut largest = L::splat(0.0);
            for part in x.chunks_exact(L::N) {
                largest = L::load(part).abs().max(largest);
            }
            let largest = largest.max_lane();
            // Below this the reciprocal would overflow; such a block counts as zero.
            let (scale, inverse) =
                if largest > 1e-30 { (largest / 127.0, 127.0 / largest) } else { (0.0, 0.0) };
            // Sums of whole numbers are exact as floats.
            let mut totals = [L::splat(0.0); 2];
            for (index, (part, codes)) in
                x.chunks_exact(L::N).zip(block.codes.chunks_exact_mut(L::N)).enumerate()
            {
                let code = L::load(part).mul(L::splat(inverse)).round();
                code.store_i8(codes);
                let total = &mut totals[index * L::N / (BLOCK / 2)];
                *total = total.add(code);
            }
            let [first, second] = [totals[0].sum() as i32, totals[1].sum() as i32];
            block.total = first + second;
            (block.scale, block.sum, block.first_sum) =
                (scale, scale * block.total as f32, scale * first as f32);
        }
    }
}

//! Products of F32, F16 and BF16 matrices with f32 activations, accumulated in f32.
//!
//! A tile is two vectors of rows. Each output sums even and odd inputs apart, then adds the two: two chains
//! of fma per vector hide most of the latency when there is one row of activations.

use crate::lanes::{Kernel, Lanes, Number, run_wide};
use crate::{Matrix, Tile, TileMut};
use std::ops::Range;

/// Computes the rows `rows` of `out`, counted as in the whole buffer.
pub(super) fn product<T: Number>(
    matrix: &Matrix,
    weights: &[T],
    x: &Tile<'_, f32>,
    rows: Range<usize>,
    out: &mut TileMut<'_, f32>,
) {
    let (cols, tile_rows) = (out.cols(), matrix.tile_rows());
    assert_eq!(x.cols(), 0..matrix.cols(), "columns of the activations and of the matrix");
    assert!(
        x.rows().start <= rows.start && rows.end <= x.rows().end,
        "rows {rows:?} are not in {:?}",
        x.rows()
    );
    for tile in cols.start / tile_rows..cols.end.div_ceil(tile_rows) {
        let at = tile * tile_rows - cols.start;
        let out_cols = at..(at + tile_rows).min(cols.len());
        let weights = &weights[tile * matrix.cols() * tile_rows..][..matrix.cols() * tile_rows];
        run_wide(matrix.isa, TileProduct { weights, x, rows: rows.clone(), out, out_cols });
    }
}

struct TileProduct<'a, 'x, 'o, T> {
    weights: &'a [T],
    x: &'a Tile<'x, f32>,
    rows: Range<usize>,
    out: &'a mut TileMut<'o, f32>,
    out_cols: Range<usize>,
}

impl<T: Number> Kernel for TileProduct<'_, '_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        // Registers for the sums of six rows. Of seven and eight, four are taken: six would leave one or two.
        let wide = L::N == 16;
        let mut row = self.rows.start;
        while row < self.rows.end {
            row += match self.rows.end - row {
                1 => self.rows::<L, 1>(row),
                2 => self.rows::<L, 2>(row),
                4 | 5 | 7 | 8 if wide => self.rows::<L, 4>(row),
                6.. if wide => self.rows::<L, 6>(row),
                _ => self.rows::<L, 3>(row),
            };
        }
    }
}

impl<T: Number> TileProduct<'_, '_, '_, T> {
    /// Computes `R` rows of the tile from `row`: three fill the 16 registers of AVX2, six the 32 of AVX-512, where weights
    /// are converted once for all of them. Returns `R`.
    #[inline(always)]
    fn rows<L: Lanes, const R: usize>(&mut self, row: usize) -> usize {
        let x: [&[f32]; R] = std::array::from_fn(|r| self.x.row(row + r - self.x.rows().start));
        let mut acc = [[[L::splat(0.0); 2]; 2]; R];
        let pairs = x.map(|x| x.as_chunks::<2>().0);
        let count = pairs[0].len();
        // Slices of one known length, so that the loop has no bounds checks.
        let pairs = pairs.map(|pairs| &pairs[..count]);
        let mut tile = self.weights.chunks_exact(4 * L::N);
        for (k, weights) in (&mut tile).take(count).enumerate() {
            let (even, odd) = weights.split_at(2 * L::N);
            for (part, weights) in [even, odd].into_iter().enumerate() {
                let weights = [T::load::<L>(weights), T::load::<L>(&weights[L::N..])];
                for r in 0..R {
                    add(weights, pairs[r][k][part], &mut acc[r][part]);
                }
            }
        }
        if x[0].len() % 2 == 1 {
            let last = tile.remainder();
            let weights = [T::load::<L>(last), T::load::<L>(&last[L::N..])];
            for r in 0..R {
                add(weights, x[r][x[r].len() - 1], &mut acc[r][0]);
            }
        }
        for (r, [even, odd]) in acc.into_iter().enumerate() {
            let mut sums = [0f32; 32];
            for w in 0..2 {
                even[w].add(odd[w]).store(&mut sums[w * L::N..]);
            }
            let cols = self.out_cols.clone();
            let index = row + r - self.out.rows().start;
            self.out.row(index)[cols.clone()].copy_from_slice(&sums[..cols.len()]);
        }
        R
    }
}

/// Adds the products of one input. A function, as a closure that is called for six rows would not be inlined.
#[inline(always)]
fn add<L: Lanes>(weights: [L; 2], x: f32, acc: &mut [L; 2]) {
    let x = L::splat(x);
    for (weights, acc) in weights.into_iter().zip(acc) {
        *acc = weights.fma(x, *acc);
    }
}

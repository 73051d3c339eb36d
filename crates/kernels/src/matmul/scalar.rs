//! The portable kernel: the specification of the vector ones, bit for bit.

use super::Weights;
use crate::activations::Block;
use crate::matrix::code_at;
use crate::{Tile, TileMut};
use std::ops::Range;

const TILE_ROWS: usize = 8;

pub(super) fn tile<const BITS: usize, const GROUPS: usize, const ZERO: u32, const HAS_MIN: bool>(
    weights: Weights<'_>,
    x: &Tile<'_, Block>,
    out: &mut TileMut<'_, f32>,
    out_cols: Range<usize>,
) {
    let vector = 4 * TILE_ROWS;
    let first = x.rows().start - out.rows().start;
    for row in 0..x.rows().len() {
        let mut acc = [0f32; TILE_ROWS];
        for (i, block) in x.row(row).iter().enumerate() {
            let packed = &weights.codes[i * vector * BITS..][..vector * BITS];
            for group in 0..GROUPS {
                let inputs = group * 32 / GROUPS..(group + 1) * 32 / GROUPS;
                let sum = match (GROUPS, group) {
                    (1, _) => block.sum,
                    (_, 0) => block.first_sum,
                    _ => block.sum - block.first_sum,
                };
                for (tile_row, acc) in acc.iter_mut().enumerate() {
                    let product = |i: usize| {
                        let code = code_at(packed, BITS as u32, vector, i / 4, tile_row * 4 + i % 4);
                        i32::from(code) * i32::from(block.codes[i])
                    };
                    let n: i32 = inputs.clone().map(product).sum();
                    let at = (i * GROUPS + group) * TILE_ROWS + tile_row;
                    let scale = weights.scales[at].to_f32();
                    let n = if BITS == 8 { n - (block.total << ZERO) } else { n };
                    *acc = (n as f32).mul_add(scale * block.scale, *acc);
                    let min = match HAS_MIN {
                        true => weights.mins[at].to_f32(),
                        false => -scale * (1 << ZERO) as f32,
                    };
                    if BITS != 8 {
                        *acc = min.mul_add(sum, *acc);
                    }
                }
            }
        }
        out.row(first + row)[out_cols.clone()].copy_from_slice(&acc[..out_cols.len()]);
    }
}

//! The queries of a block: as they are, and as a format of pages wants them.

use crate::Tile;

/// Queries one after another, each of the rows' heads. Reusable.
#[derive(Default)]
pub(super) struct Queries {
    head_dim: usize,
    /// `[queries][head_dim]`.
    numbers: Vec<f32>,
    /// Codes of a word, and numbers of a block, as [`Queries::quantize`] was told.
    per_word: usize,
    block: usize,
    /// `[queries][head_dim / per_word]`, so many codes each.
    codes: Vec<i32>,
    /// `[queries][blocks]`.
    blocks: Vec<QueryBlock>,
}

/// Beside the codes of a block.
#[derive(Clone, Copy, Default)]
pub(super) struct QueryBlock {
    pub(super) scale: f32,
    /// Sum of the codes.
    pub(super) total: i32,
}

impl Queries {
    /// Takes over the numbers of all rows.
    pub(super) fn fill(&mut self, head_dim: usize, rows: &Tile<'_, f32>) {
        self.head_dim = head_dim;
        self.numbers.clear();
        (0..rows.rows().len()).for_each(|row| self.numbers.extend_from_slice(rows.row(row)));
    }

    /// The codes and the blocks of a query.
    #[inline(always)]
    pub(super) fn codes(&self, index: usize) -> (&[i32], &[QueryBlock]) {
        let (words, blocks) = (self.head_dim / self.per_word, self.head_dim.div_ceil(self.block));
        (&self.codes[index * words..][..words], &self.blocks[index * blocks..][..blocks])
    }

    /// Changes each query.
    #[inline(always)]
    pub(super) fn rotate(&mut self, rotate: impl Fn(&mut [f32])) {
        self.numbers.chunks_exact_mut(self.head_dim).for_each(rotate);
    }

    /// Makes the codes: `block` is called with the numbers of each block and where its codes go.
    #[inline(always)]
    pub(super) fn quantize(
        &mut self,
        of_block: usize,
        per_word: usize,
        block: impl Fn(&[f32], &mut [i32]) -> QueryBlock,
    ) {
        (self.block, self.per_word) = (of_block, per_word);
        let count = self.numbers.len() / self.head_dim;
        self.codes.resize(self.numbers.len() / per_word, 0);
        self.blocks.resize(count * self.head_dim.div_ceil(of_block), QueryBlock::default());
        let mut blocks = self.blocks.iter_mut();
        let queries = self.numbers.chunks_exact(self.head_dim);
        for (numbers, codes) in queries.zip(self.codes.chunks_exact_mut(self.head_dim / per_word)) {
            let of_codes = codes.chunks_mut(of_block / per_word);
            for ((numbers, codes), to) in numbers.chunks(of_block).zip(of_codes).zip(&mut blocks) {
                *to = block(numbers, codes);
            }
        }
    }
}

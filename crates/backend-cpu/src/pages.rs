//! The pool of key/value pages: one matrix with a row per (page, layer, key-value head), of words of 16 bits whatever the
//! format of the numbers: zeroed integers are memory that the system gives when it is first written.
//!
//! ```text
//! row = (page * layers + layer) * kv_heads + head        each `KvType::page_len` words
//! ```
//! so a page is one contiguous piece, and the heads of a layer are neighbours. Where layers attend to a window,
//! a page has the position of each of its slots too.

use crate::network::head_width;
use crate::options::{self, OpenError};
use backend::{BackendError, PageCopy, PageId};
use kernels::attention::KvType;
use kernels::{Isa, Shared, Tile, TileMut};
use model::Hyperparameters;

pub(crate) struct Pages {
    pool: Shared<u16>,
    /// `[pages][page_tokens]`; empty where no layer has a window.
    positions: Vec<u32>,
    kv_type: KvType,
    pages: u32,
    page_tokens: usize,
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
}

impl Pages {
    pub(crate) fn new(
        hyper: &Hyperparameters,
        kv_type: KvType,
        pages: u32,
        page_tokens: u32,
    ) -> Result<Pages, OpenError> {
        let page_bytes = options::page_bytes(hyper, kv_type, page_tokens);
        let page_tokens = page_tokens as usize;
        let (layers, kv_heads, head_dim) = (hyper.layers, hyper.kv_heads, head_width(hyper));
        let len = kv_type.page_len(head_dim, page_tokens);
        let words = (pages as usize).checked_mul(page_bytes / 2);
        // Allocated once for nothing, since `Shared` cannot fail.
        if words.is_none_or(|words| Vec::<u16>::new().try_reserve_exact(words).is_err()) {
            return Err(OpenError::Pool { pages, page_bytes });
        }
        let pool = Shared::new(pages as usize * layers * kv_heads, len);
        let slots = if hyper.windows().is_empty() { 0 } else { pages as usize * page_tokens };
        let positions = vec![0; slots];
        Ok(Pages { pool, positions, kv_type, pages, page_tokens, layers, kv_heads, head_dim })
    }

    /// The positions of the slots of a page; none where no layer has a window.
    pub(crate) fn positions(&mut self, page: PageId) -> &mut [u32] {
        let slots = if self.positions.is_empty() { 0 } else { self.page_tokens };
        &mut self.positions[page.0 as usize * slots..][..slots]
    }

    pub(crate) fn kv_type(&self) -> KvType {
        self.kv_type
    }

    pub(crate) fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    /// Everything, for reading; nothing may be written meanwhile.
    pub(crate) fn read(&self) -> Tile<'_, u16> {
        self.pool.read_rows(0..self.pool.rows())
    }

    /// The row of [`Pages::read`] that holds one head of one layer of a page.
    pub(crate) fn row(&self, page: PageId, layer: usize, head: usize) -> usize {
        (page.0 as usize * self.layers + layer) * self.kv_heads + head
    }

    /// One layer of a page, a row per head, for writing.
    pub(crate) fn write(&self, page: PageId, layer: usize) -> TileMut<'_, u16> {
        let first = self.row(page, layer, 0);
        self.pool.write_rows(first..first + self.kv_heads)
    }

    /// Stores the keys and values of one token, all heads of a layer.
    pub(crate) fn store(
        &self,
        isa: Isa,
        rows: &mut TileMut<'_, u16>,
        slot: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        let heads = keys.chunks_exact(self.head_dim).zip(values.chunks_exact(self.head_dim));
        for (head, (key, value)) in heads.enumerate() {
            self.kv_type.write(isa, rows.row(head), self.page_tokens, slot, key, value);
        }
    }

    pub(crate) fn copy(&mut self, copies: &[PageCopy]) -> Result<(), BackendError> {
        for copy in copies {
            self.check(copy.from)?;
            self.check(copy.to)?;
        }
        let len = self.page_len();
        let pool = self.pool.get_mut();
        for copy in copies {
            let from = copy.from.0 as usize * len;
            pool.copy_within(from..from + len, copy.to.0 as usize * len);
        }
        if !self.positions.is_empty() {
            let slots = self.page_tokens;
            for copy in copies {
                let from = copy.from.0 as usize * slots;
                self.positions.copy_within(from..from + slots, copy.to.0 as usize * slots);
            }
        }
        Ok(())
    }

    pub(crate) fn read_bytes(&mut self, page: PageId, bytes: &mut Vec<u8>) -> Result<(), BackendError> {
        bytes.extend(self.page(page)?.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(self.positions(page).iter().flat_map(|position| position.to_le_bytes()));
        Ok(())
    }

    pub(crate) fn write_bytes(&mut self, page: PageId, bytes: &[u8]) -> Result<(), BackendError> {
        self.check(page)?;
        let slots = self.positions(page).len();
        let words = self.page(page)?;
        let (found, expected) = (bytes.len(), 2 * words.len() + 4 * slots);
        if found != expected {
            let message = format!("page {} takes {expected} bytes, {found} are given", page.0);
            return Err(BackendError::InvalidBatch(message));
        }
        let (bytes, positions) = bytes.split_at(2 * words.len());
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *word = u16::from_le_bytes(*bytes);
        }
        for (position, bytes) in self.positions(page).iter_mut().zip(positions.as_chunks::<4>().0) {
            *position = u32::from_le_bytes(*bytes);
        }
        Ok(())
    }

    fn page(&mut self, page: PageId) -> Result<&mut [u16], BackendError> {
        self.check(page)?;
        let len = self.page_len();
        Ok(&mut self.pool.get_mut()[page.0 as usize * len..][..len])
    }

    fn page_len(&self) -> usize {
        self.layers * self.kv_heads * self.kv_type.page_len(self.head_dim, self.page_tokens)
    }

    fn check(&self, page: PageId) -> Result<(), BackendError> {
        match page.0 < self.pages {
            true => Ok(()),
            false => Err(BackendError::InvalidBatch(format!(
                "page {} is outside the pool of {}",
                page.0, self.pages
            ))),
        }
    }
}

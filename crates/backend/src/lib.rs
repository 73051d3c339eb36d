//! The contract of compute: the batches that a scheduler gives to a model, and the values that come back.
//!
//! Everything here is plain data, so a batch could be sent to another process unchanged. The backend owns numbered
//! *pages* of key/value memory and knows nothing about who uses them; the scheduler decides which page holds what.
//!
//! # Pages, slots and live masks
//!
//! A page has `page_tokens` *slots*; each slot holds the keys and values of one token for all layers. A sequence
//! reads its pages in order. Each [`PageSlots`] says with one bit per slot which tokens are *live*, that is, take
//! part in attention: a half-filled last page, a removed range and a slice are all just masks.
//!
//! ```text
//! sequence   pages[0]            pages[1]            pages[2]
//! slots      0 1 2 3 … 15        16 17 … 31          32 33 …
//! live       1 1 1 1 … 1          1  0 …  1           1  0 …    <- before this batch
//! rows                                                   r0 r1   <- written by this batch at slots 33, 34
//! ```
//!
//! A row attends to every live slot of its sequence and to the rows of the same sequence before it and itself. Of an
//! encoder ([`Limits::encoder`]) it attends to all rows of its sequence, which is a whole text then: its keys and values
//! mean nothing to any other row, so no sequence has live slots.
//!
//! # Batch invariance
//!
//! A backend promises that the numbers of a row depend only on the row's token, position, and the content and place
//! of the slots it attends to: not on the other sequences of the batch, nor on how its prompt was cut into batches.

mod batch;
mod counts;
mod fake;
mod output;

pub use batch::{AdapterId, Batch, EmbeddingRow, PageId, PageSlots, RowMask, SequenceSpan};
pub use counts::{TokenCount, TokenCounts, TokenOrigin};
pub use fake::{FakeBackend, FakeFault};
pub use output::{Output, OutputKind, OutputRequest, Sampled, SamplingParams, TokenLogProb, Value};

/// What a backend can hold and do in one batch. Fixed for its lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pages of key/value memory in the pool.
    pub pages: u32,
    /// Slots (tokens) of a page: a multiple of 8, at most 64.
    pub page_tokens: u32,
    /// Rows (tokens) of one batch.
    pub batch_tokens: u32,
    /// Sequences of one batch.
    pub batch_sequences: u32,
    /// Output requests of one row.
    pub row_outputs: u32,
    /// Output requests of one batch; at least those of one row.
    pub batch_outputs: u32,
    /// Values ([`OutputKind::values`]) that the outputs of one batch may have; at least those of one row.
    pub batch_output_values: u64,
    /// Entries of the vocabulary: token ids are below this.
    pub vocabulary: u32,
    /// Length of an embedding row and of a hidden row, in values.
    pub hidden: u32,
    /// Positions are below this (the model's trained context length).
    pub context_tokens: u32,
    /// Whether the model is an encoder: its rows attend to all rows of their sequence, those behind them too. So a text is
    /// computed in one batch and nothing of it is used again; its rows have no masks and no outputs but hidden ones.
    pub encoder: bool,
    /// Bytes of one page, as [`Backend::read_page`] gives them.
    pub page_bytes: usize,
}

/// Copies the whole content of one page to another: fork and copy on write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageCopy {
    /// Page read.
    pub from: PageId,
    /// Page overwritten.
    pub to: PageId,
}

/// A low-rank adapter (LoRA) for one weight matrix: `W x + scale * B (A x)`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraMatrix {
    /// Canonical name of the adapted weight, for instance `blk.3.attn_q.weight`.
    pub tensor: String,
    /// Rows of `a`, columns of `b`.
    pub rank: u32,
    /// `[rank][inputs]`, row-major.
    pub a: Vec<f32>,
    /// `[outputs][rank]`, row-major.
    pub b: Vec<f32>,
    /// `alpha / rank`.
    pub scale: f32,
}

/// Why a backend failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The batch breaks the contract; the scheduler has a defect.
    #[error("invalid batch: {0}")]
    InvalidBatch(String),
    /// The adapter does not fit the model.
    #[error("adapter: {0}")]
    Adapter(String),
    /// The computation itself failed (device lost, worker dead).
    #[error("backend failed: {0}")]
    Failed(String),
}

/// A model that computes. One thread calls it; it may use many inside.
pub trait Backend: Send {
    /// Sizes that every batch must respect.
    fn limits(&self) -> Limits;

    /// Tells that the calling thread makes all other calls and does nothing else of weight: it may be bound to a core. It
    /// need not be called. Default: nothing.
    fn own_thread(&mut self) {}

    /// Runs one batch: writes the keys and values of every row to its slot and answers every output request.
    ///
    /// `output` is cleared first; `output.values[i]` answers `batch.outputs[i]`.
    ///
    /// # Errors
    /// On any error no output is valid and the slots of the batch's rows hold nothing useful.
    fn run(&mut self, batch: &Batch, output: &mut Output) -> Result<(), BackendError>;

    /// Copies pages, in order, before the next batch.
    ///
    /// # Errors
    /// When a page number is outside the pool.
    fn copy_pages(&mut self, copies: &[PageCopy]) -> Result<(), BackendError>;

    /// Appends the page's bytes ([`Limits::page_bytes`]) to `bytes`: to spill or to save it.
    ///
    /// # Errors
    /// When the page number is outside the pool.
    fn read_page(&mut self, page: PageId, bytes: &mut Vec<u8>) -> Result<(), BackendError>;

    /// Overwrites a page with bytes that [`Backend::read_page`] gave.
    ///
    /// # Errors
    /// When the page number or the length is wrong.
    fn write_page(&mut self, page: PageId, bytes: &[u8]) -> Result<(), BackendError>;

    /// Embedding rows of tokens, appended to `rows` (`tokens.len() * hidden` values).
    ///
    /// # Errors
    /// When a token is outside the vocabulary.
    fn embed(&mut self, tokens: &[u32], rows: &mut Vec<f32>) -> Result<(), BackendError>;

    /// Makes an adapter usable in batches under `id`.
    ///
    /// # Errors
    /// When a matrix does not match a weight of the model; nothing is loaded then.
    fn load_adapter(&mut self, id: AdapterId, matrices: Vec<LoraMatrix>) -> Result<(), BackendError>;

    /// Forgets an adapter. Unknown ids are ignored.
    fn unload_adapter(&mut self, id: AdapterId);
}

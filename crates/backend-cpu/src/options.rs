//! How a backend is opened, and why it could not be.

use crate::network::head_width;
use kernels::attention::KvType;
use kernels::{DType, Isa, PackError};
use model::{HyperError, Hyperparameters};

/// What the caller decides about a [`crate::CpuBackend`].
#[derive(Clone, Debug)]
pub struct CpuOptions {
    /// Threads that compute, the one that calls [`backend::Backend::run`] among them. At least 1.
    pub threads: usize,
    /// Batches of up to this many multiplications are computed by one thread, whatever `threads` is: waking
    /// the others takes as long, and programs are waiting for a core. It changes no number.
    /// docs/performance.md has measurements.
    pub one_thread: u64,
    /// Whether threads keep to one core each: the others, and with all cores in use the one that calls, where it is the
    /// backend's own.
    pub pin: bool,
    /// Pages in the pool; [`crate::CpuBackend::page_bytes`] tells what one takes. Memory is taken when first
    /// written.
    pub pages: u32,
    /// Slots of a page: a multiple of 8, at most 64.
    pub page_tokens: u32,
    /// Most rows of a batch.
    pub batch_tokens: u32,
    /// Most sequences of a batch.
    pub batch_sequences: u32,
    /// The instruction set; `None` is the best that the CPU has.
    pub isa: Option<Isa>,
    /// Whether weights that are floats in the file become something smaller.
    pub quantize: Option<Quantize>,
    /// The format of keys and values in pages. It changes answers, and decides what [`crate::CpuBackend::page_bytes`] says.
    pub kv_cache_type: KvType,
}

impl Default for CpuOptions {
    /// One thread per core, but one in all for batches of 12 Mi multiplications (about 0.3 ms); 1024 pages of
    /// 16 slots, batches of 512 rows in 256 sequences.
    fn default() -> CpuOptions {
        CpuOptions {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            one_thread: 12 << 20,
            pin: true,
            pages: 1024,
            page_tokens: 16,
            batch_tokens: 512,
            batch_sequences: 256,
            isa: None,
            quantize: None,
            kv_cache_type: KvType::default(),
        }
    }
}

impl CpuOptions {
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let in_range = |what, found: u64, least: u64, most: u64| match (least..=most).contains(&found) {
            true => Ok(()),
            false => Err(OpenError::Option { what, found, least, most }),
        };
        in_range("threads", self.threads as u64, 1, 1024)?;
        in_range("pages", u64::from(self.pages), 1, u64::from(u32::MAX))?;
        in_range("page_tokens", u64::from(self.page_tokens), 8, 64)?;
        in_range("batch_tokens", u64::from(self.batch_tokens), 1, 1 << 16)?;
        in_range("batch_sequences", u64::from(self.batch_sequences), 1, 1 << 16)?;
        if !self.page_tokens.is_multiple_of(8) {
            return Err(OpenError::PageTokens { found: self.page_tokens });
        }
        Ok(())
    }
}

/// What matrices of floats become when they are loaded.
///
/// Vectors stay as they are (norms, biases), and so do matrices whose rows are not whole blocks, routers of experts, and
/// the rows of tokens and positions that are read from the file. An embedding matrix that is the output matrix too
/// becomes what that becomes. Weights that are quantized in the file stay in their format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quantize {
    /// 8 bits and a scale per 32 values: half the memory of F16, and nearly its answers.
    Q8_0,
}

impl Quantize {
    /// Every one.
    pub const ALL: [Quantize; 1] = [Quantize::Q8_0];

    /// Its name in settings, such as `q8_0`; the inverse of [`Quantize::from_name`].
    pub fn name(self) -> &'static str {
        match self {
            Quantize::Q8_0 => "q8_0",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Quantize> {
        Quantize::ALL.into_iter().find(|quantize| quantize.name() == name)
    }

    /// Whether rows of `cols` values in `dtype` are quantized.
    pub(crate) fn takes(self, dtype: DType, cols: usize) -> bool {
        match self {
            Quantize::Q8_0 => !dtype.is_quantized() && cols.is_multiple_of(DType::Q8_0.block_size()),
        }
    }
}

/// How far loading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of the weight files that are packed.
    pub done: u64,
    /// Bytes of all weights.
    pub total: u64,
}

/// Why a model cannot be run on this backend.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An option is outside of its range.
    #[error("{what} is {found}, it has to be from {least} to {most}")]
    Option {
        /// Name of the option.
        what: &'static str,
        /// What it was set to.
        found: u64,
        /// Least value.
        least: u64,
        /// Largest value.
        most: u64,
    },
    /// A page is not whole groups of 8 slots.
    #[error("page_tokens is {found}, it has to be a multiple of 8")]
    PageTokens {
        /// What it was set to.
        found: u32,
    },
    /// The weights are not those that the hyper-parameters were read with.
    #[error("the weights do not fit the hyper-parameters: {0}; were they read from the same file?")]
    Weights(#[from] HyperError),
    /// A tensor cannot be packed.
    #[error("`{name}` of layer {layer}: {source}")]
    Pack {
        /// Name of the part.
        name: &'static str,
        /// Its layer; 0 for parts of the whole model.
        layer: usize,
        /// Why.
        source: PackError,
    },
    /// The pool does not fit into memory.
    #[error("{pages} pages of {page_bytes} bytes cannot be allocated; ask for fewer pages")]
    Pool {
        /// Pages requested.
        pages: u32,
        /// Bytes of one.
        page_bytes: usize,
    },
    /// A head is too wide, or not whole groups of eight values where it has to be.
    #[error(
        "heads of {found} values are not supported: at most 256 are, and a multiple of 8 in quantized models and where all heads are normed together"
    )]
    HeadDim {
        /// Values per head.
        found: usize,
    },
    /// A thread cannot be started.
    #[error("a compute thread cannot be started: {0}; ask for fewer threads")]
    Threads(#[from] std::io::Error),
}

/// Bytes of one page: keys and values in their format, all layers; and where layers have a window, the positions of its
/// slots.
pub(crate) fn page_bytes(hyper: &Hyperparameters, kv_type: KvType, page_tokens: u32) -> usize {
    let page_tokens = page_tokens as usize;
    let words = hyper.layers * hyper.kv_heads * kv_type.page_len(head_width(hyper), page_tokens);
    let position = if hyper.windows().is_empty() { 0 } else { size_of::<u32>() };
    2 * words + position * page_tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_floats_in_whole_blocks_are_quantized() {
        for dtype in DType::all() {
            let found = [32, 576, 48].map(|cols| Quantize::Q8_0.takes(dtype, cols));
            assert_eq!(found, [!dtype.is_quantized(), !dtype.is_quantized(), false], "{dtype:?}");
        }
    }

    #[test]
    fn names_round_trip() {
        assert!(
            Quantize::ALL.into_iter().all(|quantize| Quantize::from_name(quantize.name()) == Some(quantize))
        );
        assert_eq!(Quantize::from_name("q4_0"), None);
    }
}

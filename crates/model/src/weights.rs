//! The tensors of a model under one naming, whatever files they come from.
//!
//! Names are those of GGUF: `token_embd.weight` and others for the model, `blk.N.attn_q.weight` and others for
//! its layers; `arch` has them all. A matrix has one row per output: `y[row] = sum w[row][col] x[col]`.
//! Where the parts of a model are in its tensors, [`crate::Hyperparameters::rows`] tells.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::Arc;

use kernels::DType;

use crate::data::Data;
use crate::gguf::Gguf;

/// The tensors of one model; cheap to clone, the bytes are shared.
#[derive(Debug, Clone)]
pub struct Weights {
    files: Arc<Vec<Arc<Data>>>,
    tensors: Arc<BTreeMap<String, TensorEntry>>,
}

/// Where one tensor is.
#[derive(Debug, Clone)]
pub(crate) struct TensorEntry {
    pub(crate) file: usize,
    pub(crate) dtype: DType,
    /// Slowest dimension first; one to four, none zero.
    pub(crate) shape: Vec<usize>,
    /// Checked against the file by its reader.
    pub(crate) range: Range<usize>,
    /// Whether the bytes have the dimensions of a matrix in the other order: a row per input.
    pub(crate) transposed: bool,
}

/// One tensor: how it is stored, and its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// How the values are stored.
    pub dtype: DType,
    /// The dimensions, slowest first; the last is the length of a row.
    pub shape: &'a [usize],
    /// Rows: the product of all dimensions but the last; 1 for a vector.
    pub rows: usize,
    /// Values per row.
    pub cols: usize,
    /// `rows` rows of `dtype.row_bytes(cols)` bytes each. Aligned to 32 bytes in usual GGUF files, but in
    /// other files perhaps to nothing at all, so read values with unaligned loads.
    pub bytes: &'a [u8],
    /// Whether the bytes are in another order: those of a row are `rows` values apart.
    pub transposed: bool,
}

impl Weights {
    /// `tensors` refer to `files` by index.
    pub(crate) fn new(files: Vec<Arc<Data>>, tensors: BTreeMap<String, TensorEntry>) -> Self {
        Self { files: Arc::new(files), tensors: Arc::new(tensors) }
    }

    /// The tensors of a GGUF file.
    pub fn from_gguf(gguf: &Gguf) -> Self {
        let tensors = gguf.tensors().iter().map(|tensor| {
            let entry = TensorEntry {
                file: 0,
                dtype: tensor.dtype,
                shape: tensor.shape.clone(),
                range: tensor.range.clone(),
                transposed: false,
            };
            (tensor.name.clone(), entry)
        });
        Self::new(vec![gguf.data().clone()], tensors.collect())
    }

    /// The tensor called `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        let entry = self.tensors.get(name)?;
        let (&cols, outer) = entry.shape.split_last().expect("a shape has at least one dimension");
        Some(Tensor {
            dtype: entry.dtype,
            shape: &entry.shape,
            rows: outer.iter().product(),
            cols,
            bytes: &self.files[entry.file][entry.range.clone()],
            transposed: entry.transposed,
        })
    }

    /// Whether there is a tensor called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Gives back the memory that reading the files has taken; see [`Data::release`].
    pub fn release(&self) {
        self.files.iter().for_each(|file| file.release(0..file.len()));
    }

    /// As [`Self::release`], of the tensors whose name starts with `prefix`: others are perhaps being read.
    pub fn release_tensors(&self, prefix: &str) {
        let from = self.tensors.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        for (_, entry) in from.take_while(|(name, _)| name.starts_with(prefix)) {
            self.files[entry.file].release(entry.range.clone());
        }
    }

    /// Bytes of all tensors together.
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(|entry| entry.range.len() as u64).sum()
    }

    /// Values of all tensors together: the parameter count of the model, shared embeddings counted once.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|entry| entry.shape.iter().map(|&n| n as u64).product::<u64>()).sum()
    }
}

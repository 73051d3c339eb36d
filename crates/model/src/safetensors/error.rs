//! What can be wrong with a model folder.

use std::io;
use std::path::PathBuf;

use crate::hyper::HyperError;

/// Why a model folder was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}; is the download complete?", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file is not the JSON it should be.
    #[error("`{}` is not valid: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The folder has pickled weights only. Reading them runs code of their author.
    #[error(
        "`{}` has its weights only as pickled files (.bin, .pt), which can run any code and are not read; use a version of the model in safetensors or GGUF",
        folder.display()
    )]
    Pickled {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder has no weights.
    #[error("`{}` has neither model.safetensors nor model.safetensors.index.json", folder.display())]
    NoWeights {
        /// The folder.
        folder: PathBuf,
    },
    /// A safetensors file does not hold together.
    #[error("`{}` is damaged: {source}; is the download complete?", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the library says.
        source: safetensors::SafeTensorError,
    },
    /// A tensor in a type that is not read.
    #[error(
        "tensor `{name}` is stored as {found}, expected F32, F16 or BF16; for quantized models use GGUF files"
    )]
    Dtype {
        /// Its name in the file.
        name: String,
        /// Its type.
        found: String,
    },
    /// A tensor without values.
    #[error("tensor `{name}` has shape {shape:?}, expected at least one dimension, and none of 0")]
    Shape {
        /// Its name in the file.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The architecture that config.json names is not supported.
    #[error(transparent)]
    Architecture(#[from] HyperError),
    /// A tensor name that the architecture does not have.
    #[error(
        "tensor `{name}` is not part of a {architecture} model as pie knows it; the model is a variant that is not supported"
    )]
    UnknownTensor {
        /// Its name in the file.
        name: String,
        /// The model's architecture.
        architecture: &'static str,
    },
    /// A tensor in two files, or under two names.
    #[error("tensor `{name}` occurs twice")]
    DuplicateTensor {
        /// Its name in the file.
        name: String,
    },
}

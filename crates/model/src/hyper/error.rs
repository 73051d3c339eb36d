//! What can be wrong with hyper-parameters.

use kernels::DType;

use crate::gguf::GgufError;

/// Why a model's hyper-parameters were refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HyperError {
    /// A metadata value of another type.
    #[error(transparent)]
    Metadata(#[from] GgufError),
    /// A model family that pie does not run.
    #[error("the model's architecture is `{found}`, which is not supported; supported are {supported}")]
    Architecture {
        /// What the file says.
        found: String,
        /// All names, with commas.
        supported: String,
    },
    /// A value that the file must have.
    #[error("the model's {place} has no `{key}`, which is needed; the file is incomplete")]
    Missing {
        /// Metadata or config.json.
        place: &'static str,
        /// The key.
        key: String,
    },
    /// A value in config.json of another type.
    #[error("`{key}` in config.json is `{found}`, expected {expected}")]
    ConfigType {
        /// The key.
        key: String,
        /// The value as JSON.
        found: String,
        /// The expected type in words.
        expected: &'static str,
    },
    /// A number outside of its limits.
    #[error("the {what} is {found}, expected {least} to {most}")]
    Range {
        /// Which number.
        what: &'static str,
        /// Its value.
        found: u64,
        /// Least value allowed.
        least: u64,
        /// Greatest value allowed.
        most: u64,
    },
    /// A number that must be positive and finite.
    #[error("the {what} is {found}, expected a positive number")]
    NotPositive {
        /// Which number.
        what: &'static str,
        /// Its value.
        found: f32,
    },
    /// Numbers that contradict each other.
    #[error("the model's numbers contradict each other: {what}")]
    Inconsistent {
        /// How.
        what: String,
    },
    /// A feature that changes the results and that no part of pie computes.
    #[error("the model uses {what}, which is not supported; {instead}")]
    Unsupported {
        /// The feature.
        what: String,
        /// The way out.
        instead: &'static str,
    },
    /// A tensor is missing.
    #[error("tensor `{name}` is missing; is the download complete, and are all shards there?")]
    MissingTensor {
        /// Its canonical name.
        name: String,
    },
    /// A tensor has another shape than the numbers say.
    #[error("tensor `{name}` has shape {found:?}, expected {expected:?} (slowest dimension first)")]
    TensorShape {
        /// Its canonical name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape by the hyper-parameters.
        expected: Vec<usize>,
    },
    /// A tensor that must be in 32-bit floats is not.
    #[error("tensor `{name}` is stored as {found:?}, expected F32")]
    TensorType {
        /// Its canonical name.
        name: String,
        /// How it is stored.
        found: DType,
    },
    /// A tensor that the architecture does not use, so that the results would be wrong without it.
    #[error(
        "tensor `{name}` is not part of a {architecture} model as pie knows it; the model is a variant that is not supported"
    )]
    UnknownTensor {
        /// Its canonical name.
        name: String,
        /// The model's architecture.
        architecture: &'static str,
    },
}

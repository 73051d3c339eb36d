//! A model at rest: its files, hyper-parameters, tokenizer, chat template and the format of its calls.
//!
//! Two file kinds, [`gguf`] and safetensors, are read into one set of [`Hyperparameters`] and one naming of
//! [`Weights`], so that a backend need not know which it was. Nothing here computes, and nothing reads the
//! environment or the clock: settings and time are arguments. Files come from strangers; whatever is wrong
//! with one is a typed error that says what to do, never a panic.

mod arch;
pub mod chat;
mod data;
pub mod formats;
pub mod gguf;
mod hyper;
mod json;
pub mod lora;
mod model;
pub mod safetensors;
pub mod test_model;
mod tokenizer;
mod weights;

pub use arch::{Architecture, Part};
pub use data::Data;
pub use hyper::{
    Activation, Experts, HyperError, Hyperparameters, LayerKind, NormKind, Placement, Pooling, QkNorm, Rope,
    RopePairing, Rows,
};
pub use model::{Model, OpenError};
pub use tokenizer::{SpecialTokens, TokenKind, Tokenizer, TokenizerError, Wanted};
pub use weights::{Tensor, Weights};

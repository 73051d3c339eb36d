//! Hyper-parameters: the numbers that turn a pile of tensors into a model.
//!
//! They come from GGUF metadata or from a `config.json`, are checked here once, against limits, each other
//! and the shapes of the tensors, and can then be relied on everywhere else.

mod config;
mod error;
mod gguf;
mod layout;
mod rope;

pub use error::HyperError;
pub use kernels::ops::RopePairing;

use crate::weights::Weights;

/// A model family that pie can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// Llama 1 to 3, SmolLM2, Mistral 7B and others with the same layers.
    Llama,
    /// Qwen 2 and 2.5: llama with biases on Q, K and V.
    Qwen2,
    /// Qwen 3: llama with a norm on each head of Q and K.
    Qwen3,
}

/// What distinguishes the architectures for this crate.
struct Spec {
    architecture: Architecture,
    /// `general.architecture` in GGUF.
    gguf: &'static str,
    /// `model_type` in config.json.
    model_types: &'static [&'static str],
    /// How rows of Q and K are ordered in GGUF files; safetensors files are always [`RopePairing::Neox`].
    gguf_pairing: RopePairing,
    qk_norm: bool,
}

const ARCHITECTURES: &[Spec] = &[
    Spec {
        architecture: Architecture::Llama,
        gguf: "llama",
        model_types: &["llama", "mistral"],
        gguf_pairing: RopePairing::Interleaved,
        qk_norm: false,
    },
    Spec {
        architecture: Architecture::Qwen2,
        gguf: "qwen2",
        model_types: &["qwen2"],
        gguf_pairing: RopePairing::Neox,
        qk_norm: false,
    },
    Spec {
        architecture: Architecture::Qwen3,
        gguf: "qwen3",
        model_types: &["qwen3"],
        gguf_pairing: RopePairing::Neox,
        qk_norm: true,
    },
];

impl Architecture {
    /// All architectures.
    pub fn all() -> impl Iterator<Item = Self> {
        ARCHITECTURES.iter().map(|spec| spec.architecture)
    }

    /// The name used in GGUF files and messages.
    pub fn name(self) -> &'static str {
        self.spec().gguf
    }

    fn spec(self) -> &'static Spec {
        ARCHITECTURES
            .iter()
            .find(|spec| spec.architecture == self)
            .expect("each architecture is in the table")
    }
}

/// The numbers of a model. Every count is at least 1 and checked against the shapes of the tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyperparameters {
    /// The family.
    pub architecture: Architecture,
    /// Transformer layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values per head; `heads * head_dim` need not be `hidden`.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Rows of the embedding matrix. May be more than the tokenizer's tokens, when padded.
    pub vocab: usize,
    /// Most positions the model was trained for; at most its attention window, within which attention to a
    /// window is attention to everything.
    pub context_length: usize,
    /// Base of the rotary frequencies: pair `i` turns by `position * theta^(-2 i / rope_dims) /
    /// rope_factors[i]`.
    pub rope_theta: f32,
    /// Leading values of each head that are rotated; even, at most `head_dim`.
    pub rope_dims: usize,
    /// Divisors of the rotary frequencies, `rope_dims / 2` of them; `None` is all 1. Llama 3 and linear
    /// scaling.
    pub rope_factors: Option<Vec<f32>>,
    /// Which values are rotated together, which also says how the rows of Q and K are ordered.
    pub rope_pairing: RopePairing,
    /// Epsilon of RMS norm.
    pub norm_eps: f32,
    /// Whether the output matrix is the embedding matrix; then there is no `output.weight`.
    pub tied_embeddings: bool,
    /// Whether there are `attn_q.bias`, `attn_k.bias` and `attn_v.bias`.
    pub attention_bias: bool,
    /// Whether there is an `attn_output.bias`.
    pub attention_output_bias: bool,
    /// Whether there are `attn_q_norm.weight` and `attn_k_norm.weight`, applied per head before the rotation.
    pub qk_norm: bool,
}

impl Hyperparameters {
    /// Values of K, and of V, per token and layer.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Values of Q per token and layer.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Checks that `weights` has each tensor that these hyper-parameters need, in the right shape, and no
    /// tensor that the architecture would ignore.
    ///
    /// # Errors
    /// The first tensor that is missing, has another shape, or is not known.
    pub fn check(&self, weights: &Weights) -> Result<(), HyperError> {
        layout::check(self, weights)
    }
}

/// Numbers as a file gives them, before they are checked.
struct Raw {
    spec: &'static Spec,
    layers: u64,
    hidden: u64,
    heads: u64,
    kv_heads: Option<u64>,
    head_dim: Option<u64>,
    ffn: u64,
    context_length: u64,
    rope_theta: f32,
    rope_dims: Option<u64>,
    rope_factors: rope::RopeScaling,
    rope_pairing: RopePairing,
    norm_eps: f32,
}

impl Raw {
    /// Checks every number and fills in what the tensors tell.
    fn resolve(self, weights: &Weights) -> Result<Hyperparameters, HyperError> {
        let layers = in_range("layer count", self.layers, 1, 4096)?;
        let hidden = in_range("hidden width", self.hidden, 1, 1 << 20)?;
        let heads = in_range("head count", self.heads, 1, 1 << 12)?;
        let kv_heads =
            in_range("key-value head count", self.kv_heads.unwrap_or(self.heads), 1, heads as u64)?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(HyperError::Inconsistent {
                what: format!("{heads} heads are no multiple of {kv_heads} key-value heads"),
            });
        }
        let head_dim = match self.head_dim {
            Some(found) => found,
            None if hidden.is_multiple_of(heads) => (hidden / heads) as u64,
            None => {
                return Err(HyperError::Inconsistent {
                    what: format!("hidden width {hidden} is no multiple of {heads} heads"),
                });
            }
        };
        let head_dim = in_range("head width", head_dim, 2, 1 << 12)?;
        let ffn = in_range("feed-forward width", self.ffn, 1, 1 << 22)?;
        let context_length = in_range("context length", self.context_length, 1, 1 << 30)?;
        let rope_dims =
            in_range("rotary width", self.rope_dims.unwrap_or(head_dim as u64), 2, head_dim as u64)?;
        if !rope_dims.is_multiple_of(2) {
            return Err(HyperError::Inconsistent { what: format!("the rotary width {rope_dims} is odd") });
        }
        let rope_theta = positive("rotary base", self.rope_theta)?;
        let norm_eps = positive("norm epsilon", self.norm_eps)?;
        let rope_factors = self.rope_factors.factors(weights, rope_theta, rope_dims)?;
        let embeddings = weights
            .get(layout::EMBEDDINGS)
            .ok_or_else(|| HyperError::MissingTensor { name: layout::EMBEDDINGS.to_owned() })?;
        let hyper = Hyperparameters {
            architecture: self.spec.architecture,
            layers,
            hidden,
            heads,
            kv_heads,
            head_dim,
            ffn,
            vocab: in_range("vocabulary size", embeddings.rows as u64, 1, 1 << 24)?,
            context_length,
            rope_theta,
            rope_dims,
            rope_factors,
            rope_pairing: self.rope_pairing,
            norm_eps,
            tied_embeddings: !weights.contains(layout::OUTPUT),
            attention_bias: weights.contains("blk.0.attn_q.bias"),
            attention_output_bias: weights.contains("blk.0.attn_output.bias"),
            qk_norm: self.spec.qk_norm,
        };
        hyper.check(weights)?;
        Ok(hyper)
    }
}

/// The positions that a model with a sliding attention window can take as if it had none: exact, while a
/// longer context would need the window. No window is 0 in some files.
fn within_window(context_length: u64, window: Option<u64>) -> u64 {
    window.filter(|&window| window > 0).map_or(context_length, |window| window.min(context_length))
}

/// A count inside of limits that keep every product of counts far from overflow.
fn in_range(what: &'static str, found: u64, least: u64, most: u64) -> Result<usize, HyperError> {
    if (least..=most).contains(&found) {
        Ok(found as usize)
    } else {
        Err(HyperError::Range { what, found, least, most })
    }
}

fn positive(what: &'static str, found: f32) -> Result<f32, HyperError> {
    if found.is_finite() && found > 0.0 { Ok(found) } else { Err(HyperError::NotPositive { what, found }) }
}

/// The names of all architectures, for messages.
fn supported() -> String {
    ARCHITECTURES.iter().map(|spec| spec.gguf).collect::<Vec<_>>().join(", ")
}

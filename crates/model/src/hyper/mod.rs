//! Hyper-parameters: the numbers that turn a pile of tensors into a model, and how its layers compute.
//!
//! They come from GGUF metadata or from a `config.json`, are checked here once, against limits, each other
//! and the shapes of the tensors, and can then be relied on everywhere else. What differs between
//! architectures is in their descriptions ([`crate::arch`]).

mod error;
mod read;
mod rope;
mod tensors;

pub use error::HyperError;
pub use kernels::ops::{Activation, RopePairing};
pub(crate) use read::{read_pooling, spec_of_config};
pub use rope::Rope;
pub use tensors::Rows;

use crate::arch::Architecture;

/// How a row is normed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Divided by the root of the mean square.
    Rms,
    /// Less its mean, divided by its standard deviation.
    Layer,
}

/// Where the norms of a layer's two branches (attention, feed-forward part) are. `x` is the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// `x + branch(norm(x))`.
    Before,
    /// `x + norm(branch(x))`.
    After,
    /// `x + norm(branch(norm(x)))`.
    Around,
    /// `norm(x + branch(x))`.
    Sum,
}

/// What the norms of Q and K look at, before the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head for itself.
    Head,
    /// The whole row.
    Row,
}

/// How a row for each token becomes one vector for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all rows.
    Mean,
    /// The first row.
    First,
    /// The last row.
    Last,
}

/// What distinguishes one layer from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerKind {
    /// The rotation of Q and K: a number of [`Hyperparameters::ropes`], or none.
    pub rope: Option<usize>,
    /// A row attends to this many positions, its own being the last; `None` is all.
    pub window: Option<u32>,
}

/// A feed-forward part that is a choice of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: usize,
    /// Those that a row goes through; at most `count`.
    pub used: usize,
    /// Whether the weights of those that are used are divided by their sum.
    pub normalized: bool,
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
    /// Width of the rows of tokens; other than `hidden` in few models, which have matrices between the two.
    pub embedding_width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values per head; `heads * head_dim` need not be `hidden`.
    pub head_dim: usize,
    /// Width of the feed-forward layer, or of one expert.
    pub ffn: usize,
    /// Rows of the embedding matrix. May be more than the tokenizer's tokens, when padded.
    pub vocab: usize,
    /// Most positions the model was trained for.
    pub context_length: usize,
    /// Whether the output matrix is the embedding matrix; then there is no `output.weight`.
    pub tied_embeddings: bool,

    /// How rows are normed.
    pub norm: NormKind,
    /// What is added to a mean square or variance before its root is taken.
    pub norm_eps: f32,
    /// What is added to the weights of norms: 1 where a file has them less 1.
    pub norm_offset: f32,
    /// Where the norms of a layer are.
    pub placement: Placement,
    /// Whether there is a norm after the last layer.
    pub output_norm: bool,
    /// The norms of Q and K, if there are any.
    pub qk_norm: Option<QkNorm>,

    /// Whether rows attend to all rows of their text, those behind them too, so that it is computed whole and gives hidden
    /// rows and no logits.
    pub encoder: bool,
    /// How the rows of a text become one vector, where the file says.
    pub pooling: Option<Pooling>,

    /// Rows of types of tokens, of which the first is added to each row of a token.
    pub token_types: Option<usize>,
    /// Whether these sums are normed before the first layer.
    pub embedding_norm: bool,
    /// Rows of positions are added to those of tokens; the number is the row of position 0.
    pub learned_positions: Option<usize>,
    /// The rotations that layers choose from.
    pub ropes: Vec<Rope>,
    /// Which values are rotated together, which also says how the rows of Q and K are ordered.
    pub rope_pairing: RopePairing,
    /// What distinguishes each layer, `layers` of them.
    pub kinds: Vec<LayerKind>,

    /// What inner values of the feed-forward part go through.
    pub activation: Activation,
    /// Whether it is `down(activation(gate x) * up x)`, and not `down(activation(up x))`.
    pub gated: bool,
    /// The experts, if the feed-forward part is a choice.
    pub experts: Option<Experts>,

    /// What rows of tokens are multiplied with.
    pub embedding_scale: f32,
    /// What a branch is multiplied with before it is added to the residual stream.
    pub residual_scale: f32,
    /// What scores of attention are multiplied with.
    pub attention_scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub score_cap: Option<f32>,
    /// What logits are multiplied with.
    pub logit_scale: f32,
    /// Logits become `cap * tanh(logit / cap)`.
    pub logit_cap: Option<f32>,
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

    /// The windows of all layers, each once, smallest first.
    pub fn windows(&self) -> Vec<u32> {
        let mut windows: Vec<u32> = self.kinds.iter().filter_map(|kind| kind.window).collect();
        windows.sort_unstable();
        windows.dedup();
        windows
    }

    /// Of so many layers the last has no window.
    pub(crate) fn attend_fully_each(&mut self, period: u64) {
        for (layer, kind) in (1..).zip(&mut self.kinds) {
            if u64::is_multiple_of(layer, period) {
                kind.window = None;
            }
        }
    }

    /// No layer rotates Q and K.
    fn without_rotation(&mut self) {
        self.ropes.clear();
        self.kinds.iter_mut().for_each(|kind| kind.rope = None);
    }
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

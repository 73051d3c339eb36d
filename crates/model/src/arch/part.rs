//! The weights that a model can have, their names and shapes. An architecture says in which tensors of its
//! files they are ([`super::TensorSpec`]); nothing else in pie knows the name or the shape of a tensor.

use crate::hyper::{Hyperparameters, Placement, QkNorm};

/// One weight of a model, or of each of its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Rows of tokens.
    Embedding,
    /// Rows of positions, which are added to those of tokens.
    Positions,
    /// Rows of types of tokens, of which the first is added to the row of each token.
    TokenTypes,
    /// Norm of these sums, before the first layer.
    EmbeddingNorm,
    /// From the width of embeddings to that of the layers.
    EmbeddingIn,
    /// Norm after the last layer.
    OutputNorm,
    /// From the width of the layers to that of embeddings.
    EmbeddingOut,
    /// From the last row to logits, unless that is [`Part::Embedding`].
    Output,
    /// Norm before attention; with [`Placement::Sum`] after its sum.
    AttentionNorm,
    /// To queries.
    Q,
    /// To keys.
    K,
    /// To values.
    V,
    /// Norm of queries.
    QNorm,
    /// Norm of keys.
    KNorm,
    /// From attended values to the residual stream.
    AttentionOutput,
    /// Norm of what attention adds to the residual stream.
    AttentionPostNorm,
    /// Norm before the feed-forward part; with [`Placement::Sum`] after its sum.
    FfnNorm,
    /// To what the gate lets through.
    Gate,
    /// To the inner values of the feed-forward part.
    Up,
    /// From inner values to the residual stream.
    Down,
    /// Norm of what the feed-forward part adds to the residual stream.
    FfnPostNorm,
    /// One row for each expert, whose product says how much it counts.
    Router,
    /// [`Part::Gate`] of all experts, one after the other.
    ExpertsGate,
    /// [`Part::Up`] of all experts, one after the other.
    ExpertsUp,
    /// [`Part::Down`] of all experts, one after the other.
    ExpertsDown,
}

/// Whole models, then layers, in the order of the forward pass.
const ALL: [Part; 25] = [
    Part::Embedding,
    Part::Positions,
    Part::TokenTypes,
    Part::EmbeddingNorm,
    Part::EmbeddingIn,
    Part::OutputNorm,
    Part::EmbeddingOut,
    Part::Output,
    Part::AttentionNorm,
    Part::Q,
    Part::K,
    Part::V,
    Part::QNorm,
    Part::KNorm,
    Part::AttentionOutput,
    Part::AttentionPostNorm,
    Part::FfnNorm,
    Part::Gate,
    Part::Up,
    Part::Down,
    Part::FfnPostNorm,
    Part::Router,
    Part::ExpertsGate,
    Part::ExpertsUp,
    Part::ExpertsDown,
];

impl Part {
    /// All parts.
    pub fn all() -> impl Iterator<Item = Self> {
        ALL.into_iter()
    }

    /// The name by which adapters address the part: that of GGUF, where it has a tensor of its own.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedding => "token_embd",
            Self::Positions => "position_embd",
            Self::TokenTypes => "token_types",
            Self::EmbeddingNorm => "token_embd_norm",
            Self::EmbeddingIn => "token_embd_in",
            Self::OutputNorm => "output_norm",
            Self::EmbeddingOut => "token_embd_out",
            Self::Output => "output",
            Self::AttentionNorm => "attn_norm",
            Self::Q => "attn_q",
            Self::K => "attn_k",
            Self::V => "attn_v",
            Self::QNorm => "attn_q_norm",
            Self::KNorm => "attn_k_norm",
            Self::AttentionOutput => "attn_output",
            Self::AttentionPostNorm => "post_attention_norm",
            Self::FfnNorm => "ffn_norm",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
            Self::FfnPostNorm => "post_ffw_norm",
            Self::Router => "ffn_gate_inp",
            Self::ExpertsGate => "ffn_gate_exps",
            Self::ExpertsUp => "ffn_up_exps",
            Self::ExpertsDown => "ffn_down_exps",
        }
    }

    /// Whether each layer has it, and not the model once.
    pub fn is_in_layers(self) -> bool {
        use Part::{Embedding, EmbeddingIn, EmbeddingOut, Output, OutputNorm, Positions};
        let of_layers =
            !matches!(self, Embedding | Positions | EmbeddingIn | OutputNorm | EmbeddingOut | Output);
        of_layers && !matches!(self, Self::TokenTypes | Self::EmbeddingNorm)
    }

    /// Whether it has rows for each expert.
    pub fn is_of_experts(self) -> bool {
        matches!(self, Self::ExpertsGate | Self::ExpertsUp | Self::ExpertsDown)
    }

    /// Whether the rows of the matrix are heads that are rotated, so that their order depends on
    /// [`crate::RopePairing`].
    pub fn is_rotated(self) -> bool {
        matches!(self, Self::Q | Self::K)
    }

    /// The shape of its weight, slowest dimension first; `None` when a model of these numbers has no such
    /// part. A bias has the first dimension alone.
    pub fn shape(self, hyper: &Hyperparameters) -> Option<Vec<usize>> {
        let (hidden, embedding, ffn) = (hyper.hidden, hyper.embedding_width, hyper.ffn);
        let (q, kv) = (hyper.q_width(), hyper.kv_width());
        let head_norm = |row: usize| match hyper.qk_norm {
            None => None,
            Some(QkNorm::Head) => Some(vec![hyper.head_dim]),
            Some(QkNorm::Row) => Some(vec![row]),
        };
        let (before, after) = match hyper.placement {
            Placement::Before | Placement::Sum => (true, false),
            Placement::After => (false, true),
            Placement::Around => (true, true),
        };
        let experts = hyper.experts.as_ref();
        let when = |holds: bool, shape: &[usize]| holds.then(|| shape.to_vec());
        match self {
            Self::Embedding => Some(vec![hyper.vocab, embedding]),
            Self::Positions => {
                hyper.learned_positions.map(|offset| vec![hyper.context_length + offset, hidden])
            }
            Self::TokenTypes => hyper.token_types.map(|types| vec![types, hidden]),
            Self::EmbeddingNorm => when(hyper.embedding_norm, &[hidden]),
            Self::EmbeddingIn => when(embedding != hidden, &[hidden, embedding]),
            Self::OutputNorm => when(hyper.output_norm, &[hidden]),
            Self::EmbeddingOut => when(embedding != hidden, &[embedding, hidden]),
            Self::Output => when(!hyper.tied_embeddings, &[hyper.vocab, embedding]),
            Self::AttentionNorm | Self::FfnNorm => when(before, &[hidden]),
            Self::AttentionPostNorm | Self::FfnPostNorm => when(after, &[hidden]),
            Self::Q => Some(vec![q, hidden]),
            Self::K | Self::V => Some(vec![kv, hidden]),
            Self::QNorm => head_norm(q),
            Self::KNorm => head_norm(kv),
            Self::AttentionOutput => Some(vec![hidden, q]),
            Self::Gate => when(hyper.gated && experts.is_none(), &[ffn, hidden]),
            Self::Up => when(experts.is_none(), &[ffn, hidden]),
            Self::Down => when(experts.is_none(), &[hidden, ffn]),
            Self::Router => experts.map(|experts| vec![experts.count, hidden]),
            Self::ExpertsGate | Self::ExpertsUp => experts.map(|e| vec![e.count, ffn, hidden]),
            Self::ExpertsDown => experts.map(|e| vec![e.count, hidden, ffn]),
        }
    }
}

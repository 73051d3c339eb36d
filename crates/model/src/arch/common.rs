//! Tensors and keys that many architectures have in common.

use super::{Keys, Part, TensorSpec, tensor};

/// The keys of llama's config.json, which most others have taken over.
pub(super) const LLAMA_KEYS: Keys = Keys {
    layers: "num_hidden_layers",
    hidden: "hidden_size",
    heads: "num_attention_heads",
    ffn: "intermediate_size",
    ffn_default: None,
    context_length: "max_position_embeddings",
    norm_eps: "rms_norm_eps",
    norm_eps_default: None,
    activation: "hidden_act",
};

/// Roots of names: `model.`, or none where the file is of the model without its output matrix.
pub(super) const ROOTS: &[&str] = &["model.", ""];

/// What is outside of the layers.
pub(super) const MODEL: &[TensorSpec] = &[
    tensor(&[Part::Embedding], "token_embd", "embed_tokens"),
    tensor(&[Part::OutputNorm], "output_norm", "norm"),
    tensor(&[Part::Output], "output", "lm_head"),
];

/// Norms before attention and the feed-forward part.
pub(super) const NORMS_BEFORE: &[TensorSpec] = &[
    tensor(&[Part::AttentionNorm], "attn_norm", "input_layernorm"),
    tensor(&[Part::FfnNorm], "ffn_norm", "post_attention_layernorm"),
];

/// Attention with a matrix each for Q, K and V.
pub(super) const ATTENTION: &[TensorSpec] = &[
    tensor(&[Part::Q], "attn_q", "self_attn.q_proj"),
    tensor(&[Part::K], "attn_k", "self_attn.k_proj"),
    tensor(&[Part::V], "attn_v", "self_attn.v_proj"),
    tensor(&[Part::AttentionOutput], "attn_output", "self_attn.o_proj"),
];

/// Norms of Q and K.
pub(super) const QK_NORMS: &[TensorSpec] = &[
    tensor(&[Part::QNorm], "attn_q_norm", "self_attn.q_norm"),
    tensor(&[Part::KNorm], "attn_k_norm", "self_attn.k_norm"),
];

/// A feed-forward part with a gate.
pub(super) const GATED: &[TensorSpec] = &[
    tensor(&[Part::Gate], "ffn_gate", "mlp.gate_proj"),
    tensor(&[Part::Up], "ffn_up", "mlp.up_proj"),
    tensor(&[Part::Down], "ffn_down", "mlp.down_proj"),
];

/// Tables of rotation, which are computed from the hyper-parameters.
pub(super) const IGNORED: &[&str] = &["self_attn.rotary_emb.inv_freq"];

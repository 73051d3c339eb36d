//! OPT: learned positions of which the first two mean nothing, layer norms with biases, ReLU without a gate.
//! The one of 350M norms sums instead of inputs, has no norm at the end, and embeddings of another width. No
//! GGUF files of OPT are known; the names there are those of the parts.

use super::common::LLAMA_KEYS;
use super::{Keys, Part, Spec, tensor};
use crate::hyper::{Activation, NormKind, Placement};
use kernels::ops::RopePairing;

pub(super) const SPEC: Spec = Spec {
    name: "opt",
    model_types: &["opt"],
    keys: Keys {
        ffn: "ffn_dim",
        norm_eps_default: Some(1e-5),
        activation: "activation_function",
        ..LLAMA_KEYS
    },
    gguf_pairing: RopePairing::Neox,
    norm: NormKind::Layer,
    rotates: false,
    activation: Activation::Relu,
    roots: &["model.decoder.", "decoder.", ""],
    layers: "layers.",
    tensors: &[&[
        tensor(&[Part::Embedding], "token_embd", "embed_tokens"),
        tensor(&[Part::Positions], "position_embd", "embed_positions"),
        tensor(&[Part::EmbeddingIn], "token_embd_in", "project_in"),
        tensor(&[Part::OutputNorm], "output_norm", "final_layer_norm"),
        tensor(&[Part::EmbeddingOut], "token_embd_out", "project_out"),
        tensor(&[Part::Output], "output", "lm_head"),
        tensor(&[Part::AttentionNorm], "attn_norm", "self_attn_layer_norm"),
        tensor(&[Part::Q], "attn_q", "self_attn.q_proj"),
        tensor(&[Part::K], "attn_k", "self_attn.k_proj"),
        tensor(&[Part::V], "attn_v", "self_attn.v_proj"),
        tensor(&[Part::AttentionOutput], "attn_output", "self_attn.out_proj"),
        tensor(&[Part::FfnNorm], "ffn_norm", "final_layer_norm"),
        tensor(&[Part::Up], "ffn_up", "fc1"),
        tensor(&[Part::Down], "ffn_down", "fc2"),
    ]],
    ignored: &[],
    describe: |reader, hyper| {
        hyper.gated = false;
        hyper.learned_positions = Some(2);
        if let Some(width) = reader.count("token_embedding_length", "word_embed_proj_dim")? {
            hyper.embedding_width = width as usize;
        }
        if reader.config_flag("do_layer_norm_before")? == Some(false) {
            hyper.placement = Placement::Sum;
        }
        let removed = reader.config_flag("_remove_final_layer_norm")? == Some(true);
        hyper.output_norm = hyper.placement == Placement::Before && !removed;
        Ok(())
    },
};

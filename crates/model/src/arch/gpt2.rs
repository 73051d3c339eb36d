//! GPT-2: learned positions, layer norms with biases, Q, K and V in one matrix, GELU without a gate. The
//! original's matrices have a row per input.

use super::common::LLAMA_KEYS;
use super::{Keys, Part, Spec, TensorSpec, tensor};
use crate::hyper::{Activation, HyperError, NormKind};
use kernels::ops::RopePairing;

pub(super) const SPEC: Spec = Spec {
    name: "gpt2",
    model_types: &["gpt2"],
    keys: Keys {
        layers: "n_layer",
        hidden: "n_embd",
        heads: "n_head",
        ffn: "n_inner",
        ffn_default: Some(4),
        context_length: "n_positions",
        norm_eps: "layer_norm_epsilon",
        activation: "activation_function",
        ..LLAMA_KEYS
    },
    gguf_pairing: RopePairing::Neox,
    norm: NormKind::Layer,
    rotates: false,
    activation: Activation::GeluTanh,
    roots: &["transformer.", ""],
    layers: "h.",
    tensors: &[&[
        tensor(&[Part::Embedding], "token_embd", "wte"),
        tensor(&[Part::Positions], "position_embd", "wpe"),
        tensor(&[Part::OutputNorm], "output_norm", "ln_f"),
        tensor(&[Part::Output], "output", "lm_head"),
        tensor(&[Part::AttentionNorm], "attn_norm", "ln_1"),
        transposed(&[Part::Q, Part::K, Part::V], "attn_qkv", "attn.c_attn"),
        transposed(&[Part::AttentionOutput], "attn_output", "attn.c_proj"),
        tensor(&[Part::FfnNorm], "ffn_norm", "ln_2"),
        transposed(&[Part::Up], "ffn_up", "mlp.c_fc"),
        transposed(&[Part::Down], "ffn_down", "mlp.c_proj"),
    ]],
    // Masks.
    ignored: &["attn.bias", "attn.masked_bias"],
    describe: |reader, hyper| {
        hyper.gated = false;
        hyper.learned_positions = Some(0);
        if reader.config_flag("scale_attn_weights")? == Some(false) {
            hyper.attention_scale = 1.0;
        }
        match reader.config_flag("scale_attn_by_inverse_layer_idx")? {
            Some(true) => Err(HyperError::Unsupported {
                what: "scores that are divided by the number of the layer".to_owned(),
                instead: "use a model without `scale_attn_by_inverse_layer_idx`",
            }),
            _ => Ok(()),
        }
    },
};

const fn transposed(parts: &'static [Part], gguf: &'static str, hugging_face: &'static str) -> TensorSpec {
    TensorSpec { transposed: true, ..tensor(parts, gguf, hugging_face) }
}

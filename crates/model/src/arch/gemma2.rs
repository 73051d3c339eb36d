//! Gemma 2: norms before and after each branch, GELU behind the gate, caps on scores and logits, and a window
//! in every other layer. Safetensors files have the weights of norms less 1.

use super::common::{ATTENTION, GATED, LLAMA_KEYS, MODEL, ROOTS};
use super::{Keys, Part, Reader, Spec, TensorSpec, llama, tensor};
use crate::hyper::{Activation, HyperError, Hyperparameters, Placement};
use kernels::ops::RopePairing;

pub(super) const SPEC: Spec = Spec {
    name: "gemma2",
    model_types: &["gemma2"],
    keys: Keys { activation: "hidden_activation", ..LLAMA_KEYS },
    gguf_pairing: RopePairing::Neox,
    activation: Activation::GeluTanh,
    roots: ROOTS,
    tensors: &[MODEL, NORMS, ATTENTION, GATED],
    describe: |reader, hyper| {
        describe(reader, hyper, 46)?;
        if reader.config_list("layer_types")?.is_none() {
            hyper.attend_fully_each(2);
        }
        Ok(())
    },
    ..llama::SPEC
};

/// Norms before and after each branch.
pub(super) const NORMS: &[TensorSpec] = &[
    tensor(&[Part::AttentionNorm], "attn_norm", "input_layernorm"),
    tensor(&[Part::AttentionPostNorm], "post_attention_norm", "post_attention_layernorm"),
    tensor(&[Part::FfnNorm], "ffn_norm", "pre_feedforward_layernorm"),
    tensor(&[Part::FfnPostNorm], "post_ffw_norm", "post_feedforward_layernorm"),
];

/// What all Gemmas have. GGUF files do not say what scores are divided by: the model of `layers_27b` layers has
/// heads of another width than that.
pub(super) fn describe(
    reader: &Reader<'_>,
    hyper: &mut Hyperparameters,
    layers_27b: usize,
) -> Result<(), HyperError> {
    hyper.placement = Placement::Around;
    hyper.norm_offset = if reader.is_gguf() { 0.0 } else { 1.0 };
    hyper.embedding_scale = (hyper.hidden as f32).sqrt();
    let gguf_scalar = match reader.is_gguf() && hyper.layers == layers_27b {
        true => (hyper.hidden / hyper.heads) as f32,
        false => hyper.head_dim as f32,
    };
    let scalar = reader.float("", "query_pre_attn_scalar")?.unwrap_or(gguf_scalar);
    hyper.attention_scale = 1.0 / scalar.sqrt();
    hyper.score_cap = reader.float("attn_logit_softcapping", "attn_logit_softcapping")?;
    hyper.logit_cap = reader.float("final_logit_softcapping", "final_logit_softcapping")?;
    Ok(())
}

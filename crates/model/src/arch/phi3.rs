//! Phi 3 and 4 mini: llama with Q, K and V in one matrix, and gate and inner values in another.

use super::common::{MODEL, NORMS_BEFORE};
use super::{Part, Spec, llama, tensor};
use kernels::ops::RopePairing;

pub(super) const SPEC: Spec = Spec {
    name: "phi3",
    model_types: &["phi3"],
    gguf_pairing: RopePairing::Neox,
    tensors: &[
        MODEL,
        NORMS_BEFORE,
        &[
            tensor(&[Part::Q, Part::K, Part::V], "attn_qkv", "self_attn.qkv_proj"),
            tensor(&[Part::AttentionOutput], "attn_output", "self_attn.o_proj"),
            tensor(&[Part::Gate, Part::Up], "ffn_up", "mlp.gate_up_proj"),
            tensor(&[Part::Down], "ffn_down", "mlp.down_proj"),
        ],
    ],
    ..llama::SPEC
};

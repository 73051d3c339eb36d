//! Qwen 3 with experts: each row of a layer goes through some of many feed-forward parts.

use super::common::{ATTENTION, LLAMA_KEYS, MODEL, NORMS_BEFORE, QK_NORMS};
use super::{Keys, Part, Spec, qwen3, tensor};
use crate::hyper::{Experts, HyperError};

pub(super) const SPEC: Spec = Spec {
    name: "qwen3moe",
    model_types: &["qwen3_moe"],
    keys: Keys { ffn: "moe_intermediate_size", ..LLAMA_KEYS },
    tensors: &[
        MODEL,
        NORMS_BEFORE,
        ATTENTION,
        QK_NORMS,
        &[
            tensor(&[Part::Router], "ffn_gate_inp", "mlp.gate"),
            tensor(&[Part::ExpertsGate], "ffn_gate_exps", "mlp.experts.*.gate_proj"),
            tensor(&[Part::ExpertsUp], "ffn_up_exps", "mlp.experts.*.up_proj"),
            tensor(&[Part::ExpertsDown], "ffn_down_exps", "mlp.experts.*.down_proj"),
        ],
    ],
    describe: |reader, hyper| {
        (qwen3::SPEC.describe)(reader, hyper)?;
        let sparse_step = reader.count("", "decoder_sparse_step")?.unwrap_or(1);
        let dense = reader.config_list("mlp_only_layers")?.is_some_and(|layers| !layers.is_empty());
        if sparse_step != 1 || dense {
            return Err(HyperError::Unsupported {
                what: "layers without experts among those with them".to_owned(),
                instead: "use a model with experts in all layers",
            });
        }
        // In GGUF files the usual key has the width of a feed-forward part without experts.
        if let Some(width) = reader.count("expert_feed_forward_length", "")? {
            hyper.ffn = width as usize;
        }
        let count = match reader.count("", "num_local_experts")? {
            Some(count) => count,
            None => reader.required("expert_count", "num_experts")?,
        };
        let used = reader.required("expert_used_count", "num_experts_per_tok")?;
        // GGUF files do not say; all known models do it.
        let normalized = reader.config_flag("norm_topk_prob")?.unwrap_or(reader.is_gguf());
        hyper.experts = Some(Experts { count: count as usize, used: used as usize, normalized });
        Ok(())
    },
    ..qwen3::SPEC
};

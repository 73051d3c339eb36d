//! Granite 3: llama with scales for embeddings, branches, scores and logits.

use super::{Spec, llama};

pub(super) const SPEC: Spec = Spec {
    name: "granite",
    model_types: &["granite"],
    describe: |reader, hyper| {
        if let Some(scale) = reader.float("embedding_scale", "embedding_multiplier")? {
            hyper.embedding_scale = scale;
        }
        if let Some(scale) = reader.float("residual_scale", "residual_multiplier")? {
            hyper.residual_scale = scale;
        }
        if let Some(scale) = reader.float("attention.scale", "attention_multiplier")? {
            hyper.attention_scale = scale;
        }
        // Logits are divided.
        if let Some(scale) = reader.float("logit_scale", "logits_scaling")? {
            hyper.logit_scale = 1.0 / scale;
        }
        Ok(())
    },
    ..llama::SPEC
};

//! Llama 1 to 3, SmolLM2, Mistral 7B: RMS norm, rotary attention with grouped heads, SwiGLU.

use super::Spec;
use crate::load::Loader;
use crate::network::{AttentionWeights, FeedForwardWeights, Layer};
use crate::options::OpenError;
use model::Architecture;

pub(super) const SPEC: Spec = Spec { architecture: Architecture::Llama, layer };

/// Biases are taken where the file has them: some Llama derivatives do.
pub(super) fn layer(load: &Loader<'_>, index: usize) -> Result<Layer, OpenError> {
    let hyper = load.hyper();
    let (q, kv, hidden, ffn) = (hyper.q_width(), hyper.kv_width(), hyper.hidden, hyper.ffn);
    let part = |name: &str| format!("blk.{index}.{name}");
    Ok(Layer {
        attention: AttentionWeights {
            norm: load.vector(&part("attn_norm.weight"), hidden)?,
            q: load.linear(&part("attn_q"), q, hidden)?,
            k: load.linear(&part("attn_k"), kv, hidden)?,
            v: load.linear(&part("attn_v"), kv, hidden)?,
            q_norm: None,
            k_norm: None,
            output: load.linear(&part("attn_output"), hidden, q)?,
        },
        feed_forward: FeedForwardWeights {
            norm: load.vector(&part("ffn_norm.weight"), hidden)?,
            gate: load.linear(&part("ffn_gate"), ffn, hidden)?,
            up: load.linear(&part("ffn_up"), ffn, hidden)?,
            down: load.linear(&part("ffn_down"), hidden, ffn)?,
        },
    })
}

//! Gemma 3, text: Gemma 2 without caps, with norms of the heads of Q and K, and a window in five of six layers,
//! which rotate with frequencies of their own.

use super::common::{ATTENTION, GATED, MODEL, QK_NORMS};
use super::{Spec, gemma2};
use crate::hyper::{QkNorm, Rope};

pub(super) const SPEC: Spec = Spec {
    name: "gemma3",
    model_types: &["gemma3_text"],
    tensors: &[MODEL, gemma2::NORMS, ATTENTION, QK_NORMS, GATED],
    describe: |reader, hyper| {
        gemma2::describe(reader, hyper, 62)?;
        hyper.qk_norm = Some(QkNorm::Head);
        let local: Vec<bool> = match reader.config_list("layer_types")? {
            Some(kinds) => kinds.iter().map(|kind| kind == "sliding_attention").collect(),
            None => {
                let period = reader.count("attention.sliding_window_pattern", "sliding_window_pattern")?;
                let period = period.filter(|&period| period > 0).unwrap_or(6);
                hyper.attend_fully_each(period);
                (1..=hyper.layers as u64).map(|layer| !layer.is_multiple_of(period)).collect()
            }
        };
        let parameters =
            reader.config_object("rope_parameters").and_then(|p| p.config_object("sliding_attention"));
        let nested = match parameters {
            Some(parameters) => parameters.float("", "rope_theta")?,
            None => None,
        };
        let theta =
            reader.float("rope.freq_base_swa", "rope_local_base_freq")?.or(nested).unwrap_or(10_000.0);
        hyper.ropes.push(Rope { theta, factors: None, scale: 1.0, ..hyper.ropes[0].clone() });
        for (kind, is_local) in hyper.kinds.iter_mut().zip(local) {
            kind.rope = Some(usize::from(is_local));
        }
        Ok(())
    },
    ..gemma2::SPEC
};

//! Hyper-parameters from GGUF metadata.

use super::rope::RopeScaling;
use super::{ARCHITECTURES, HyperError, Hyperparameters, Raw, supported, within_window};
use crate::gguf::Gguf;
use crate::weights::Weights;

impl Hyperparameters {
    /// Reads and checks the hyper-parameters of a GGUF file.
    ///
    /// # Errors
    /// An unknown architecture, a missing or impossible value, or tensors that do not fit.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, HyperError> {
        let found =
            gguf.get_str("general.architecture")?.ok_or_else(|| missing("general.architecture".into()))?;
        let spec = ARCHITECTURES
            .iter()
            .find(|spec| spec.gguf == found)
            .ok_or_else(|| HyperError::Architecture { found: found.to_owned(), supported: supported() })?;
        let key = |suffix: &str| format!("{}.{suffix}", spec.gguf);
        let optional = |suffix: &str| gguf.get_u64(&key(suffix));
        let required = |suffix: &str| optional(suffix)?.ok_or_else(|| missing(key(suffix)));

        if optional("expert_count")?.is_some_and(|count| count > 0) {
            return Err(HyperError::Unsupported {
                what: "a mixture of experts".to_owned(),
                instead: "use a dense model",
            });
        }
        let window = optional("attention.sliding_window")?;
        let raw = Raw {
            spec,
            layers: required("block_count")?,
            hidden: required("embedding_length")?,
            heads: required("attention.head_count")?,
            kv_heads: optional("attention.head_count_kv")?,
            head_dim: optional("attention.key_length")?,
            ffn: required("feed_forward_length")?,
            context_length: within_window(required("context_length")?, window),
            rope_theta: gguf.get_f32(&key("rope.freq_base"))?.unwrap_or(10_000.0),
            rope_dims: optional("rope.dimension_count")?,
            rope_factors: scaling(gguf, spec.gguf)?,
            rope_pairing: spec.gguf_pairing,
            norm_eps: gguf
                .get_f32(&key("attention.layer_norm_rms_epsilon"))?
                .ok_or_else(|| missing(key("attention.layer_norm_rms_epsilon")))?,
        };
        if let Some(value_length) = optional("attention.value_length")?
            && raw.head_dim.is_some_and(|key_length| key_length != value_length)
        {
            return Err(HyperError::Unsupported {
                what: format!("values of another width ({value_length}) than keys"),
                instead: "use a model with equal widths",
            });
        }
        raw.resolve(&Weights::from_gguf(gguf))
    }
}

fn scaling(gguf: &Gguf, architecture: &str) -> Result<RopeScaling, HyperError> {
    let kind = gguf.get_str(&format!("{architecture}.rope.scaling.type"))?;
    let factor = gguf.get_f32(&format!("{architecture}.rope.scaling.factor"))?;
    // Files of before 2023-11 have only this key, and it means linear scaling.
    let factor_old = gguf.get_f32(&format!("{architecture}.rope.scale_linear"))?;
    match (kind, factor.or(factor_old)) {
        (None | Some("linear"), Some(factor)) if factor != 1.0 => Ok(RopeScaling::Linear { factor }),
        (None | Some("linear" | "none"), _) => Ok(RopeScaling::None),
        (Some(found), _) => Err(HyperError::Unsupported {
            what: format!("rotary scaling of type `{found}`"),
            instead: "use a file converted without it, within the model's original context length",
        }),
    }
}

fn missing(key: String) -> HyperError {
    HyperError::Missing { place: "metadata", key }
}

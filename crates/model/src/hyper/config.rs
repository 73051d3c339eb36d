//! Hyper-parameters from a config.json of Hugging Face.

use serde_json::Value;

use super::rope::RopeScaling;
use super::{ARCHITECTURES, HyperError, Hyperparameters, Raw, RopePairing, supported, within_window};
use crate::weights::Weights;

impl Hyperparameters {
    /// Reads and checks the hyper-parameters of a model folder.
    ///
    /// # Errors
    /// An unknown architecture, a missing or impossible value, or tensors that do not fit.
    pub fn from_config(config: &Value, weights: &Weights) -> Result<Self, HyperError> {
        let found = string(config, "model_type")?.ok_or_else(|| missing("model_type"))?;
        let spec = ARCHITECTURES
            .iter()
            .find(|spec| spec.model_types.contains(&found))
            .ok_or_else(|| HyperError::Architecture { found: found.to_owned(), supported: supported() })?;
        let required = |key: &str| integer(config, key)?.ok_or_else(|| missing(key));
        // Qwen2 files have a window and a switch that is off; Mistral files have the window only.
        let uses_window = config.get("use_sliding_window").is_none_or(|switch| switch == &Value::Bool(true));
        let window = integer(config, "sliding_window")?.filter(|_| uses_window);
        let context_length = within_window(required("max_position_embeddings")?, window);
        if let Some(activation) = string(config, "hidden_act")?
            && activation != "silu"
        {
            return Err(HyperError::Unsupported {
                what: format!("the activation `{activation}`"),
                instead: "use a model with `silu`",
            });
        }
        if let Some(quantization) = config.get("quantization_config").filter(|value| !value.is_null()) {
            return Err(HyperError::Unsupported {
                what: format!("quantization by {}", quantization["quant_method"]),
                instead: "use the model unquantized, or as GGUF",
            });
        }
        // Newer files keep all about rotation in `rope_parameters`.
        let parameters = config.get("rope_parameters").unwrap_or(&Value::Null);
        let theta = float(config, "rope_theta")?.or(float(parameters, "rope_theta")?).unwrap_or(10_000.0);
        let scaling = config.get("rope_scaling").filter(|value| !value.is_null()).unwrap_or(parameters);
        Raw {
            spec,
            layers: required("num_hidden_layers")?,
            hidden: required("hidden_size")?,
            heads: required("num_attention_heads")?,
            kv_heads: integer(config, "num_key_value_heads")?,
            head_dim: integer(config, "head_dim")?,
            ffn: required("intermediate_size")?,
            context_length,
            rope_theta: theta,
            rope_dims: None,
            rope_factors: rope_scaling(scaling)?,
            rope_pairing: RopePairing::Neox,
            norm_eps: float(config, "rms_norm_eps")?.ok_or_else(|| missing("rms_norm_eps"))?,
        }
        .resolve(weights)
    }
}

fn rope_scaling(scaling: &Value) -> Result<RopeScaling, HyperError> {
    let kind = string(scaling, "rope_type")?.or(string(scaling, "type")?).unwrap_or("default");
    let required = |key: &str| float(scaling, key)?.ok_or_else(|| missing(&format!("rope_scaling.{key}")));
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: required("factor")? }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: required("factor")?,
            low_freq_factor: required("low_freq_factor")?,
            high_freq_factor: required("high_freq_factor")?,
            original_context: required("original_max_position_embeddings")?,
        }),
        found => Err(HyperError::Unsupported {
            what: format!("rotary scaling of type `{found}`"),
            instead: "remove `rope_scaling` from config.json to use the original context length",
        }),
    }
}

fn read<'a, T>(
    object: &'a Value,
    key: &str,
    expected: &'static str,
    convert: impl Fn(&'a Value) -> Option<T>,
) -> Result<Option<T>, HyperError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => convert(value).map(Some).ok_or_else(|| HyperError::ConfigType {
            key: key.to_owned(),
            found: value.to_string().chars().take(100).collect(),
            expected,
        }),
    }
}

fn integer(object: &Value, key: &str) -> Result<Option<u64>, HyperError> {
    read(object, key, "an integer that is not negative", Value::as_u64)
}

fn float(object: &Value, key: &str) -> Result<Option<f32>, HyperError> {
    read(object, key, "a number", |value| value.as_f64().map(|value| value as f32))
}

fn string<'a>(object: &'a Value, key: &str) -> Result<Option<&'a str>, HyperError> {
    read(object, key, "a string", Value::as_str)
}

fn missing(key: &str) -> HyperError {
    HyperError::Missing { place: "config.json", key: key.to_owned() }
}

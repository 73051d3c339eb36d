//! Hyper-parameters from a file: the numbers that all architectures have, then what the description of one
//! changes, then the checks.

use serde_json::Value;

use super::rope::{Rope, RopeScaling};
use super::{
    Activation, HyperError, Hyperparameters, LayerKind, Placement, Pooling, RopePairing, in_range, positive,
};
use crate::arch::{Architecture, Part, Reader, Spec};
use crate::gguf::Gguf;
use crate::weights::Weights;

impl Hyperparameters {
    /// Reads and checks the hyper-parameters of a GGUF file.
    ///
    /// # Errors
    /// An unknown architecture, a missing or impossible value, or tensors that do not fit.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, HyperError> {
        let hyper = Self::from_gguf_metadata(gguf)?;
        hyper.check(&Weights::from_gguf(gguf))?;
        Ok(hyper)
    }

    /// Like [`Self::from_gguf`], of a file that has no tensors yet but the rows of tokens, and the output
    /// matrix if it will have one: [`Self::tensors`] tells a writer of files what is to come.
    ///
    /// # Errors
    /// As [`Self::from_gguf`], but for the other tensors.
    pub fn from_gguf_metadata(gguf: &Gguf) -> Result<Self, HyperError> {
        let key = "general.architecture";
        let missing = || HyperError::Missing { place: "metadata", key: key.to_owned() };
        let spec = Spec::of_gguf(gguf.get_str(key)?.ok_or_else(missing)?)?;
        let reader = Reader::Gguf { gguf, prefix: spec.name };
        let (keys, values) =
            (reader.count("attention.key_length", "")?, reader.count("attention.value_length", "")?);
        if let (Some(key_length), Some(value_length)) = (keys, values)
            && key_length != value_length
        {
            return Err(HyperError::Unsupported {
                what: format!("values of another width ({value_length}) than keys"),
                instead: "use a model with equal widths",
            });
        }
        read(spec, &reader, spec.gguf_pairing, &Weights::from_gguf(gguf))
    }

    /// Reads and checks the hyper-parameters of a model folder.
    ///
    /// # Errors
    /// An unknown architecture, a missing or impossible value, or tensors that do not fit.
    pub fn from_config(config: &Value, weights: &Weights) -> Result<Self, HyperError> {
        let spec = spec_of_config(config)?;
        if let Some(quantization) = config.get("quantization_config").filter(|value| !value.is_null()) {
            return Err(HyperError::Unsupported {
                what: format!("quantization by {}", quantization["quant_method"]),
                instead: "use the model unquantized, or as GGUF",
            });
        }
        let hyper = read(spec, &Reader::Config(config), RopePairing::Neox, weights)?;
        hyper.check(weights)?;
        Ok(hyper)
    }
}

/// The architecture that a config.json names.
pub(crate) fn spec_of_config(config: &Value) -> Result<&'static Spec, HyperError> {
    let reader = Reader::Config(config);
    let found = reader.text("", "model_type")?;
    Spec::of_folder(found.ok_or_else(|| reader.missing("", "model_type"))?)
}

fn read(
    spec: &'static Spec,
    reader: &Reader<'_>,
    rope_pairing: RopePairing,
    weights: &Weights,
) -> Result<Hyperparameters, HyperError> {
    let keys = &spec.keys;
    let layers = in_range("layer count", reader.required("block_count", keys.layers)?, 1, 4096)?;
    let hidden = in_range("hidden width", reader.required("embedding_length", keys.hidden)?, 1, 1 << 20)?;
    let heads = in_range("head count", reader.required("attention.head_count", keys.heads)?, 1, 1 << 12)?;
    let kv_heads = reader.count("attention.head_count_kv", "num_key_value_heads")?;
    let kv_heads = in_range("key-value head count", kv_heads.unwrap_or(heads as u64), 1, heads as u64)?;
    if !heads.is_multiple_of(kv_heads) {
        let what = format!("{heads} heads are no multiple of {kv_heads} key-value heads");
        return Err(HyperError::Inconsistent { what });
    }
    let head_dim = match reader.count("attention.key_length", "head_dim")? {
        Some(found) => found,
        None if hidden.is_multiple_of(heads) => (hidden / heads) as u64,
        None => {
            let what = format!("hidden width {hidden} is no multiple of {heads} heads");
            return Err(HyperError::Inconsistent { what });
        }
    };
    let head_dim = in_range("head width", head_dim, 1, 1 << 12)?;
    let ffn_default = keys.ffn_default.map(|times| times * hidden as u64);
    let ffn = match reader.count("feed_forward_length", keys.ffn)?.or(ffn_default) {
        Some(found) => in_range("feed-forward width", found, 1, 1 << 22)?,
        None => return Err(reader.missing("feed_forward_length", keys.ffn)),
    };
    let context_length = reader.required("context_length", keys.context_length)?;
    let context_length = in_range("context length", context_length, 1, 1 << 30)?;
    let embeddings = Part::Embedding.name();
    let embeddings = weights
        .get(&format!("{embeddings}.weight"))
        .ok_or_else(|| HyperError::MissingTensor { name: format!("{embeddings}.weight") })?;
    let mut hyper = Hyperparameters {
        architecture: Architecture::of(spec),
        layers,
        hidden,
        embedding_width: hidden,
        heads,
        kv_heads,
        head_dim,
        ffn,
        vocab: in_range("vocabulary size", embeddings.rows as u64, 1, 1 << 24)?,
        context_length,
        tied_embeddings: !weights.contains(&format!("{}.weight", Part::Output.name())),
        norm: spec.norm,
        norm_eps: norm_eps(spec, reader)?,
        norm_offset: 0.0,
        placement: Placement::Before,
        output_norm: true,
        qk_norm: None,
        encoder: false,
        pooling: pooling(reader)?,
        token_types: None,
        embedding_norm: false,
        learned_positions: None,
        ropes: Vec::new(),
        rope_pairing,
        kinds: vec![LayerKind { rope: Some(0), window: None }; layers],
        activation: activation(spec, reader)?,
        gated: true,
        experts: None,
        embedding_scale: 1.0,
        residual_scale: 1.0,
        attention_scale: 1.0 / (head_dim as f32).sqrt(),
        score_cap: None,
        logit_scale: 1.0,
        logit_cap: None,
    };
    hyper.read_windows(reader)?;
    if spec.rotates {
        let rope = rope(reader, &mut hyper, weights)?;
        hyper.ropes.push(rope);
    } else {
        hyper.without_rotation();
    }
    (spec.describe)(reader, &mut hyper)?;
    hyper.check_numbers()?;
    Ok(hyper)
}

fn norm_eps(spec: &Spec, reader: &Reader<'_>) -> Result<f32, HyperError> {
    let key = match spec.norm {
        super::NormKind::Rms => "attention.layer_norm_rms_epsilon",
        super::NormKind::Layer => "attention.layer_norm_epsilon",
    };
    let default = spec.keys.norm_eps_default.filter(|_| !reader.is_gguf());
    let found = reader.float(key, spec.keys.norm_eps)?.or(default);
    positive("norm epsilon", found.ok_or_else(|| reader.missing(key, spec.keys.norm_eps))?)
}

/// GGUF files do not name the activation.
fn activation(spec: &Spec, reader: &Reader<'_>) -> Result<Activation, HyperError> {
    let Some(value) = reader.config_text(spec.keys.activation)? else { return Ok(spec.activation) };
    match value {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        found => Err(HyperError::Unsupported {
            what: format!("the activation `{found}`"),
            instead: "use a model with `silu`, `gelu`, `gelu_new`, `gelu_pytorch_tanh` or `relu`",
        }),
    }
}

/// How a GGUF file says that rows are pooled; a folder has a file of its own for it.
fn pooling(reader: &Reader<'_>) -> Result<Option<Pooling>, HyperError> {
    match reader.count("pooling_type", "")?.filter(|_| reader.is_gguf()) {
        // 4 is of a model with a head for scores: one that generates has none, and says how likely an answer is.
        None | Some(0 | 4) => Ok(None),
        Some(1) => Ok(Some(Pooling::Mean)),
        Some(2) => Ok(Some(Pooling::First)),
        Some(3) => Ok(Some(Pooling::Last)),
        Some(found) => Err(HyperError::Unsupported {
            what: format!("pooling of type {found}"),
            instead: "use a model whose rows are pooled by their mean, the first or the last one (1 to 3)",
        }),
    }
}

/// How sentence-transformers' `1_Pooling/config.json` says that rows are pooled.
///
/// # Errors
/// When it wants something that nothing here computes.
pub(crate) fn read_pooling(config: &Value) -> Result<Option<Pooling>, HyperError> {
    let modes = config.as_object().into_iter().flatten();
    let mut modes =
        modes.filter(|(key, value)| key.starts_with("pooling_mode_") && **value == Value::Bool(true));
    let (mode, more) = (modes.next().map(|(key, _)| key.as_str()), modes.next());
    match (mode, more) {
        (None, _) => Ok(None),
        (Some("pooling_mode_mean_tokens"), None) => Ok(Some(Pooling::Mean)),
        (Some("pooling_mode_cls_token"), None) => Ok(Some(Pooling::First)),
        (Some("pooling_mode_lasttoken"), None) => Ok(Some(Pooling::Last)),
        (Some(mode), more) => Err(HyperError::Unsupported {
            what: more.map_or(format!("`{mode}`"), |(other, _)| format!("`{mode}` and `{other}` together")),
            instead: "use a model whose rows are pooled by their mean, the first or the last one",
        }),
    }
}

/// The rotation that the file describes; the context ends where that does.
fn rope(reader: &Reader<'_>, hyper: &mut Hyperparameters, weights: &Weights) -> Result<Rope, HyperError> {
    // Newer config.json files keep all about rotation in `rope_parameters`.
    let parameters = reader.config_object("rope_parameters");
    // Where layers with a window have others, those of the rest are meant.
    let parameters = parameters.map(|all| all.config_object("full_attention").unwrap_or(all));
    let parameter = |key: &str| match &parameters {
        Some(parameters) => parameters.float("", key),
        None => Ok(None),
    };
    let theta =
        reader.float("rope.freq_base", "rope_theta")?.or(parameter("rope_theta")?).unwrap_or(10_000.0);
    let share = reader.float("", "partial_rotary_factor")?.or(parameter("partial_rotary_factor")?);
    let dims = match reader.count("rope.dimension_count", "")? {
        Some(dims) => dims,
        None => (hyper.head_dim as f32 * share.unwrap_or(1.0)) as u64,
    };
    let dims = in_range("rotary width", dims, 2, hyper.head_dim as u64)?;
    if !dims.is_multiple_of(2) {
        return Err(HyperError::Inconsistent { what: format!("the rotary width {dims} is odd") });
    }
    let theta = positive("rotary base", theta)?;
    let scaling = match reader.config_object("rope_scaling").or(parameters) {
        Some(scaling) => RopeScaling::from_config(&scaling, reader)?,
        None => RopeScaling::from_gguf(reader, weights, dims)?,
    };
    if let Some(most) = scaling.context() {
        let most = in_range("original context length", most, 1, 1 << 30)?;
        hyper.context_length = hyper.context_length.min(most);
    }
    scaling.rope(weights, theta, dims)
}

impl Hyperparameters {
    /// Which layers have a window: all, or those that config.json lists.
    fn read_windows(&mut self, reader: &Reader<'_>) -> Result<(), HyperError> {
        let kinds = reader.config_list("layer_types")?;
        if let Some(kinds) = kinds
            && kinds.len() != self.layers
        {
            let what = format!("`layer_types` has {} entries for {} layers", kinds.len(), self.layers);
            return Err(HyperError::Inconsistent { what });
        }
        // Qwen2 files have a window and a switch that is off; Mistral files have the window only.
        let is_off = reader.config_flag("use_sliding_window")? == Some(false);
        let window = reader.count("attention.sliding_window", "sliding_window")?;
        // No window is 0 in some files.
        let Some(window) = window.filter(|&window| window > 0 && !is_off) else { return Ok(()) };
        let first = reader.count("", "max_window_layers")?.filter(|_| kinds.is_none()).unwrap_or(0);
        for index in 0..self.layers {
            let listed = match kinds {
                Some(kinds) => kinds[index] == "sliding_attention",
                None => index as u64 >= first,
            };
            self.set_window(index, listed.then_some(window));
        }
        Ok(())
    }

    /// Gives a layer a window; one that reaches over the whole context is none.
    pub(crate) fn set_window(&mut self, layer: usize, window: Option<u64>) {
        let window = window.filter(|&window| window > 0 && window < self.context_length as u64);
        self.kinds[layer].window = window.map(|window| window as u32);
    }

    /// What the description of an architecture has read.
    fn check_numbers(&self) -> Result<(), HyperError> {
        in_range("embedding width", self.embedding_width as u64, 1, 1 << 20)?;
        in_range("count of token types", self.token_types.unwrap_or(1) as u64, 1, 1 << 16)?;
        for (what, number) in [
            ("embedding scale", self.embedding_scale),
            ("residual scale", self.residual_scale),
            ("attention scale", self.attention_scale),
            ("logit scale", self.logit_scale),
            ("cap of scores", self.score_cap.unwrap_or(1.0)),
            ("cap of logits", self.logit_cap.unwrap_or(1.0)),
        ] {
            positive(what, number)?;
        }
        if let Some(experts) = self.experts {
            in_range("expert count", experts.count as u64, 1, 1 << 12)?;
            in_range("count of experts used", experts.used as u64, 1, experts.count as u64)?;
        }
        Ok(())
    }
}

//! Low-rank adapters (LoRA) at rest: PEFT's two files, and GGUF files of type `adapter`.
//!
//! An adapter changes a weight to `W + scale * B A`, with `A` of shape `[rank][inputs]` and `B` of
//! `[outputs][rank]`. Formats: PEFT's `adapter_config.json` and `adapter_model.safetensors`; llama.cpp's
//! `convert_lora_to_gguf`.

use std::collections::BTreeMap;

use kernels::DType;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde::Deserialize;

use crate::arch::{Part, TensorSpec};
use crate::gguf::Gguf;
use crate::{Hyperparameters, RopePairing, Wanted, Weights};

/// An adapter, by canonical tensor name (`blk.0.attn_q.weight`).
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// The matrices.
    pub pairs: BTreeMap<String, LoraPair>,
}

/// The two matrices of one weight.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraPair {
    /// Rows of `a`, columns of `b`.
    pub rank: u32,
    /// `[rank][inputs]`, row-major.
    pub a: Vec<f32>,
    /// `[outputs][rank]`, row-major.
    pub b: Vec<f32>,
    /// What the product is multiplied by.
    pub scale: f32,
}

/// Why bytes are not an adapter.
#[derive(Debug, thiserror::Error)]
pub enum LoraError {
    /// The container cannot be read.
    #[error("the adapter's file cannot be read: {0}")]
    File(String),
    /// The configuration lacks something or asks for what is not supported.
    #[error("the adapter's configuration: {0}")]
    Config(String),
    /// A tensor's name, type or shape.
    #[error("adapter tensor `{name}`: {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// No pair of matrices at all.
    #[error("the adapter holds no pair of lora_A and lora_B matrices")]
    Empty,
    /// It is not wanted any more.
    #[error("the adapter is not wanted any more")]
    Stopped,
}

/// What is used of `adapter_config.json`.
#[derive(Deserialize)]
struct PeftConfig {
    #[serde(default)]
    peft_type: Option<String>,
    r: u32,
    lora_alpha: f32,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
}

/// Values that are read between two questions whether the adapter is still wanted, some milliseconds.
const VALUES: usize = 1 << 20;

/// A matrix as read: rows, columns, values.
type Matrix = (usize, usize, Vec<f32>);

/// Reads PEFT's files. `hyper` is the model's: its weight file may hold the rows of queries and keys in
/// another order than PEFT's, which is put right here. It is read for as long as it is wanted.
///
/// # Errors
/// When the files are damaged, use a feature other than plain LoRA, or name layers that are not adapted here; when it is
/// not wanted any more.
pub fn read_peft(
    config: &str,
    tensors: &[u8],
    hyper: &Hyperparameters,
    wanted: Wanted<'_>,
) -> Result<Lora, LoraError> {
    let config: PeftConfig = serde_json::from_str(config).map_err(|e| LoraError::Config(e.to_string()))?;
    if config.peft_type.as_deref().is_some_and(|kind| kind != "LORA")
        || config.use_dora
        || config.fan_in_fan_out
    {
        let reason = "expected peft_type LORA without use_dora and fan_in_fan_out";
        return Err(LoraError::Config(reason.into()));
    }
    if config.r == 0 {
        return Err(LoraError::Config("r is 0: expected at least 1".into()));
    }
    let rank = config.r as f32;
    let scale = config.lora_alpha / if config.use_rslora { rank.sqrt() } else { rank };
    let file = SafeTensors::deserialize(tensors).map_err(|e| LoraError::File(e.to_string()))?;
    let mut halves = Halves::default();
    for (name, view) in file.tensors() {
        let wrong = |reason: String| LoraError::Tensor { name: name.clone(), reason };
        let (layer, tensor, half) = peft_name(&name, hyper)
            .ok_or_else(|| wrong("not a LoRA matrix of an attention or feed-forward projection".into()))?;
        let (rows, cols, values) = matrix(&name, &view, wanted)?;
        let heights = tensor.parts.iter().map(|part| part.shape(hyper).map_or(0, |shape| shape[0]));
        let total: usize = heights.clone().sum();
        if matches!(half, Half::B) && rows != total {
            return Err(wrong(format!("{rows} rows: expected {total}, one for each output")));
        }
        // Parts that share a matrix share A, and have rows of B each.
        let mut first = 0;
        for (part, height) in tensor.parts.iter().zip(heights) {
            let address = format!("blk.{layer}.{}.weight", part.name());
            let piece = match half {
                Half::A => (rows, cols, values.clone()),
                Half::B => (height, cols, values[first * cols..(first + height) * cols].to_vec()),
            };
            halves.insert(address, half, piece);
            first += height;
        }
    }
    let mut lora = halves.join(|_| scale)?;
    if hyper.rope_pairing == RopePairing::Interleaved {
        let rotated: Vec<String> = Part::all()
            .filter(|part| part.is_rotated())
            .map(|part| format!(".{}.weight", part.name()))
            .collect();
        for (name, pair) in &mut lora.pairs {
            if rotated.iter().any(|end| name.ends_with(end)) {
                interleave(pair, hyper.head_dim);
            }
        }
    }
    Ok(lora)
}

/// Reads a GGUF adapter, for as long as it is wanted. Its rows are in the order of a GGUF model of the same architecture.
///
/// # Errors
/// When the file is damaged or no adapter; when it is not wanted any more.
pub fn read_gguf(bytes: &[u8], wanted: Wanted<'_>) -> Result<Lora, LoraError> {
    let gguf = Gguf::parse(bytes.to_vec()).map_err(|e| LoraError::File(e.to_string()))?;
    let text = |key: &str| gguf.get_str(key).ok().flatten().unwrap_or_default().to_string();
    if text("general.type") != "adapter" || text("adapter.type") != "lora" {
        let found =
            format!("general.type `{}`, adapter.type `{}`", text("general.type"), text("adapter.type"));
        return Err(LoraError::Config(format!(
            "expected general.type `adapter`, adapter.type `lora`; found {found}"
        )));
    }
    let alpha = gguf.get_f32("adapter.lora.alpha").ok().flatten();
    let alpha = alpha.ok_or_else(|| LoraError::Config("`adapter.lora.alpha` is missing".into()))?;
    let weights = Weights::from_gguf(&gguf);
    let mut halves = Halves::default();
    for name in weights.names() {
        let wrong = |reason: &str| LoraError::Tensor { name: name.to_string(), reason: reason.to_string() };
        let split = name.strip_suffix(".lora_a").map(|n| (n, Half::A));
        let split = split.or_else(|| name.strip_suffix(".lora_b").map(|n| (n, Half::B)));
        let (tensor, half) =
            split.ok_or_else(|| wrong("expected a name that ends with .lora_a or .lora_b"))?;
        let view = weights.get(name).ok_or_else(|| wrong("missing"))?;
        let values = values(view.dtype, view.bytes, view.rows, view.cols, wanted)?;
        halves.insert(tensor.to_string(), half, (view.rows, view.cols, values));
    }
    // llama.cpp divides by the rank where alpha is set, and takes 1 where it is 0.
    halves.join(|rank| if alpha == 0.0 { 1.0 } else { alpha / rank as f32 })
}

#[derive(Clone, Copy)]
enum Half {
    A,
    B,
}

#[derive(Default)]
struct Halves(BTreeMap<String, (Option<Matrix>, Option<Matrix>)>);

impl Halves {
    fn insert(&mut self, tensor: String, half: Half, matrix: Matrix) {
        let entry = self.0.entry(tensor).or_default();
        match half {
            Half::A => entry.0 = Some(matrix),
            Half::B => entry.1 = Some(matrix),
        }
    }

    fn join(self, scale: impl Fn(usize) -> f32) -> Result<Lora, LoraError> {
        let mut pairs = BTreeMap::new();
        for (name, halves) in self.0 {
            let wrong = |reason: String| LoraError::Tensor { name: name.clone(), reason };
            let (Some((rank, _, a)), Some((_, columns, b))) = halves else {
                return Err(wrong("one of lora_A and lora_B is missing".into()));
            };
            if rank != columns || rank == 0 {
                return Err(wrong(format!(
                    "lora_A has {rank} rows, lora_B {columns} columns: expected the same rank"
                )));
            }
            pairs.insert(name, LoraPair { rank: rank as u32, a, b, scale: scale(rank) });
        }
        match pairs.is_empty() {
            true => Err(LoraError::Empty),
            false => Ok(Lora { pairs }),
        }
    }
}

/// `…layers.3.self_attn.q_proj.lora_A.weight` -> layer 3, the tensor of `self_attn.q_proj`, A.
fn peft_name(name: &str, hyper: &Hyperparameters) -> Option<(u32, &'static TensorSpec, Half)> {
    let (path, half) = match name.split_once(".lora_A.") {
        Some((path, _)) => (path, Half::A),
        None => (name.split_once(".lora_B.")?.0, Half::B),
    };
    let (layer, tensor) = hyper.architecture.spec().find_in_layer(path)?;
    let is_matrix = |part: &Part| part.shape(hyper).is_some_and(|shape| shape.len() == 2);
    tensor.parts.iter().all(is_matrix).then_some((layer, tensor, half))
}

fn matrix(name: &str, view: &TensorView<'_>, wanted: Wanted<'_>) -> Result<Matrix, LoraError> {
    let wrong = |reason: String| LoraError::Tensor { name: name.to_string(), reason };
    let &[rows, cols] = view.shape() else {
        return Err(wrong(format!("shape {:?}: expected two dimensions", view.shape())));
    };
    let dtype = match view.dtype() {
        safetensors::Dtype::F32 => DType::F32,
        safetensors::Dtype::F16 => DType::F16,
        safetensors::Dtype::BF16 => DType::BF16,
        other => return Err(wrong(format!("type {other:?}: expected F32, F16 or BF16"))),
    };
    Ok((rows, cols, values(dtype, view.data(), rows, cols, wanted)?))
}

/// The values of a matrix, some rows at a time.
fn values(
    dtype: DType,
    bytes: &[u8],
    rows: usize,
    cols: usize,
    wanted: Wanted<'_>,
) -> Result<Vec<f32>, LoraError> {
    let mut values = vec![0.0; rows * cols];
    let rows = (VALUES / cols.max(1)).max(1);
    let pieces = bytes.chunks((rows * dtype.row_bytes(cols)).max(1));
    for (bytes, values) in pieces.zip(values.chunks_mut((rows * cols).max(1))) {
        if !wanted() {
            return Err(LoraError::Stopped);
        }
        dtype.dequantize(bytes, values);
    }
    Ok(values)
}

/// Rows of `b` from Hugging Face's order within a head (first halves, then second halves of the rotated
/// pairs) to GGUF's (pair after pair).
fn interleave(pair: &mut LoraPair, head_dim: usize) {
    let rank = pair.rank as usize;
    let half = head_dim / 2;
    let source = pair.b.clone();
    for (index, row) in pair.b.chunks_exact_mut(rank).enumerate() {
        let (head, within) = (index / head_dim, index % head_dim);
        let from = head * head_dim + (within % 2) * half + within / 2;
        if let Some(values) = source.get(from * rank..(from + 1) * rank) {
            row.copy_from_slice(values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_peft_become_canonical() {
        let bytes = crate::test_model::build(DType::F32, 0).unwrap().to_bytes();
        let hyper = Hyperparameters::from_gguf(&Gguf::parse(bytes).unwrap()).unwrap();
        let name = "base_model.model.model.layers.12.self_attn.k_proj.lora_B.weight";
        let (layer, tensor, half) = peft_name(name, &hyper).unwrap();
        assert_eq!((layer, tensor.parts), (12, &[Part::K][..]));
        assert!(matches!(half, Half::B));
        assert!(peft_name("base_model.model.lm_head.lora_A.weight", &hyper).is_none());
        assert!(peft_name("base_model.model.model.layers.0.input_layernorm.lora_A.weight", &hyper).is_none());
    }

    #[test]
    fn rows_of_a_head_are_interleaved() {
        let b = (0..8).map(|v| v as f32).collect();
        let mut pair = LoraPair { rank: 1, a: vec![1.0], b, scale: 1.0 };
        interleave(&mut pair, 4);
        assert_eq!(pair.b, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn an_adapter_is_read_in_pieces_for_as_long_as_it_is_wanted() {
        let (rows, cols) = (5, VALUES / 2);
        let source: Vec<f32> = (0..rows * cols).map(|v| v as f32).collect();
        let bytes: Vec<u8> = source.iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = TensorView::new(safetensors::Dtype::F32, vec![rows, cols], &bytes).unwrap();
        let asked = std::cell::Cell::new(0);
        let times = |limit: u32| {
            asked.set(0);
            matrix("a", &view, &|| asked.replace(asked.get() + 1) < limit)
        };
        assert_eq!(times(u32::MAX).unwrap(), (rows, cols, source));
        assert_eq!(asked.get(), 3, "two rows at a time");
        assert!(matches!(times(2), Err(LoraError::Stopped)));
        assert_eq!(asked.get(), 3);
    }

    #[test]
    fn bytes_that_are_no_adapter_are_refused() {
        assert!(matches!(read_gguf(b"nothing", &|| true), Err(LoraError::File(_))));
        let config = r#"{"peft_type": "LORA", "r": 0, "lora_alpha": 1}"#;
        assert!(serde_json::from_str::<PeftConfig>(config).is_ok());
    }
}

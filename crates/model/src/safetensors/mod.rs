//! A model folder as Hugging Face lays it out: config.json and one or more safetensors files.
//!
//! Tensors get the names and the row order that this crate uses everywhere ([`crate::Weights`]); the bytes
//! stay where they are in the mapped files. The safetensors library checks headers, offsets and sizes.

mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernels::DType;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

pub use error::SafetensorsError;

use crate::arch::HuggingFaceName;
use crate::data::Data;
use crate::hyper::spec_of_config;
use crate::json::{self, JsonError};
use crate::weights::{TensorEntry, Weights};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Maps the weights of a model folder. Its config.json says which architecture has named them.
///
/// # Errors
/// A file that is missing or damaged, an architecture that is not supported, a tensor in a type other than
/// F32, F16 and BF16, or one that is not known.
pub fn open(folder: &Path) -> Result<Weights, SafetensorsError> {
    let mut files = Vec::new();
    let mut tensors = BTreeMap::new();
    let paths = shards(folder)?;
    let spec = spec_of_config(&config(folder)?)?;
    for path in paths {
        let data = Data::map(&path).map_err(|source| SafetensorsError::Io { path: path.clone(), source })?;
        let (header_bytes, header) = SafeTensors::read_metadata(&data)
            .map_err(|source| SafetensorsError::Damaged { path: path.clone(), source })?;
        // Eight bytes of length, the header, then the tensors that offsets count from.
        let start = 8 + header_bytes;
        for (name, tensor) in header.tensors() {
            let (canonical, transposed) = match spec.translate(&name) {
                HuggingFaceName::Tensor { name, transposed } => (name, transposed),
                HuggingFaceName::Ignored => continue,
                HuggingFaceName::Unknown => {
                    return Err(SafetensorsError::UnknownTensor { name, architecture: spec.name });
                }
            };
            let dtype = match tensor.dtype {
                Dtype::F32 => DType::F32,
                Dtype::F16 => DType::F16,
                Dtype::BF16 => DType::BF16,
                found => return Err(SafetensorsError::Dtype { name, found: format!("{found:?}") }),
            };
            if tensor.shape.is_empty() || tensor.shape.contains(&0) {
                return Err(SafetensorsError::Shape { name, shape: tensor.shape.clone() });
            }
            let (from, to) = tensor.data_offsets;
            let mut shape = tensor.shape.clone();
            if transposed {
                shape.reverse();
            }
            let range = start + from..start + to;
            let entry = TensorEntry { file: files.len(), dtype, shape, range, transposed };
            if tensors.insert(canonical, entry).is_some() {
                return Err(SafetensorsError::DuplicateTensor { name });
            }
        }
        files.push(Arc::new(data));
    }
    Ok(Weights::new(files, tensors))
}

/// The content of config.json.
///
/// # Errors
/// When it cannot be read.
pub fn config(folder: &Path) -> Result<Value, SafetensorsError> {
    Ok(json::read(&folder.join("config.json"))?)
}

/// How rows are pooled: sentence-transformers' `1_Pooling/config.json`, or nothing.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn pooling(folder: &Path) -> Result<Value, SafetensorsError> {
    Ok(json::read_optional(&folder.join("1_Pooling").join("config.json"))?)
}

/// The types of the modules of sentence-transformers that a folder has, `Transformer` the first of them; none where it says
/// nothing.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn modules(folder: &Path) -> Result<Vec<String>, SafetensorsError> {
    let modules = json::read_optional(&folder.join("modules.json"))?;
    let types = modules.as_array().into_iter().flatten().filter_map(|module| module["type"].as_str());
    Ok(types.map(|name| name.rsplit('.').next().unwrap_or(name).to_owned()).collect())
}

/// The chat template: `chat_template.jinja`, or `chat_template` of tokenizer_config.json, which may be a list
/// of named ones, of which `default` counts.
///
/// # Errors
/// When a file that is there cannot be read.
pub fn chat_template(folder: &Path) -> Result<Option<String>, SafetensorsError> {
    let path = folder.join("chat_template.jinja");
    match std::fs::read_to_string(&path) {
        Ok(source) => return Ok(Some(source)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(SafetensorsError::Io { path, source }),
    }
    let config = json::read_optional(&folder.join("tokenizer_config.json"))?;
    Ok(match &config["chat_template"] {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .or(named.first())
            .and_then(|entry| entry["template"].as_str())
            .map(str::to_owned),
        _ => None,
    })
}

/// The paths of all safetensors files.
fn shards(folder: &Path) -> Result<Vec<PathBuf>, SafetensorsError> {
    if folder.join(SINGLE).exists() {
        return Ok(vec![folder.join(SINGLE)]);
    }
    let path = folder.join(INDEX);
    let index = json::read_optional(&path)?;
    if index.is_null() {
        return Err(if has_pickles(folder) {
            SafetensorsError::Pickled { folder: folder.to_owned() }
        } else {
            SafetensorsError::NoWeights { folder: folder.to_owned() }
        });
    }
    let invalid = |reason: String| SafetensorsError::Json { path: path.clone(), reason };
    let map =
        index["weight_map"].as_object().ok_or_else(|| invalid("it has no object `weight_map`".to_owned()))?;
    let mut names = BTreeSet::new();
    for name in map.values() {
        let name = name.as_str().ok_or_else(|| invalid(format!("{name} is no file name")))?;
        // An index must not reach out of its folder.
        if name.contains(['/', '\\']) || !name.ends_with(".safetensors") {
            return Err(invalid(format!("`{name}` is not the name of a safetensors file of the folder")));
        }
        names.insert(name);
    }
    if names.is_empty() {
        return Err(invalid("`weight_map` is empty".to_owned()));
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn has_pickles(folder: &Path) -> bool {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| {
        let name = name.to_string_lossy();
        [".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| name.ends_with(end))
    })
}

impl From<JsonError> for SafetensorsError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::Io { path, source } => Self::Io { path, source },
            JsonError::Invalid { path, reason } => Self::Json { path, reason },
        }
    }
}

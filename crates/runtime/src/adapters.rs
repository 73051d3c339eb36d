//! Adapter files: PEFT's safetensors and GGUF, read into plain matrices.

use std::path::PathBuf;

use backend::LoraMatrix;

use crate::error::{ApiError, invalid};

/// The operator's folder of adapters.
pub(crate) struct Adapters {
    folder: Option<PathBuf>,
}

/// The bytes of an adapter, not read yet.
pub(crate) enum AdapterFile {
    /// One GGUF file of type `adapter`.
    Gguf(Vec<u8>),
    /// The two files of PEFT.
    Peft { config: String, tensors: Vec<u8> },
}

impl Adapters {
    pub(crate) fn new(folder: Option<PathBuf>) -> Adapters {
        Adapters { folder }
    }

    /// Names in the folder, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries =
            self.folder.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// A PEFT folder or a GGUF file by its name. Only names that [`Adapters::names`] lists are looked at, so no path
    /// leads outside of the folder.
    pub(crate) fn find(&self, name: &str) -> Result<AdapterFile, ApiError> {
        let names = self.names();
        let Some(folder) = self.folder.as_ref().filter(|_| names.iter().any(|n| n == name)) else {
            let reason = format!("no adapter `{name}`; the server has: {}", names.join(", "));
            return Err(ApiError::NotFound(reason));
        };
        let path = folder.join(name);
        let read = |path: PathBuf| {
            std::fs::read(&path)
                .map_err(|e| invalid(format!("cannot read adapter `{name}`: {}: {e}", path.display())))
        };
        if !path.is_dir() {
            return Ok(AdapterFile::Gguf(read(path)?));
        }
        let config = String::from_utf8(read(path.join("adapter_config.json"))?);
        let config =
            config.map_err(|_| invalid(format!("adapter `{name}`: adapter_config.json is not UTF-8")))?;
        Ok(AdapterFile::Peft { config, tensors: read(path.join("adapter_model.safetensors"))? })
    }
}

impl AdapterFile {
    /// The matrices, by canonical tensor name.
    pub(crate) fn read(self, hyper: &model::Hyperparameters) -> Result<Vec<LoraMatrix>, ApiError> {
        let lora = match &self {
            AdapterFile::Gguf(bytes) => model::lora::read_gguf(bytes),
            AdapterFile::Peft { config, tensors } => model::lora::read_peft(config, tensors, hyper),
        };
        let lora = lora.map_err(|error| invalid(error.to_string()))?;
        let matrix = |(tensor, pair): (String, model::lora::LoraPair)| LoraMatrix {
            tensor,
            rank: pair.rank,
            a: pair.a,
            b: pair.b,
            scale: pair.scale,
        };
        Ok(lora.pairs.into_iter().map(matrix).collect())
    }
}

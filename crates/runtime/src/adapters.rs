//! Adapter files: PEFT's safetensors and GGUF, read into plain matrices.

use std::path::{Path, PathBuf};

use backend::LoraMatrix;
use model::Wanted;

use crate::error::{ApiError, invalid};

/// Adapters that one inferlet has loaded at once.
pub(crate) const ADAPTERS: u32 = 32;

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
    /// A GGUF file, or a folder of PEFT's files, of the operator's.
    Path { name: String, path: PathBuf },
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
        Ok(AdapterFile::Path { name: name.to_string(), path: folder.join(name) })
    }
}

/// The files of PEFT.
const PEFT_FILES: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

fn unreadable(name: &str, path: &Path, error: impl std::fmt::Display) -> ApiError {
    invalid(format!("cannot read adapter `{name}`: {}: {error}", path.display()))
}

impl AdapterFile {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> Result<u64, ApiError> {
        let (name, path) = match self {
            AdapterFile::Gguf(bytes) => return Ok(bytes.len() as u64),
            AdapterFile::Peft { config, tensors } => return Ok((config.len() + tensors.len()) as u64),
            AdapterFile::Path { name, path } => (name, path),
        };
        let length = |path: &Path| path.metadata().map(|m| m.len()).map_err(|e| unreadable(name, path, e));
        match path.is_dir() {
            true => PEFT_FILES.iter().map(|file| length(&path.join(file))).sum(),
            false => length(path),
        }
    }

    /// The matrices, by canonical tensor name, read for as long as they are wanted.
    pub(crate) fn read(
        self,
        hyper: &model::Hyperparameters,
        wanted: Wanted<'_>,
    ) -> Result<Vec<LoraMatrix>, ApiError> {
        let lora = match &self {
            AdapterFile::Gguf(bytes) => model::lora::read_gguf(bytes, wanted),
            AdapterFile::Peft { config, tensors } => model::lora::read_peft(config, tensors, hyper, wanted),
            AdapterFile::Path { name, path } => {
                let read = |path: &Path| std::fs::read(path).map_err(|e| unreadable(name, path, e));
                if !path.is_dir() {
                    return AdapterFile::Gguf(read(path)?).read(hyper, wanted);
                }
                let [config, tensors] = PEFT_FILES.map(|file| path.join(file));
                let config = String::from_utf8(read(&config)?).map_err(|e| unreadable(name, &config, e))?;
                return AdapterFile::Peft { config, tensors: read(&tensors)? }.read(hyper, wanted);
            }
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

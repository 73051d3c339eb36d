//! A whole model, opened from a file or a folder.

use std::path::{Path, PathBuf};

use crate::chat::{ChatError, ChatTemplate};
use crate::gguf::{Gguf, GgufError};
use crate::hyper::read_pooling;
use crate::safetensors::SafetensorsError;
use crate::{HyperError, Hyperparameters, Tokenizer, TokenizerError, Weights, safetensors};

/// Everything a model at rest consists of.
#[derive(Debug)]
pub struct Model {
    /// `general.name` of the file, else the name of the file or folder.
    pub name: String,
    /// Its numbers, checked against the weights.
    pub hyperparameters: Hyperparameters,
    /// Its tensors.
    pub weights: Weights,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    chat_template: Result<ChatTemplate, ChatError>,
}

/// Why a model cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file is no GGUF file, or a damaged one.
    #[error("`{}`: {source}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: GgufError,
    },
    /// The folder's weights cannot be used.
    #[error("`{}`: {source}", path.display())]
    Safetensors {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        source: SafetensorsError,
    },
    /// The hyper-parameters cannot be used.
    #[error("`{}`: {source}", path.display())]
    Hyperparameters {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        source: HyperError,
    },
    /// The tokenizer cannot be used.
    #[error("`{}`: {source}", path.display())]
    Tokenizer {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        source: TokenizerError,
    },
    /// The tokenizer has more tokens than the model has rows.
    #[error("`{}`: the tokenizer has {tokens} tokens, the model only {rows} embeddings", path.display())]
    Vocabulary {
        /// The file or folder.
        path: PathBuf,
        /// Tokens of the tokenizer.
        tokens: usize,
        /// Rows of the embedding matrix.
        rows: usize,
    },
}

impl Model {
    /// Opens a GGUF file, or a folder with safetensors files as Hugging Face lays it out.
    ///
    /// # Errors
    /// The first thing found wrong. A chat template that does not compile is no error here, as the model
    /// still answers plain prompts; see [`Self::chat_template`].
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "safetensors") {
            Self::open_folder(path)
        } else {
            Self::open_gguf(path)
        }
    }

    fn open_gguf(path: &Path) -> Result<Self, OpenError> {
        let at = || path.to_owned();
        let gguf = Gguf::open(path).map_err(|source| OpenError::Gguf { path: at(), source })?;
        let hyperparameters = Hyperparameters::from_gguf(&gguf)
            .map_err(|source| OpenError::Hyperparameters { path: at(), source })?;
        let tokenizer =
            Tokenizer::from_gguf(&gguf).map_err(|source| OpenError::Tokenizer { path: at(), source })?;
        let text = |key: &str| gguf.get_str(key).map_err(|source| OpenError::Gguf { path: at(), source });
        let name = text("general.name")?.map_or_else(|| file_name(path), str::to_owned);
        let template = text("tokenizer.chat_template")?.map(str::to_owned);
        let weights = Weights::from_gguf(&gguf);
        Self::assemble(path, name, hyperparameters, weights, tokenizer, template)
    }

    fn open_folder(path: &Path) -> Result<Self, OpenError> {
        let at = || path.to_owned();
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let wrong = |source| OpenError::Safetensors { path: at(), source };
        let weights = safetensors::open(folder).map_err(wrong)?;
        let config = safetensors::config(folder).map_err(wrong)?;
        let pooling = safetensors::pooling(folder).map_err(wrong)?;
        let modules = safetensors::modules(folder).map_err(wrong)?;
        let hyperparameters = check_modules(&modules)
            .and_then(|()| Hyperparameters::from_config(&config, &weights))
            .and_then(|hyper| Ok(Hyperparameters { pooling: read_pooling(&pooling)?, ..hyper }))
            .map_err(|source| OpenError::Hyperparameters { path: at(), source })?;
        let tokenizer =
            Tokenizer::from_folder(folder).map_err(|source| OpenError::Tokenizer { path: at(), source })?;
        let template = safetensors::chat_template(folder).map_err(wrong)?;
        Self::assemble(path, file_name(folder), hyperparameters, weights, tokenizer, template)
    }

    fn assemble(
        path: &Path,
        name: String,
        hyperparameters: Hyperparameters,
        weights: Weights,
        tokenizer: Tokenizer,
        template: Option<String>,
    ) -> Result<Self, OpenError> {
        let (tokens, rows) = (tokenizer.vocabulary_size(), hyperparameters.vocab);
        if tokens > rows {
            return Err(OpenError::Vocabulary { path: path.to_owned(), tokens, rows });
        }
        let bos = tokenizer.name(tokenizer.special().bos);
        let eos = tokenizer.name(tokenizer.special().eos);
        let chat_template = match template {
            Some(source) => ChatTemplate::new(&source, &bos, &eos),
            None => Ok(ChatTemplate::chatml(&bos, &eos)),
        };
        Ok(Self { name, hyperparameters, weights, tokenizer, chat_template })
    }

    /// The model's chat template; ChatML when it has none.
    ///
    /// # Errors
    /// [`ChatError::Syntax`] when the model's template does not compile.
    pub fn chat_template(&self) -> Result<&ChatTemplate, &ChatError> {
        self.chat_template.as_ref()
    }
}

fn file_name(path: &Path) -> String {
    path.file_stem().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Refuses what changes the vectors of a text after they are pooled, and is not computed here.
fn check_modules(modules: &[String]) -> Result<(), HyperError> {
    let known = ["Transformer", "Pooling", "Normalize"];
    match modules.iter().find(|module| !known.contains(&module.as_str())) {
        Some(found) => Err(HyperError::Unsupported {
            what: format!("the module `{found}` of sentence-transformers, in modules.json"),
            instead: "use a model whose vectors are pooled and no more",
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_vectors_after_they_are_pooled_is_refused() {
        let modules = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(check_modules(&modules(&[])).is_ok());
        assert!(check_modules(&modules(&["Transformer", "Pooling", "Normalize"])).is_ok());
        let error = check_modules(&modules(&["Transformer", "Pooling", "Dense"])).unwrap_err();
        assert!(error.to_string().contains("`Dense`"), "{error}");
    }
}

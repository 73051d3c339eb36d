//! A model as programs see it: its engine, its facts and its text side.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use model::chat::ChatRequest;
use model::formats::Format;
use model::{Pooling, Wanted};
use scheduler::EngineHandle;

use crate::error::{ApiError, invalid};
use crate::grammars::Grammars;
use crate::tokens::TokenCounts;

/// Facts that do not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFacts {
    /// Architecture as the weight file names it.
    pub architecture: String,
    /// Token ids are below this.
    pub vocabulary_size: u32,
    /// Tokens of a page.
    pub page_tokens: u32,
    /// Positions are below this.
    pub context_length: u32,
    /// Values of an embedding row.
    pub hidden_size: u32,
    /// Token that starts a text, where the model wants one.
    pub bos: Option<u32>,
    /// Tokens that end an answer.
    pub stop_tokens: Vec<u32>,
    /// What it can do.
    pub traits: Vec<String>,
    /// How the rows of a text become one vector.
    pub pooling: Pooling,
    /// Whether its rows attend in both directions, so that a pass is a whole text and has hidden outputs only.
    pub encoder: bool,
    /// Token behind a text that becomes a vector, where the model wants one.
    pub eos: Option<u32>,
}

/// One model of a runtime.
pub struct ServedModel {
    pub(crate) name: String,
    pub(crate) facts: ModelFacts,
    pub(crate) engine: EngineHandle,
    pub(crate) text: Text,
    pub(crate) grammars: Grammars,
    pub(crate) fingerprint: String,
    pub(crate) tokens: TokenCounts,
    /// Adapters of the server's folder that inferlets have loaded, and how often.
    adapters: Mutex<BTreeMap<String, u32>>,
}

impl ServedModel {
    /// A model under a name, computed by `engine`. `fingerprint` names the weights and the layout of a page: contexts
    /// saved to disk are only read again for the same one. It must be usable as a file name.
    pub fn new(name: &str, model: Arc<model::Model>, engine: EngineHandle, fingerprint: &str) -> ServedModel {
        let limits = engine.limits();
        let special = model.tokenizer.special();
        let encoder = limits.encoder;
        let kind = if encoder { "encoder" } else { "text" };
        let chat = (!encoder && model.chat_template().is_ok()).then_some("chat");
        let traits = [Some(kind), chat, Some("adapter")];
        let pooling = if encoder { Pooling::Mean } else { Pooling::Last };
        let facts = ModelFacts {
            architecture: model.hyperparameters.architecture.name().to_string(),
            vocabulary_size: limits.vocabulary,
            page_tokens: limits.page_tokens,
            // A text of an encoder is one batch, which may be asked for each of its rows.
            context_length: match encoder {
                true => limits.context_tokens.min(limits.batch_tokens).min(limits.batch_outputs),
                false => limits.context_tokens,
            },
            hidden_size: limits.hidden,
            bos: special.bos.filter(|_| special.add_bos),
            stop_tokens: special.stop.clone(),
            traits: traits.into_iter().flatten().map(String::from).collect(),
            pooling: model.hyperparameters.pooling.unwrap_or(pooling),
            encoder,
            eos: special.eos.filter(|_| special.add_eos),
        };
        ServedModel {
            name: name.to_string(),
            grammars: Grammars::new(model.clone(), limits.vocabulary),
            fingerprint: fingerprint.to_string(),
            facts,
            engine,
            tokens: TokenCounts::default(),
            adapters: Mutex::default(),
            text: Text { model },
        }
    }

    /// Name it is opened under.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn hyperparameters(&self) -> &model::Hyperparameters {
        &self.text.model.hyperparameters
    }

    /// Its facts.
    pub fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    /// The text of tokens, names of control tokens included; what is no text is replaced.
    pub fn text_of(&self, tokens: &[u32]) -> String {
        String::from_utf8_lossy(&self.text.model.tokenizer.decode_with_control(tokens)).into_owned()
    }

    /// Its engine.
    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    /// Names of the adapters that inferlets have loaded.
    pub(crate) fn adapters_loaded(&self) -> Vec<String> {
        self.adapters.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Counts an adapter of the server's folder as loaded, until the answer is dropped.
    pub(crate) fn adapter_loaded(self: &Arc<ServedModel>, name: &str) -> LoadedAdapter {
        let mut adapters = self.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        *adapters.entry(name.to_string()).or_default() += 1;
        LoadedAdapter { model: self.clone(), name: name.to_string() }
    }
}

/// An adapter that an inferlet has loaded.
pub(crate) struct LoadedAdapter {
    model: Arc<ServedModel>,
    name: String,
}

impl Drop for LoadedAdapter {
    fn drop(&mut self) {
        let mut adapters = self.model.adapters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = adapters.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                adapters.remove(&self.name);
            }
        }
    }
}

/// Tokenizer and chat template.
pub(crate) struct Text {
    model: Arc<model::Model>,
}

impl Text {
    pub(crate) fn tokenize(
        &self,
        text: &str,
        special: bool,
        wanted: Wanted<'_>,
    ) -> Result<Vec<u32>, ApiError> {
        let tokens = self.model.tokenizer.encode_while(text, special, wanted);
        tokens.map_err(|error| invalid(error.to_string()))
    }

    pub(crate) fn token_bytes(&self, token: u32) -> &[u8] {
        self.model.tokenizer.token_bytes(token).unwrap_or_default()
    }

    /// The tokens of a conversation. Texts of messages cannot write control tokens.
    pub(crate) fn encode_chat(
        &self,
        request: &ChatRequest,
        wanted: Wanted<'_>,
    ) -> Result<Vec<u32>, ApiError> {
        let template = self.model.chat_template().map_err(|error| invalid(error.to_string()))?;
        let tokens = template.encode_while(request, &self.model.tokenizer, wanted);
        tokens.map_err(|error| invalid(error.to_string()))
    }

    /// How the model writes calls and reasoning.
    pub(crate) fn format(&self) -> Result<Format, ApiError> {
        let template = self.model.chat_template().map_err(|error| invalid(error.to_string()))?;
        Ok(Format::detect(template.source()))
    }

    /// The control token of a name.
    pub(crate) fn control(&self, name: &str) -> Option<u32> {
        self.model.tokenizer.control(name)
    }

    /// The conversation as the model's template writes it.
    pub(crate) fn format_chat(&self, request: &ChatRequest) -> Result<String, ApiError> {
        let template = self.model.chat_template().map_err(|error| invalid(error.to_string()))?;
        template.render(request).map_err(|error| invalid(error.to_string()))
    }
}

//! `model`: facts, tokenizer and chat template.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ::model::chat::{ChatEnd, ChatRequest, Message};
use ::model::{Pooling, Wanted};
use wasmtime::component::Resource;

use super::bindings::api::model;
use super::{Failure, HostState};
use crate::ServedModel;
use crate::error::{ApiError, check_length, invalid};

/// A program's handle to a model.
pub struct ModelHandle(pub(crate) Arc<ServedModel>);

impl HostState {
    /// The models that the inferlet may open, the default one first.
    fn allowed_models(&self) -> impl Iterator<Item = &Arc<ServedModel>> {
        self.shared.models.iter().filter(|model| self.inferlet.grant.allows_model(&model.name))
    }
}

impl model::Host for HostState {
    fn models(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.allowed_models().map(|model| model.name.clone()).collect())
    }

    fn open(&mut self, name: Option<String>) -> Result<Resource<ModelHandle>, Failure> {
        let found = match &name {
            Some(name) => self.allowed_models().find(|model| model.name == *name),
            None => self.allowed_models().next(),
        };
        let Some(model) = found.cloned() else {
            let known: Vec<&str> = self.allowed_models().map(|model| model.name.as_str()).collect();
            if known.is_empty() {
                return Err(ApiError::NotFound("the key allows none of the server's models".into()).into());
            }
            let asked = name.unwrap_or_else(|| "the default".into());
            let reason = format!("no model `{asked}`; the server has: {}", known.join(", "));
            return Err(ApiError::NotFound(reason).into());
        };
        Ok(self.table.push(ModelHandle(model))?)
    }
}

impl model::HostModel for HostState {
    fn facts(&mut self, model: Resource<ModelHandle>) -> wasmtime::Result<model::ModelFacts> {
        let model = &self.table.get(&model)?.0;
        let facts = &model.facts;
        Ok(model::ModelFacts {
            name: model.name.clone(),
            architecture: facts.architecture.clone(),
            vocabulary_size: facts.vocabulary_size,
            page_tokens: facts.page_tokens,
            context_length: facts.context_length,
            hidden_size: facts.hidden_size,
            bos: facts.bos,
            stop_tokens: facts.stop_tokens.clone(),
            traits: facts.traits.clone(),
        })
    }

    fn embedding(&mut self, model: Resource<ModelHandle>) -> wasmtime::Result<model::EmbeddingFacts> {
        let facts = &self.table.get(&model)?.0.facts;
        let pooling = match facts.pooling {
            Pooling::Mean => model::Pooling::Mean,
            Pooling::First => model::Pooling::First,
            Pooling::Last => model::Pooling::Last,
        };
        Ok(model::EmbeddingFacts { pooling, encoder: facts.encoder, eos: facts.eos })
    }

    async fn tokenize(
        &mut self,
        model: Resource<ModelHandle>,
        text: String,
        special: bool,
    ) -> Result<Vec<u32>, Failure> {
        let _call = self.call("model.tokenize", || vec![("bytes", text.len().into())]);
        let model = self.table.get(&model)?.0.clone();
        check_length("the text", text.len(), TEXT_BYTES)?;
        if text.len() <= SHORT_BYTES {
            return Ok(model.text.tokenize(&text, special, &|| true)?);
        }
        let bytes = text.len() * tokenizer_bytes(&model);
        self.work_while(bytes, move |wanted| model.text.tokenize(&text, special, wanted)).await
    }

    async fn detokenize(
        &mut self,
        model: Resource<ModelHandle>,
        tokens: Vec<u32>,
    ) -> Result<Vec<u8>, Failure> {
        let _call = self.call("model.detokenize", || vec![("tokens", tokens.len().into())]);
        let model = self.table.get(&model)?.0.clone();
        let bytes = tokens.len() * size_of::<u32>();
        check_length("the list of tokens", bytes, TEXT_BYTES)?;
        let detokenize = move || {
            super::forward::check_tokens(&model, &tokens)?;
            Ok(tokens.iter().flat_map(|token| model.text.token_bytes(*token)).copied().collect())
        };
        if bytes <= SHORT_BYTES { Ok(detokenize()?) } else { self.work(bytes, detokenize).await }
    }

    async fn vocabulary(&mut self, model: Resource<ModelHandle>) -> Result<Vec<Vec<u8>>, Failure> {
        let _call = self.call("model.vocabulary", Vec::new);
        let model = self.table.get(&model)?.0.clone();
        let tokens = 0..model.facts.vocabulary_size;
        self.work(0, move || Ok(tokens.map(|token| model.text.token_bytes(token).to_vec()).collect())).await
    }

    async fn encode_chat(
        &mut self,
        model: Resource<ModelHandle>,
        messages: Vec<model::Message>,
        options: model::ChatOptions,
    ) -> Result<Vec<u32>, Failure> {
        let _call = self.call("model.encode-chat", || vec![("messages", messages.len().into())]);
        self.chat(&model, messages, options, |model, request, wanted| {
            model.text.encode_chat(&request, wanted)
        })
        .await
    }

    async fn format_chat(
        &mut self,
        model: Resource<ModelHandle>,
        messages: Vec<model::Message>,
        options: model::ChatOptions,
    ) -> Result<String, Failure> {
        let _call = self.call("model.format-chat", || vec![("messages", messages.len().into())]);
        self.chat(&model, messages, options, |model, request, _| model.text.format_chat(&request)).await
    }

    fn drop(&mut self, model: Resource<ModelHandle>) -> wasmtime::Result<()> {
        self.table.delete(model)?;
        Ok(())
    }
}

/// Messages of a chat.
const MESSAGES: usize = 16384;
/// Bytes of a text to tokenize, of a list of tokens, and of all texts of a chat: more than any context has.
const TEXT_BYTES: usize = 1 << 20;
/// Bytes that the tokenizer takes for each byte of a text while it works: 140 to 220 were measured.
const TOKENIZER_BYTES: usize = 220;
/// The same of WordPiece, to which each punctuation mark is a word: by the sizes of the library's records, not measured.
const WORD_PIECE_BYTES: usize = 440;
/// Up to so many bytes, work is done at once: it takes a fraction of a millisecond, not much more than to hand it over.
const SHORT_BYTES: usize = 2048;
const SHORT_MESSAGES: usize = 32;

/// Bytes that the tokenizer of a model takes for each byte of a text.
fn tokenizer_bytes(model: &ServedModel) -> usize {
    if model.facts.encoder { WORD_PIECE_BYTES } else { TOKENIZER_BYTES }
}

impl HostState {
    /// Does something with a chat: at once when it is short.
    async fn chat<T: Send + 'static>(
        &mut self,
        model: &Resource<ModelHandle>,
        messages: Vec<model::Message>,
        options: model::ChatOptions,
        work: impl FnOnce(&ServedModel, ChatRequest, Wanted<'_>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, Failure> {
        let model = self.table.get(model)?.0.clone();
        let bytes = chat_bytes(&messages, &options);
        check_length("the chat", bytes, TEXT_BYTES)?;
        let is_short = bytes <= SHORT_BYTES && messages.len() <= SHORT_MESSAGES;
        let taken = bytes * tokenizer_bytes(&model);
        let work = move |wanted: Wanted<'_>| work(&model, chat_request(messages, options)?, wanted);
        if is_short { Ok(work(&|| true)?) } else { self.work_while(taken, work).await }
    }
}

/// Bytes of all texts of a chat.
fn chat_bytes(messages: &[model::Message], options: &model::ChatOptions) -> usize {
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let bytes = |m: &model::Message| {
        let optional = [&m.tool_calls, &m.tool_call_id, &m.name, &m.reasoning_content];
        m.role.len() + m.content.len() + optional.map(length).iter().sum::<usize>()
    };
    messages.iter().map(bytes).sum::<usize>() + length(&options.tools) + length(&options.variables)
}

fn chat_request(messages: Vec<model::Message>, options: model::ChatOptions) -> Result<ChatRequest, ApiError> {
    if messages.len() > MESSAGES {
        let reason = format!("{} messages are given, the limit is {MESSAGES}", messages.len());
        return Err(ApiError::LimitExceeded(reason));
    }
    let message = |m: model::Message| {
        let tool_calls = json("the tool calls", "list", m.tool_calls.as_deref())?;
        let (reasoning_content, name, tool_call_id) = (m.reasoning_content, m.name, m.tool_call_id);
        let is_trusted = m.trusted;
        let plain = Message::new(&m.role, &m.content);
        Ok(Message { tool_calls, reasoning_content, name, tool_call_id, is_trusted, ..plain })
    };
    let end = match (options.add_generation_prompt, options.continue_final_message) {
        (true, true) => {
            let reason = "`add-generation-prompt` and `continue-final-message` exclude each other: give one";
            return Err(invalid(reason));
        }
        (true, false) => ChatEnd::Answer,
        (false, true) => ChatEnd::Continue,
        (false, false) => ChatEnd::Nothing,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(ChatRequest {
        messages: messages.into_iter().map(message).collect::<Result<_, ApiError>>()?,
        tools: json("the tools", "list", options.tools.as_deref())?,
        variables: json("the variables", "object", options.variables.as_deref())?,
        end,
        now_unix_s: now.as_secs() as i64,
    })
}

/// A value in JSON; the default where there is none.
fn json<T: serde::de::DeserializeOwned + Default>(
    what: &str,
    kind: &str,
    text: Option<&str>,
) -> Result<T, ApiError> {
    let Some(text) = text else { return Ok(T::default()) };
    serde_json::from_str(text)
        .map_err(|error| invalid(format!("{what} are not a JSON {kind} as in the OpenAI API: {error}")))
}

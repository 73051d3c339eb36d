//! `model`: facts, tokenizer and chat template.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ::model::chat::{ChatEnd, ChatRequest, Message};
use wasmtime::component::Resource;

use super::bindings::api::model;
use super::{Failure, HostState};
use crate::ServedModel;
use crate::error::{ApiError, invalid};

/// A program's handle to a model.
pub struct ModelHandle(pub(crate) Arc<ServedModel>);

impl model::Host for HostState {
    fn models(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.shared.models.iter().map(|m| m.name.clone()).collect())
    }

    fn open(&mut self, name: Option<String>) -> Result<Resource<ModelHandle>, Failure> {
        let models = &self.shared.models;
        let found = match &name {
            Some(name) => models.iter().find(|m| m.name == *name),
            None => models.first(),
        };
        let Some(model) = found.cloned() else {
            let known: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
            let asked = name.unwrap_or_else(|| "the default".into());
            return Err(ApiError::NotFound(format!(
                "no model `{asked}`; the server has: {}",
                known.join(", ")
            ))
            .into());
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

    fn tokenize(
        &mut self,
        model: Resource<ModelHandle>,
        text: String,
        special: bool,
    ) -> wasmtime::Result<Vec<u32>> {
        Ok(self.table.get(&model)?.0.text.tokenize(&text, special))
    }

    fn detokenize(&mut self, model: Resource<ModelHandle>, tokens: Vec<u32>) -> Result<Vec<u8>, Failure> {
        let model = &self.table.get(&model)?.0;
        super::forward::check_tokens(model, &tokens)?;
        Ok(tokens.iter().flat_map(|token| model.text.token_bytes(*token)).copied().collect())
    }

    fn vocabulary(&mut self, model: Resource<ModelHandle>) -> wasmtime::Result<Vec<Vec<u8>>> {
        let model = &self.table.get(&model)?.0;
        Ok((0..model.facts.vocabulary_size).map(|token| model.text.token_bytes(token).to_vec()).collect())
    }

    fn format_chat(
        &mut self,
        model: Resource<ModelHandle>,
        messages: Vec<model::Message>,
        options: model::ChatOptions,
    ) -> Result<String, Failure> {
        let request = chat_request(messages, options)?;
        Ok(self.table.get(&model)?.0.text.format_chat(&request)?)
    }

    fn drop(&mut self, model: Resource<ModelHandle>) -> wasmtime::Result<()> {
        self.table.delete(model)?;
        Ok(())
    }
}

fn chat_request(messages: Vec<model::Message>, options: model::ChatOptions) -> Result<ChatRequest, ApiError> {
    let message = |m: model::Message| {
        let tool_calls = json_list("the tool calls", m.tool_calls.as_deref())?;
        Ok(Message { tool_calls, ..Message::new(&m.role, &m.content) })
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(ChatRequest {
        messages: messages.into_iter().map(message).collect::<Result<_, ApiError>>()?,
        tools: json_list("the tools", options.tools.as_deref())?,
        end: if options.add_generation_prompt { ChatEnd::Answer } else { ChatEnd::Nothing },
        now_unix_s: now.as_secs() as i64,
        ..ChatRequest::default()
    })
}

/// A list in JSON; empty when there is none.
fn json_list<T: serde::de::DeserializeOwned>(what: &str, text: Option<&str>) -> Result<Vec<T>, ApiError> {
    let Some(text) = text else { return Ok(Vec::new()) };
    serde_json::from_str(text)
        .map_err(|error| invalid(format!("{what} are not a JSON list as in the OpenAI API: {error}")))
}

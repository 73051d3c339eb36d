use std::rc::Rc;

use super::{Error, invalid};
use crate::testing::{ScriptedModel, host};

pub fn models() -> Vec<String> {
    host().models.iter().map(|model| model.facts.name.clone()).collect()
}

#[derive(Clone, Debug)]
pub struct ModelFacts {
    pub name: String,
    pub architecture: String,
    pub vocabulary_size: u32,
    pub page_tokens: u32,
    pub context_length: u32,
    pub hidden_size: u32,
    pub bos: Option<u32>,
    pub stop_tokens: Vec<u32>,
    pub traits: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    Mean,
    First,
    Last,
}

#[derive(Clone, Copy, Debug)]
pub struct EmbeddingFacts {
    pub pooling: Pooling,
    pub encoder: bool,
    pub eos: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub role: String,
    pub content: String,
    pub tool_calls: Option<String>,
    pub tool_call_id: Option<String>,
    pub name: Option<String>,
    pub reasoning_content: Option<String>,
    pub trusted: bool,
}

#[derive(Clone, Debug)]
pub struct ChatOptions {
    pub add_generation_prompt: bool,
    pub continue_final_message: bool,
    pub tools: Option<String>,
    pub variables: Option<String>,
}

#[derive(Debug)]
pub struct Model {
    pub(crate) model: Rc<ScriptedModel>,
}

impl Model {
    pub fn facts(&self) -> ModelFacts {
        self.model.facts.clone()
    }

    pub fn embedding(&self) -> EmbeddingFacts {
        self.model.embedding
    }

    pub fn tokenize(&self, text: &str, special: bool) -> Result<Vec<u32>, Error> {
        Ok(self.model.tokenize(text, special))
    }

    pub fn detokenize(&self, tokens: &[u32]) -> Result<Vec<u8>, Error> {
        self.check(tokens)?;
        Ok(tokens.iter().flat_map(|token| self.model.words[*token as usize].iter().copied()).collect())
    }

    pub fn vocabulary(&self) -> Result<Vec<Vec<u8>>, Error> {
        Ok(self.model.words.clone())
    }

    pub fn encode_chat(&self, messages: &[Message], options: &ChatOptions) -> Result<Vec<u32>, Error> {
        if options.add_generation_prompt && options.continue_final_message {
            return Err(invalid("a chat ends with a new message or goes on with the last one"));
        }
        Ok(self.model.encode_chat(messages, options))
    }

    pub fn format_chat(&self, messages: &[Message], options: &ChatOptions) -> Result<String, Error> {
        let bytes = self.detokenize(&self.encode_chat(messages, options)?)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn check(&self, tokens: &[u32]) -> Result<(), Error> {
        let vocabulary = self.model.words.len();
        match tokens.iter().find(|token| **token as usize >= vocabulary) {
            Some(token) => Err(invalid(format!("token {token} is outside the vocabulary of {vocabulary}"))),
            None => Ok(()),
        }
    }
}

pub fn open(name: Option<&str>) -> Result<Model, Error> {
    let host = host();
    let found = host.models.iter().find(|model| name.is_none_or(|name| model.facts.name == name));
    match found {
        Some(model) => Ok(Model { model: model.clone() }),
        None => Err(Error::NotFound(format!("no model `{}` in this test", name.unwrap_or("the default")))),
    }
}

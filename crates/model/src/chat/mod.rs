//! Chat templates: from messages to the prompt a model was trained on.
//!
//! Templates are Jinja programs that come with the model and expect what Hugging Face's `apply_chat_template` gives
//! them; minijinja runs them here with the same names, filters and whitespace rules. They are untrusted: the number
//! of steps is limited, they see nothing but their arguments, and the time is one of them.
//!
//! Messages are untrusted in another way: a user who writes `<|im_end|>` must not end his turn. [`ChatTemplate::encode`]
//! therefore turns only those control tokens into ids that the template itself wrote.

mod environment;
mod error;
mod guard;
mod json;
mod time;

use std::fmt;

use minijinja::Environment;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::tokenizer::{Tokenizer, TokenizerError};
pub use error::ChatError;

/// The template of models that have none: ChatML, which most tuned models understand.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + \
    '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Steps a template may take, about 50 per message; the longest conversations take a hundredth of it.
const FUEL: u64 = 10_000_000;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, or what else the template knows.
    pub role: String,
    /// The text; an assistant message with tool calls may have none, which templates see as an empty string.
    #[serde(default)]
    pub content: String,
    /// The author, for templates that show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Calls that the assistant made in this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a `tool` message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    /// A message of text.
    pub fn new(role: &str, content: &str) -> Self {
        Self { role: role.to_owned(), content: content.to_owned(), ..Self::default() }
    }
}

/// A call of a tool by the assistant, in the form of the OpenAI API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Names the call in the `tool` message that answers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Always `function`.
    #[serde(rename = "type", default = "function")]
    pub kind: String,
    /// What is called.
    pub function: FunctionCall,
}

fn function() -> String {
    "function".to_owned()
}

/// A function's name and arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// The function.
    pub name: String,
    /// A JSON object, or, as in the OpenAI API, a string that holds one; templates are given the object.
    pub arguments: Value,
}

/// What to render.
#[derive(Debug, Clone, Default)]
pub struct ChatRequest {
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// Descriptions of tools, each a JSON object as in the OpenAI API. Templates without tools ignore them.
    pub tools: Vec<Value>,
    /// What comes after the messages.
    pub end: ChatEnd,
    /// Further variables of the template, such as `enable_thinking`.
    pub variables: Map<String, Value>,
    /// The time for templates that write the date, in seconds since 1970, UTC.
    pub now_unix_s: i64,
}

/// What comes after the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChatEnd {
    /// The begin of the assistant's turn, for an answer.
    #[default]
    Answer,
    /// Nothing: the last message stays open and is continued.
    Continue,
    /// Nothing: the conversation as it is.
    Nothing,
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos_token: String,
    eos_token: String,
}

impl ChatTemplate {
    /// Compiles a template. `bos_token` and `eos_token` are what templates know under these names.
    ///
    /// # Errors
    /// [`ChatError::Syntax`] with the line.
    pub fn new(source: &str, bos_token: &str, eos_token: &str) -> Result<Self, ChatError> {
        Ok(Self {
            environment: environment::compile(source, FUEL)?,
            source: source.to_owned(),
            bos_token: bos_token.to_owned(),
            eos_token: eos_token.to_owned(),
        })
    }

    /// The template of models that have none: ChatML.
    pub fn chatml(bos_token: &str, eos_token: &str) -> Self {
        Self::new(CHATML, bos_token, eos_token).expect("the ChatML template compiles")
    }

    /// The template as written in the model.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt as text. For tokens use [`Self::encode`], as this text no longer tells which control tokens came
    /// from a message.
    ///
    /// # Errors
    /// What the template refuses, and mistakes in it.
    pub fn render(&self, request: &ChatRequest) -> Result<String, ChatError> {
        let (messages, tools) = values(request);
        self.render_values(request, messages, tools)
    }

    /// The prompt as token ids, with BOS where the model wants it. Control tokens count only where the template
    /// wrote them; in messages and tools they are text.
    ///
    /// # Errors
    /// What the template refuses, and mistakes in it.
    pub fn encode(&self, request: &ChatRequest, tokenizer: &Tokenizer) -> Result<Vec<u32>, ChatError> {
        let (mut messages, mut tools) = values(request);
        let names = guard::control_names(tokenizer);
        let is_guarded = guard::mark(&mut messages, &names) | guard::mark(&mut tools, &names);
        let text = self.render_values(request, messages, tools)?;
        let ids = if is_guarded {
            guard::encode(&text, &names, tokenizer)
        } else {
            tokenizer.encode_with_control(&text)
        };
        Ok(tokenizer.with_bos(ids.map_err(|error: TokenizerError| ChatError::Encode(Box::new(error)))?))
    }

    fn render_values(
        &self,
        request: &ChatRequest,
        messages: Value,
        tools: Value,
    ) -> Result<String, ChatError> {
        let last = messages.as_array().and_then(|messages| messages.last());
        let last = last.and_then(|message| message["content"].as_str()).unwrap_or_default().to_owned();
        let mut context = Map::new();
        context.extend(request.variables.clone());
        context.insert("messages".to_owned(), messages);
        context.insert("tools".to_owned(), tools);
        context.insert("add_generation_prompt".to_owned(), Value::Bool(request.end == ChatEnd::Answer));
        context.insert("bos_token".to_owned(), Value::String(self.bos_token.clone()));
        context.insert("eos_token".to_owned(), Value::String(self.eos_token.clone()));
        let text = environment::render(&self.environment, &context, request.now_unix_s)?;
        match request.end {
            ChatEnd::Continue => cut_after(&text, &last).map(str::to_owned),
            ChatEnd::Answer | ChatEnd::Nothing => Ok(text),
        }
    }
}

/// Messages and tools as the template sees them.
fn values(request: &ChatRequest) -> (Value, Value) {
    let mut messages = serde_json::to_value(&request.messages).expect("messages are plain data");
    let calls = messages.as_array_mut().into_iter().flatten();
    let calls = calls.filter_map(|message| message.get_mut("tool_calls")?.as_array_mut()).flatten();
    for call in calls {
        let arguments = &mut call["function"]["arguments"];
        // Templates write arguments with `tojson`, which would quote the string once more.
        if let Some(object) = arguments.as_str().and_then(|text| serde_json::from_str(text).ok()) {
            *arguments = object;
        }
    }
    let tools = if request.tools.is_empty() { Value::Null } else { Value::Array(request.tools.clone()) };
    (messages, tools)
}

/// The rendered text up to the end of the last message, by the rule of transformers: the last place where it
/// stands, with its trailing space if the template kept that.
fn cut_after<'a>(text: &'a str, last: &str) -> Result<&'a str, ChatError> {
    let trimmed = last.trim();
    let start = text.rfind(trimmed).ok_or(ChatError::Continue)?;
    let kept = last.trim_start();
    let length = if text[start..].starts_with(kept) { kept.len() } else { trimmed.len() };
    Ok(&text[..start + length])
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChatTemplate({} bytes)", self.source.len())
    }
}

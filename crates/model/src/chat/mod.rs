//! Chat templates: from messages to the prompt a model was trained on.
//!
//! Templates are Jinja programs that come with the model and expect what Hugging Face's `apply_chat_template`
//! gives them; minijinja runs them here with the same names, filters and whitespace rules. They are
//! untrusted: the number of steps is limited, they see nothing but their arguments, and the time is one of
//! them.
//!
//! Messages are untrusted in another way: a user who writes `<|im_end|>` must not end his turn.
//! [`ChatTemplate::encode`] therefore turns only those control tokens into ids that the template itself
//! wrote, or the model before, in a message that [is trusted](Message::is_trusted).

mod environment;
mod error;
mod guard;
mod json;
mod python;
mod time;

use std::fmt;
use std::sync::OnceLock;

use minijinja::Environment;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::tokenizer::{TokenNames, Tokenizer, TokenizerError, Wanted};
pub use error::ChatError;
use guard::Marks;

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
    pub content: Content,
    /// What the model thought before it answered, for templates that show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The author, for templates that show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Calls that the assistant made in this message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a `tool` message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Whether control tokens in `content` count, because the model said it: a call in its own markup, such
    /// as `<|python_tag|>`. Templates do not see this. False for whatever a user, a tool or a file may have
    /// written.
    #[serde(skip)]
    pub is_trusted: bool,
}

/// The content of a message: one text, or parts as in the OpenAI API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// A text.
    Text(String),
    /// Texts, one after the other. Templates that know parts are given them; others see one text, with a new
    /// line between the parts.
    Parts(Vec<Part>),
}

/// A part of the content of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Part {
    /// `{"type": "text", "text": ...}`.
    Text {
        /// The text.
        text: String,
    },
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Content {
    /// The content as templates want it that know texts, or parts, only.
    fn in_form(&self, form: ContentForm) -> Self {
        let part = |text: &String| Part::Text { text: text.clone() };
        match (self, form) {
            (Self::Parts(parts), ContentForm::Text) => {
                let texts: Vec<&str> = parts.iter().map(|Part::Text { text }| text.as_str()).collect();
                Self::Text(texts.join("\n"))
            }
            (Self::Text(text), ContentForm::Parts) => Self::Parts(vec![part(text)]),
            (content, _) => content.clone(),
        }
    }
}

impl Message {
    /// A message of text.
    pub fn new(role: &str, content: &str) -> Self {
        Self { role: role.to_owned(), content: Content::Text(content.to_owned()), ..Self::default() }
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

/// JSON in one line as templates write it.
pub(crate) fn python_json(value: &Value) -> String {
    json::write(value, &json::Style::default())
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
    /// Nothing: the last message stays open and is continued. Of white space at its end the prompt keeps what
    /// the template keeps.
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
    /// Found when first needed, by rendering.
    content_form: OnceLock<ContentForm>,
}

/// What a template takes as the content of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContentForm {
    /// A text only.
    Text,
    /// Parts only.
    Parts,
    /// Either.
    Both,
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
            content_form: OnceLock::new(),
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

    /// The prompt as text. For tokens use [`Self::encode`], as this text no longer tells which control tokens
    /// came from a message.
    ///
    /// # Errors
    /// What the template refuses, and mistakes in it.
    pub fn render(&self, request: &ChatRequest) -> Result<String, ChatError> {
        self.render_values(Values::new(request, self.content_form()), request)
    }

    /// The prompt as token ids, with BOS where the model wants it and the template has not written it.
    /// Control tokens count only where the template wrote them, or the model before in a message that [is
    /// trusted](Message::is_trusted); everywhere else, arguments of calls, tools and variables included, they
    /// are text.
    ///
    /// # Errors
    /// What the template refuses, and mistakes in it.
    pub fn encode(&self, request: &ChatRequest, tokenizer: &Tokenizer) -> Result<Vec<u32>, ChatError> {
        self.encode_while(request, tokenizer, &|| true)
    }

    /// [`Self::encode`] of a conversation that may be long, for as long as it is wanted.
    ///
    /// # Errors
    /// As there; when it is not wanted any more.
    pub fn encode_while(
        &self,
        request: &ChatRequest,
        tokenizer: &Tokenizer,
        wanted: Wanted<'_>,
    ) -> Result<Vec<u32>, ChatError> {
        let names = tokenizer.control_names();
        let values = Values::new(request, self.content_form());
        let sparing = values.clone().marked(request, names, Marks::Names);
        let thorough = values.marked(request, names, Marks::Parts);
        let text = if sparing == thorough {
            self.render_values(sparing, request)?
        } else {
            let (sparing, thorough) =
                (self.render_values(sparing, request)?, self.render_values(thorough, request)?);
            let is_same = guard::controls(&sparing, names) == guard::controls(&thorough, names);
            if is_same { sparing } else { thorough }
        };
        let ids = guard::encode(&text, tokenizer, wanted);
        Ok(tokenizer.with_bos(ids.map_err(|error: TokenizerError| ChatError::Encode(Box::new(error)))?))
    }

    fn render_values(&self, values: Values, request: &ChatRequest) -> Result<String, ChatError> {
        let mut context = Map::new();
        // As `apply_chat_template` does it.
        context.insert("documents".to_owned(), Value::Null);
        context.extend(values.variables);
        context.insert("messages".to_owned(), values.messages);
        context.insert("tools".to_owned(), values.tools);
        context.insert("add_generation_prompt".to_owned(), Value::Bool(request.end == ChatEnd::Answer));
        context.insert("bos_token".to_owned(), Value::String(self.bos_token.clone()));
        context.insert("eos_token".to_owned(), Value::String(self.eos_token.clone()));
        let text = environment::render(&self.environment, &context, request.now_unix_s)?;
        match request.end {
            ChatEnd::Continue => cut(&text, &values.space),
            ChatEnd::Answer | ChatEnd::Nothing => Ok(text),
        }
    }

    /// Tries what the template writes for a text, and for the same text as a part.
    fn content_form(&self) -> ContentForm {
        *self.content_form.get_or_init(|| {
            const TEXT: &str = "to be or not to be";
            let rendered = |form: ContentForm| {
                let request =
                    ChatRequest { messages: vec![Message::new("user", TEXT)], ..ChatRequest::default() };
                let text = self.render_values(Values::new(&request, form), &request).ok()?;
                text.contains(TEXT).then_some(text)
            };
            match (rendered(ContentForm::Text), rendered(ContentForm::Parts)) {
                (None, Some(_)) => ContentForm::Parts,
                // A template that knows texts only writes the part as an object.
                (Some(text), Some(parts)) if text == parts => ContentForm::Both,
                _ => ContentForm::Text,
            }
        })
    }
}

/// What the template sees of a request.
#[derive(Debug, Clone, PartialEq)]
struct Values {
    messages: Value,
    tools: Value,
    variables: Map<String, Value>,
    /// White space at the end of the message that is continued.
    space: String,
}

impl Values {
    fn new(request: &ChatRequest, form: ContentForm) -> Self {
        let in_form =
            |message: &Message| Message { content: message.content.in_form(form), ..message.clone() };
        let messages: Vec<Message> = request.messages.iter().map(in_form).collect();
        let mut messages = serde_json::to_value(messages).expect("messages are plain data");
        let calls = messages.as_array_mut().into_iter().flatten();
        let calls = calls.filter_map(|message| message.get_mut("tool_calls")?.as_array_mut()).flatten();
        for call in calls {
            let arguments = &mut call["function"]["arguments"];
            // Templates write arguments with `tojson`, which would quote the string once more.
            if let Some(object) = arguments.as_str().and_then(|text| serde_json::from_str(text).ok()) {
                *arguments = object;
            }
        }
        let mut tools =
            if request.tools.is_empty() { Value::Null } else { Value::Array(request.tools.clone()) };
        let mut variables = Value::Object(request.variables.clone());
        for value in [&mut messages, &mut tools, &mut variables] {
            guard::clean(value);
        }
        let space = match request.end {
            ChatEnd::Continue => mark_cut(&mut messages),
            ChatEnd::Answer | ChatEnd::Nothing => String::new(),
        };
        let Value::Object(variables) = variables else { unreachable!("an object stays one") };
        Self { messages, tools, variables, space }
    }

    fn marked(mut self, request: &ChatRequest, names: &TokenNames, marks: Marks) -> Self {
        for (message, original) in self.messages.as_array_mut().into_iter().flatten().zip(&request.messages) {
            let message = message.as_object_mut().expect("messages are objects");
            guard::mark_message(message, original.is_trusted, names, marks);
        }
        guard::mark(&mut self.tools, names, marks);
        for value in self.variables.values_mut() {
            guard::mark(value, names, marks);
        }
        self
    }
}

/// Puts the place where the prompt is cut behind the last message, and a space behind that: it tells whether
/// the template takes the white space at the end of a message away. Returns that of this message.
fn mark_cut(messages: &mut Value) -> String {
    let last = messages.as_array_mut().and_then(|messages| messages.last_mut());
    let content = last.and_then(|message| match &mut message["content"] {
        Value::Array(parts) => parts.last_mut().and_then(|part| part.get_mut("text")),
        content => Some(content),
    });
    let Some(Value::String(text)) = content else { return String::new() };
    let space = text[text.trim_end().len()..].to_owned();
    text.push(guard::CUT);
    text.push(' ');
    space
}

/// The rendered text up to the end of the last message, which ended in `space`.
fn cut(text: &str, space: &str) -> Result<String, ChatError> {
    let (before, after) = text.rsplit_once(guard::CUT).ok_or(ChatError::Continue)?;
    let kept = if after.starts_with(' ') { before } else { before.strip_suffix(space).unwrap_or(before) };
    Ok(kept.replace(guard::CUT, ""))
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChatTemplate({} bytes)", self.source.len())
    }
}

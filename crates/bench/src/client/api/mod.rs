//! What is spoken with a server: how a request's body is made, on which route. Answers are read by one reader for all,
//! see `event`; but for a program of pie, which is launched and not asked.

mod chat;
mod completions;
mod generate;
mod template;

use serde_json::{Map, Value};

use crate::dataset::{Message, Prompt};

/// What a body is made of.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The model to name.
    pub model: Option<&'a str>,
    /// What is asked.
    pub prompt: &'a Prompt,
    /// The session's messages so far.
    pub history: &'a [Message],
    /// Tokens to request; zero leaves it to the server.
    pub output_tokens: u32,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Members that replace those of the API.
    pub extra: [&'a Map<String, Value>; 2],
}

/// An API of servers.
pub struct Spec {
    /// Its name and other tools' names of it.
    pub names: &'static [&'static str],
    /// Its route.
    pub route: &'static str,
    /// Makes the members of the body.
    pub body: fn(&Ask<'_>) -> Result<Map<String, Value>, String>,
}

/// A program of pie that each request launches over a session, WebSocket at `/v1/session`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Its name, or the hash of one that was uploaded.
    pub program: String,
    /// Its arguments, in which `{prompt}`, `{max_tokens}` and `{model}` are replaced.
    pub arguments: Vec<String>,
}

impl Launch {
    /// The arguments of a request.
    ///
    /// # Errors
    /// That the prompt is no text.
    pub fn arguments(&self, ask: &Ask<'_>) -> Result<Vec<String>, String> {
        let replace = template::replacement(ask)?;
        Ok(self.arguments.iter().map(|argument| replace(argument)).collect())
    }
}

/// Every API but the raw template and the launch of a program.
pub const TABLE: [Spec; 3] = [completions::SPEC, chat::SPEC, generate::SPEC];

/// What is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Api {
    /// A row of [`TABLE`].
    Known(usize),
    /// A text, in which `{prompt}`, `{max_tokens}` and `{model}` are replaced.
    Template(String),
    /// A program that is launched.
    Program(Launch),
}

impl Api {
    /// `/v1/completions`.
    pub const COMPLETIONS: Self = Self::Known(0);
    /// `/v1/chat/completions`.
    pub const CHAT: Self = Self::Known(1);
    /// SGLang's `/generate`.
    pub const GENERATE: Self = Self::Known(2);

    /// The API of this name.
    pub fn find(name: &str) -> Option<Self> {
        TABLE.iter().position(|spec| spec.names.contains(&name)).map(Self::Known)
    }

    /// The names of all APIs.
    pub fn names() -> Vec<&'static str> {
        TABLE.iter().flat_map(|spec| spec.names.iter().copied()).collect()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(index) => TABLE[*index].names[0],
            Self::Template(_) => "template",
            Self::Program(_) => "program",
        }
    }

    /// Whether what is sent is the user's, who names a model if there is one.
    pub fn is_users(&self) -> bool {
        matches!(self, Self::Template(_) | Self::Program(_))
    }

    /// Its route.
    pub fn route(&self) -> &str {
        match self {
            Self::Known(index) => TABLE[*index].route,
            Self::Template(_) => "/",
            Self::Program(_) => "/v1/session",
        }
    }

    /// The body of a request; of a launch, its arguments.
    ///
    /// # Errors
    /// What this API cannot ask, in words.
    pub fn body(&self, ask: &Ask<'_>) -> Result<Vec<u8>, String> {
        let mut body = match self {
            Self::Known(index) => (TABLE[*index].body)(ask)?,
            Self::Template(text) => match template::fill(text, ask)? {
                template::Filled::Object(object) => object,
                template::Filled::Raw(bytes) => return Ok(bytes),
            },
            Self::Program(launch) => {
                return serde_json::to_vec(&launch.arguments(ask)?).map_err(|error| error.to_string());
            }
        };
        for (name, value) in ask.extra.into_iter().flatten() {
            // A member that is null takes the API's own away.
            if value.is_null() {
                body.remove(name)
            } else {
                body.insert(name.clone(), value.clone())
            };
        }
        serde_json::to_vec(&body).map_err(|error| error.to_string())
    }
}

/// The whole text of a request: the session so far and what is new, for APIs that continue a text.
fn as_text(ask: &Ask<'_>) -> Option<String> {
    let new = ask.prompt.text()?;
    if ask.history.is_empty() {
        return Some(new);
    }
    let mut text = String::new();
    for message in ask.history {
        text.push_str(&message.content);
        text.push('\n');
    }
    Some(text + &new)
}

//! One thing to ask.

use serde::{Deserialize, Serialize};

use crate::clock::Nanos;

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What it says.
    pub content: String,
}

impl Message {
    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".into(), content: content.into() }
    }

    /// A message of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant".into(), content: content.into() }
    }

    /// A message that sets the scene.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: "system".into(), content: content.into() }
    }
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Text to be continued.
    Text(String),
    /// The ids of its tokens.
    Tokens(Vec<u32>),
    /// A conversation; in a session, the messages that are new with this turn.
    Chat(Vec<Message>),
}

impl Prompt {
    /// As messages: a text is one of the user's. `None` for token ids, which no conversation can hold.
    pub fn messages(&self) -> Option<Vec<Message>> {
        match self {
            Self::Text(text) => Some(vec![Message::user(text.as_str())]),
            Self::Chat(messages) => Some(messages.clone()),
            Self::Tokens(_) => None,
        }
    }

    /// As text: the contents of messages, a line each. `None` for token ids.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Chat(messages) => {
                let contents: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
                Some(contents.join("\n"))
            }
            Self::Tokens(_) => None,
        }
    }
}

/// One thing to ask, with what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What is sent.
    pub prompt: Prompt,
    /// Tokens of the prompt; zero where unknown. In a session those of this turn's messages.
    pub prompt_tokens: u32,
    /// Tokens to request; zero leaves it to the server.
    pub output_tokens: u32,
    /// The session it is of. Its turns are sent one after the other, with the answers so far.
    pub session: Option<u32>,
    /// Which turn, from zero.
    pub turn: u32,
    /// When a trace has it, from the trace's start.
    pub at: Option<Nanos>,
    /// Pause between the end of the turn before and this one.
    pub think: Nanos,
    /// The trace's names for the prompt's blocks, first block first.
    pub blocks: Vec<u64>,
    /// The answer that was recorded, where the source has one.
    pub reply: Option<String>,
    /// Members of the request's body beyond those of the run.
    pub extra_body: serde_json::Map<String, serde_json::Value>,
}

impl Sample {
    /// A sample on its own.
    pub fn new(prompt: Prompt, prompt_tokens: u32, output_tokens: u32) -> Self {
        Self {
            prompt,
            prompt_tokens,
            output_tokens,
            session: None,
            turn: 0,
            at: None,
            think: Nanos(0),
            blocks: Vec::new(),
            reply: None,
            extra_body: serde_json::Map::new(),
        }
    }
}

//! An answer taken apart: content, reasoning, calls.

use inferlet::Model;
use inferlet::bindings::pie::inferlet::answer::{self, Part, ReaderOptions};

use super::Tools;
use crate::Result;
use crate::completions::random;

/// A call of a tool.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The text of a JSON object.
    pub(crate) arguments: String,
}

/// The whole message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) content: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) reasoning_tokens: usize,
}

/// More of the message.
#[derive(Clone, Debug)]
pub(crate) enum Delta {
    Content(String),
    Reasoning(String),
    CallBegin {
        index: usize,
        call: Call,
    },
    CallArguments {
        index: usize,
        json: String,
    },
    CallEnd,
    /// The last call is none: its markup was wrong, or the answer ended within it. It comes as content.
    CallFailed,
}

/// Reads an answer while the model writes it.
pub(crate) struct Reader {
    reader: answer::Reader,
    message: Message,
    in_reasoning: bool,
}

impl Reader {
    pub(crate) fn new(model: &Model, tools: &Tools, in_reasoning: bool) -> Result<Reader> {
        let tools = tools.offered().map(str::to_string);
        let reader =
            answer::Reader::create(model.handle(), &ReaderOptions { tools, any_tool: false, in_reasoning })?;
        Ok(Reader { reader, message: Message::default(), in_reasoning })
    }

    /// More text, of so many tokens.
    pub(crate) fn read(&mut self, text: &str, tokens: usize) -> Result<Vec<Delta>> {
        let was_reasoning = self.in_reasoning;
        let parts = self.reader.read(text)?;
        let deltas = self.take(parts);
        if was_reasoning || self.in_reasoning {
            self.message.reasoning_tokens += tokens;
        }
        Ok(deltas)
    }

    /// Tokens of reasoning so far.
    pub(crate) fn reasoning_tokens(&self) -> usize {
        self.message.reasoning_tokens
    }

    /// The answer has ended.
    pub(crate) fn finish(&mut self) -> Vec<Delta> {
        let parts = self.reader.finish();
        self.take(parts)
    }

    pub(crate) fn into_message(self) -> Message {
        self.message
    }

    fn take(&mut self, parts: Vec<Part>) -> Vec<Delta> {
        let mut deltas = Vec::new();
        for part in parts {
            self.in_reasoning = matches!(part, Part::Reasoning(_));
            match part {
                Part::Content(text) => {
                    self.message.content.push_str(&text);
                    deltas.push(Delta::Content(text));
                }
                Part::Reasoning(text) => {
                    self.message.reasoning.push_str(&text);
                    deltas.push(Delta::Reasoning(text));
                }
                Part::CallBegin(name) => {
                    let id = format!("call_{:016x}", random());
                    let call = Call { id, name, arguments: String::new() };
                    self.message.calls.push(call.clone());
                    deltas.push(Delta::CallBegin { index: self.message.calls.len() - 1, call });
                }
                Part::CallArguments(json) => {
                    let index = self.message.calls.len().saturating_sub(1);
                    if let Some(call) = self.message.calls.last_mut() {
                        call.arguments.push_str(&json);
                    }
                    deltas.push(Delta::CallArguments { index, json });
                }
                Part::CallEnd => deltas.push(Delta::CallEnd),
                Part::CallFailed => {
                    self.message.calls.pop();
                    deltas.push(Delta::CallFailed);
                }
            }
        }
        deltas
    }
}

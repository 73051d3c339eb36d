//! An answer taken apart: content, reasoning, calls.

use inferlet::bindings::pie::inferlet::answer::{self, Part, ReaderOptions};
use inferlet::{Model, Value, json};

use super::Tools;
use crate::Result;
use crate::completions::random;

/// A call of a tool.
#[derive(Clone, Debug)]
pub(super) struct Call {
    id: String,
    name: String,
    arguments: String,
}

/// The whole message.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    content: String,
    reasoning: String,
    pub(super) calls: Vec<Call>,
    pub(super) reasoning_tokens: usize,
}

impl Message {
    /// As the API has it.
    pub(super) fn shown(&self) -> Value {
        let mut message = json!({ "role": "assistant", "content": self.content, "refusal": null });
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = json!(self.reasoning);
        }
        if !self.calls.is_empty() {
            if self.content.is_empty() {
                message["content"] = Value::Null;
            }
            let call = |call: &Call| {
                let function = json!({ "name": call.name, "arguments": call.arguments });
                json!({ "id": call.id, "type": "function", "function": function })
            };
            message["tool_calls"] = self.calls.iter().map(call).collect();
        }
        message
    }
}

/// More of the message.
#[derive(Debug)]
pub(super) enum Delta {
    Content(String),
    Reasoning(String),
    CallBegin { index: usize, call: Call },
    CallArguments { index: usize, json: String },
}

impl Delta {
    pub(super) fn is_reasoning(&self) -> bool {
        matches!(self, Delta::Reasoning(_))
    }

    /// As the API has it.
    pub(super) fn shown(self) -> Value {
        match self {
            Delta::Content(text) => json!({ "content": text }),
            Delta::Reasoning(text) => json!({ "reasoning_content": text }),
            Delta::CallBegin { index, call } => {
                let function = json!({ "name": call.name, "arguments": "" });
                let call = json!({ "index": index, "id": call.id, "type": "function", "function": function });
                json!({ "tool_calls": [call] })
            }
            Delta::CallArguments { index, json } => {
                json!({ "tool_calls": [{ "index": index, "function": { "arguments": json } }] })
            }
        }
    }
}

/// Reads an answer while the model writes it.
pub(super) struct Reader {
    reader: answer::Reader,
    message: Message,
    in_reasoning: bool,
}

impl Reader {
    pub(super) fn new(model: &Model, tools: &Tools, in_reasoning: bool) -> Result<Reader> {
        let tools = tools.offered().map(str::to_string);
        let reader =
            answer::Reader::create(model.handle(), &ReaderOptions { tools, any_tool: false, in_reasoning })?;
        Ok(Reader { reader, message: Message::default(), in_reasoning })
    }

    /// More text, of so many tokens.
    pub(super) fn read(&mut self, text: &str, tokens: usize) -> Result<Vec<Delta>> {
        let was_reasoning = self.in_reasoning;
        let parts = self.reader.read(text)?;
        let deltas = self.take(parts);
        if was_reasoning || self.in_reasoning {
            self.message.reasoning_tokens += tokens;
        }
        Ok(deltas)
    }

    /// The answer has ended.
    pub(super) fn finish(&mut self) -> Vec<Delta> {
        let parts = self.reader.finish();
        self.take(parts)
    }

    pub(super) fn into_message(mut self, with_reasoning: bool) -> Message {
        if !with_reasoning {
            self.message.reasoning.clear();
        }
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
                Part::CallEnd => {}
                // A client that was told of it sees arguments that are no JSON, and the markup as content.
                Part::CallFailed => drop(self.message.calls.pop()),
            }
        }
        deltas
    }
}

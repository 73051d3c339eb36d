//! An answer as the chat route shows it.

use inferlet::{Value, json};

use crate::turn::reader::{Call, Delta, Message};

/// A whole message.
pub(super) fn message(message: &Message, with_reasoning: bool) -> Value {
    let mut shown = json!({ "role": "assistant", "content": message.content, "refusal": null });
    if with_reasoning && !message.reasoning.is_empty() {
        shown["reasoning_content"] = json!(message.reasoning);
    }
    if !message.calls.is_empty() {
        if message.content.is_empty() {
            shown["content"] = Value::Null;
        }
        let call = |call: &Call| {
            let function = json!({ "name": call.name, "arguments": call.arguments });
            json!({ "id": call.id, "type": "function", "function": function })
        };
        shown["tool_calls"] = message.calls.iter().map(call).collect();
    }
    shown
}

/// A piece of one; none where a client is not told.
pub(super) fn delta(delta: Delta, with_reasoning: bool) -> Option<Value> {
    match delta {
        Delta::Content(text) => Some(json!({ "content": text })),
        Delta::Reasoning(text) => with_reasoning.then(|| json!({ "reasoning_content": text })),
        Delta::CallBegin { index, call } => {
            let function = json!({ "name": call.name, "arguments": "" });
            let call = json!({ "index": index, "id": call.id, "type": "function", "function": function });
            Some(json!({ "tool_calls": [call] }))
        }
        Delta::CallArguments { index, json } => {
            Some(json!({ "tool_calls": [{ "index": index, "function": { "arguments": json } }] }))
        }
        // A client that was told of one that failed sees arguments that are no JSON, and the markup as content.
        Delta::CallEnd | Delta::CallFailed => None,
    }
}

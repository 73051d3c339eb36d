//! The content of an answer in blocks, and the events that tell a client how they grow.

use inferlet::{Value, json, serde_json};

use crate::turn::reader::Delta;

/// The blocks so far. What the model does last is in the open one.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    blocks: Vec<Value>,
    /// Blocks that a client was told of before the open one: more than there are, where a call was none.
    index: usize,
    is_open: bool,
    /// The text of the open block's input.
    input: String,
}

impl Blocks {
    /// All of them, as the API has it.
    pub(super) fn shown(self) -> Value {
        Value::Array(self.blocks)
    }

    /// More of the answer; the events that say so.
    pub(super) fn take(&mut self, delta: Delta) -> Vec<Value> {
        let mut events = Vec::new();
        match delta {
            Delta::Content(text) => {
                events.extend(self.open(json!({ "type": "text", "text": "" })));
                events.push(self.append("text", &text, json!({ "type": "text_delta", "text": text })));
            }
            Delta::Reasoning(text) => {
                events.extend(self.open(json!({ "type": "thinking", "thinking": "", "signature": "" })));
                let delta = json!({ "type": "thinking_delta", "thinking": text });
                events.push(self.append("thinking", &text, delta));
            }
            Delta::CallBegin { call, .. } => {
                events.extend(self.close());
                let block = json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": {} });
                events.extend(self.open(block));
            }
            Delta::CallArguments { json, .. } => {
                self.input.push_str(&json);
                events.push(self.changed(json!({ "type": "input_json_delta", "partial_json": json })));
            }
            Delta::CallEnd => events.extend(self.close()),
            Delta::CallFailed => {
                events.extend(self.close());
                self.blocks.pop();
            }
        }
        events
    }

    /// The answer has ended.
    pub(super) fn finish(&mut self) -> Vec<Value> {
        self.close()
    }

    /// Begins a block, unless one of this type is open.
    fn open(&mut self, block: Value) -> Vec<Value> {
        if self.is_open && self.blocks.last().is_some_and(|open| open["type"] == block["type"]) {
            return Vec::new();
        }
        let mut events = self.close();
        events.push(json!({ "type": "content_block_start", "index": self.index, "content_block": block }));
        self.blocks.push(block);
        self.is_open = true;
        events
    }

    fn append(&mut self, field: &str, text: &str, delta: Value) -> Value {
        let block = self.blocks.last_mut().expect("one is open");
        block[field] = json!(block[field].as_str().unwrap_or_default().to_string() + text);
        self.changed(delta)
    }

    fn changed(&self, delta: Value) -> Value {
        json!({ "type": "content_block_delta", "index": self.index, "delta": delta })
    }

    fn close(&mut self) -> Vec<Value> {
        if !std::mem::take(&mut self.is_open) {
            return Vec::new();
        }
        let block = self.blocks.last_mut().expect("one is open");
        let input = std::mem::take(&mut self.input);
        if block["type"] == "tool_use" {
            // One that is no JSON is a call that failed, and goes.
            block["input"] = serde_json::from_str(&input).unwrap_or_else(|_| json!({}));
        }
        let event = json!({ "type": "content_block_stop", "index": self.index });
        self.index += 1;
        vec![event]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::reader::Call;

    fn call() -> Delta {
        let (id, name, arguments) = ("1".to_string(), "look".to_string(), String::new());
        Delta::CallBegin { index: 0, call: Call { id, name, arguments } }
    }

    fn arguments(json: &str) -> Delta {
        Delta::CallArguments { index: 0, json: json.to_string() }
    }

    /// The blocks, and the events in short: type, and index.
    fn of(deltas: Vec<Delta>) -> (Value, Vec<String>) {
        let mut blocks = Blocks::default();
        let mut events: Vec<Value> = deltas.into_iter().flat_map(|delta| blocks.take(delta)).collect();
        events.extend(blocks.finish());
        let short = |event: &Value| format!("{} {}", event["type"].as_str().unwrap(), event["index"]);
        let events = events.iter().map(short).map(|event| event.replace("content_block_", "")).collect();
        (blocks.shown(), events)
    }

    #[test]
    fn pieces_of_a_kind_are_one_block() {
        let (blocks, events) = of(vec![
            Delta::Reasoning("so".to_string()),
            Delta::Content("a".to_string()),
            Delta::Content("b".to_string()),
            call(),
            arguments("{\"at\":"),
            arguments("1}"),
            Delta::CallEnd,
        ]);
        let expected = json!([
            { "type": "thinking", "thinking": "so", "signature": "" },
            { "type": "text", "text": "ab" },
            { "type": "tool_use", "id": "1", "name": "look", "input": { "at": 1 } },
        ]);
        assert_eq!(blocks, expected);
        let expected = [
            "start 0", "delta 0", "stop 0", "start 1", "delta 1", "delta 1", "stop 1", "start 2", "delta 2",
            "delta 2", "stop 2",
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn a_call_that_fails_is_text() {
        let (blocks, events) =
            of(vec![call(), arguments("{"), Delta::CallFailed, Delta::Content("<c".to_string())]);
        assert_eq!(blocks, json!([{ "type": "text", "text": "<c" }]));
        assert_eq!(events, ["start 0", "delta 0", "stop 0", "start 1", "delta 1", "stop 1"]);
    }
}

//! What an answer has done, as items, and the events that tell a client how they grow.

use inferlet::{Value, json};

use super::items::new_id;
use crate::turn::reader::Delta;

/// The items so far. What the model does last is in the open one.
#[derive(Debug, Default)]
pub(super) struct Output {
    items: Vec<Value>,
    is_open: bool,
}

impl Output {
    /// The items.
    pub(super) fn items(&self) -> Value {
        json!(self.items)
    }

    /// More of the answer; the events that say so.
    pub(super) fn take(&mut self, delta: Delta) -> Vec<Value> {
        match delta {
            Delta::Content(text) => self.take_text("message", &text),
            Delta::Reasoning(text) => self.take_text("reasoning", &text),
            Delta::CallBegin { call, .. } => {
                let mut events = self.close("completed");
                events.extend(self.open(json!({
                    "type": "function_call",
                    "id": new_id("fc"),
                    "status": "in_progress",
                    "call_id": call.id,
                    "name": call.name,
                    "arguments": "",
                })));
                events
            }
            Delta::CallArguments { json, .. } => {
                append(&mut self.last()["arguments"], &json);
                vec![self.event("response.function_call_arguments.delta", json!({ "delta": json }))]
            }
            Delta::CallEnd => self.close("completed"),
            Delta::CallFailed => self.close("incomplete"),
        }
    }

    /// The answer has ended; whether before its end.
    pub(super) fn finish(&mut self, is_cut: bool) -> Vec<Value> {
        self.close(if is_cut { "incomplete" } else { "completed" })
    }

    /// More text of a message or of reasoning.
    fn take_text(&mut self, kind: &str, text: &str) -> Vec<Value> {
        let mut events = Vec::new();
        if !self.is_open || self.items.last().is_some_and(|item| item["type"] != kind) {
            events.extend(self.close("completed"));
            events.extend(self.open(match kind {
                "message" => json!({
                    "type": kind,
                    "id": new_id("msg"),
                    "status": "in_progress",
                    "role": "assistant",
                    "content": [],
                }),
                _ => json!({
                    "type": kind,
                    "id": new_id("rs"),
                    "status": "in_progress",
                    "summary": [],
                    "content": [],
                }),
            }));
            let part = match kind {
                "message" => json!({ "type": "output_text", "text": "", "annotations": [], "logprobs": [] }),
                _ => json!({ "type": "reasoning_text", "text": "" }),
            };
            self.last()["content"] = json!([part]);
            events
                .push(self.event("response.content_part.added", json!({ "content_index": 0, "part": part })));
        }
        append(&mut self.last()["content"][0]["text"], text);
        let name = self.text_event("delta");
        events.push(self.event(&name, with_logprobs(kind, json!({ "content_index": 0, "delta": text }))));
        events
    }

    fn text_event(&mut self, what: &str) -> String {
        format!("response.{}.{what}", self.last()["content"][0]["type"].as_str().unwrap_or_default())
    }

    fn open(&mut self, item: Value) -> Vec<Value> {
        self.items.push(item);
        self.is_open = true;
        vec![self.item_event("response.output_item.added")]
    }

    fn close(&mut self, status: &str) -> Vec<Value> {
        if !std::mem::take(&mut self.is_open) {
            return Vec::new();
        }
        let mut events = Vec::new();
        let item = self.last().clone();
        let kind = item["type"].as_str().unwrap_or_default();
        if kind == "function_call" {
            let done = json!({ "name": item["name"], "arguments": item["arguments"] });
            events.push(self.event("response.function_call_arguments.done", done));
        } else {
            let part = &item["content"][0];
            let name = self.text_event("done");
            let done = json!({ "content_index": 0, "text": part["text"] });
            events.push(self.event(&name, with_logprobs(kind, done)));
            events
                .push(self.event("response.content_part.done", json!({ "content_index": 0, "part": part })));
        }
        self.last()["status"] = json!(status);
        events.push(self.item_event("response.output_item.done"));
        events
    }

    fn last(&mut self) -> &mut Value {
        self.items.last_mut().expect("an item is open")
    }

    /// An event about the open item, with all of it.
    fn item_event(&self, name: &str) -> Value {
        json!({ "type": name, "output_index": self.items.len() - 1, "item": self.items.last() })
    }

    /// An event about the open item, with these fields.
    fn event(&self, name: &str, fields: Value) -> Value {
        let id = self.items.last().map(|item| item["id"].clone());
        let mut event = json!({ "type": name, "item_id": id, "output_index": self.items.len() - 1 });
        for (field, value) in fields.as_object().into_iter().flatten() {
            event[field] = value.clone();
        }
        event
    }
}

/// Events about the text of a message have a list of log-probabilities, which nobody can ask for.
fn with_logprobs(kind: &str, mut event: Value) -> Value {
    if kind == "message" {
        event["logprobs"] = json!([]);
    }
    event
}

fn append(text: &mut Value, more: &str) {
    *text = json!(text.as_str().unwrap_or_default().to_string() + more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::reader::Call;

    fn of(deltas: Vec<Delta>, is_cut: bool) -> (Vec<Value>, Vec<String>) {
        let mut output = Output::default();
        let mut events: Vec<Value> = deltas.into_iter().flat_map(|delta| output.take(delta)).collect();
        events.extend(output.finish(is_cut));
        for event in &events {
            let item = &output.items[event["output_index"].as_u64().unwrap() as usize];
            let id = if event["item"].is_null() { &event["item_id"] } else { &event["item"]["id"] };
            assert_eq!(id, &item["id"], "{event}");
        }
        let name = |event: &Value| event["type"].as_str().unwrap().replace("response.", "");
        let names = events.iter().map(name).collect();
        (output.items, names)
    }

    fn call() -> Delta {
        let (id, name, arguments) = ("1".to_string(), "look".to_string(), String::new());
        Delta::CallBegin { index: 0, call: Call { id, name, arguments } }
    }

    #[test]
    fn items_are_told_from_their_beginning_to_their_end() {
        let text = |text: &str| Delta::Content(text.to_string());
        let arguments = Delta::CallArguments { index: 0, json: "{}".to_string() };
        let deltas =
            vec![Delta::Reasoning("so".to_string()), text("a"), text("b"), call(), arguments, Delta::CallEnd];
        let (items, events) = of(deltas, false);
        let kinds: Vec<&str> = items.iter().map(|item| item["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["reasoning", "message", "function_call"]);
        assert_eq!(items[0]["content"][0]["text"], "so");
        assert_eq!(items[1]["content"][0]["text"], "ab");
        assert_eq!((&items[2]["call_id"], &items[2]["arguments"]), (&json!("1"), &json!("{}")));
        assert!(items.iter().all(|item| item["status"] == "completed"));
        let expected = [
            "output_item.added",
            "content_part.added",
            "reasoning_text.delta",
            "reasoning_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
        ];
        assert_eq!(events, expected);
    }

    #[test]
    fn what_is_cut_off_is_incomplete() {
        let (items, _) = of(vec![Delta::Content("a".to_string())], true);
        assert_eq!(items[0]["status"], "incomplete");
        let (items, _) = of(vec![call(), Delta::CallFailed, Delta::Content("<c".to_string())], false);
        assert_eq!((&items[0]["status"], &items[1]["status"]), (&json!("incomplete"), &json!("completed")));
    }
}

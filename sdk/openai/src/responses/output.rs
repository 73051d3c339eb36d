//! What an answer has done, as items, and the events that tell a client how they grow.

use std::collections::BTreeMap;

use inferlet::{Value, json};

use super::items::new_id;
use crate::turn::reader::Delta;

/// The items so far. What the model does last is in the open one.
#[derive(Debug, Default)]
pub(super) struct Output {
    items: Vec<Value>,
    is_open: bool,
    /// Tools that the server calls itself, each with the label of its MCP server.
    labels: BTreeMap<String, String>,
}

impl Output {
    /// Nothing yet, of an answer that may call tools of MCP servers.
    pub(super) fn new(labels: BTreeMap<String, String>) -> Output {
        Output { labels, ..Output::default() }
    }

    /// The items.
    pub(super) fn items(&self) -> &[Value] {
        &self.items
    }

    /// An item that is there as a whole: the tools of an MCP server.
    pub(super) fn list(&mut self, mut item: Value) -> Vec<Value> {
        let tools = std::mem::replace(&mut item["tools"], json!([]));
        self.items.push(item);
        let mut events = vec![
            self.item_event("response.output_item.added"),
            self.event("response.mcp_list_tools.in_progress", json!({})),
        ];
        self.last()["tools"] = tools;
        events.push(self.event("response.mcp_list_tools.completed", json!({})));
        events.push(self.item_event("response.output_item.done"));
        events
    }

    /// The calls that the server has to make.
    pub(super) fn pending(&self) -> Vec<usize> {
        let is_pending = |item: &Value| item["type"] == "mcp_call" && item["status"] == "in_progress";
        (0..self.items.len()).filter(|at| is_pending(&self.items[*at])).collect()
    }

    /// A call was made: what it gave, or how it failed.
    pub(super) fn called(&mut self, at: usize, answer: Result<String, String>) -> Vec<Value> {
        let status = if answer.is_ok() { "completed" } else { "failed" };
        let item = &mut self.items[at];
        item["status"] = json!(status);
        match answer {
            Ok(text) => item["output"] = json!(text),
            Err(error) => item["error"] = json!(error),
        }
        vec![
            self.event_at(at, &format!("response.mcp_call.{status}"), json!({})),
            self.item_event_at(at, "response.output_item.done"),
        ]
    }

    /// More of the answer; the events that say so.
    pub(super) fn take(&mut self, delta: Delta) -> Vec<Value> {
        match delta {
            Delta::Content(text) => self.take_text("message", &text),
            Delta::Reasoning(text) => self.take_text("reasoning", &text),
            Delta::CallBegin { call, .. } => {
                let mut events = self.close("completed");
                if let Some(label) = self.labels.get(&call.name) {
                    events.extend(self.open(json!({
                        "type": "mcp_call",
                        "id": new_id("mcp"),
                        "status": "in_progress",
                        "approval_request_id": null,
                        "server_label": label,
                        "name": call.name,
                        "arguments": "",
                        "output": null,
                        "error": null,
                    })));
                    events.push(self.event("response.mcp_call.in_progress", json!({})));
                    return events;
                }
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
                let name = self.arguments_event("delta");
                vec![self.event(&name, json!({ "delta": json }))]
            }
            Delta::CallEnd => self.close("completed"),
            Delta::CallFailed => self.close("incomplete"),
        }
    }

    /// The answer has ended, or what the model says until its calls are made; whether before its end. Calls of an answer
    /// that is cut off are not made.
    pub(super) fn finish(&mut self, is_cut: bool) -> Vec<Value> {
        if !is_cut {
            return self.close("completed");
        }
        let mut events = self.close("incomplete");
        for at in self.pending() {
            self.items[at]["status"] = json!("incomplete");
            events.push(self.event_at(at, "response.mcp_call.failed", json!({})));
            events.push(self.item_event_at(at, "response.output_item.done"));
        }
        events
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

    fn arguments_event(&mut self, what: &str) -> String {
        format!("response.{}_arguments.{what}", self.last()["type"].as_str().unwrap_or_default())
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
        if kind == "mcp_call" {
            let name = self.arguments_event("done");
            events.push(self.event(&name, json!({ "arguments": item["arguments"] })));
            if status == "completed" {
                // The call itself is yet to come.
                return events;
            }
            events.push(self.event("response.mcp_call.failed", json!({})));
        } else if kind == "function_call" {
            let name = self.arguments_event("done");
            let done = json!({ "name": item["name"], "arguments": item["arguments"] });
            events.push(self.event(&name, done));
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
        self.item_event_at(self.items.len() - 1, name)
    }

    /// An event about the open item, with these fields.
    fn event(&self, name: &str, fields: Value) -> Value {
        self.event_at(self.items.len() - 1, name, fields)
    }

    fn item_event_at(&self, at: usize, name: &str) -> Value {
        json!({ "type": name, "output_index": at, "item": self.items[at] })
    }

    fn event_at(&self, at: usize, name: &str, fields: Value) -> Value {
        let mut event = json!({ "type": name, "item_id": self.items[at]["id"], "output_index": at });
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

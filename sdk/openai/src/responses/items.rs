//! Items: what a request says, and what answers said before, as messages of a conversation.
//!
//! What the assistant did in one turn is one message, as templates have it:
//!
//! ```text
//! reasoning, message, function_call, function_call     an `assistant` message with its reasoning and two calls
//! function_call_output                                 a `tool` message
//! mcp_call, mcp_call                                   an `assistant` message with two calls, and two `tool` messages
//! mcp_list_tools                                       nothing
//! ```

use inferlet::{Chat, Message, Value, json};

use crate::completions::random;
use crate::fields::kind;
use crate::{ApiError, Fields, Result};

/// `input` of a request, as items with ids.
pub(super) fn read(fields: &mut Fields) -> Result<Vec<Value>> {
    let param = fields.name("input");
    let mut items = match fields.required("input")? {
        Value::String(text) => vec![json!({ "type": "message", "role": "user", "content": text })],
        Value::Array(items) => items,
        other => {
            let message = format!("expected a text or items, found {}", kind(&other));
            return Err(ApiError::invalid(&param, message));
        }
    };
    if items.is_empty() {
        return Err(ApiError::invalid(&param, "there is no item"));
    }
    for (at, item) in items.iter_mut().enumerate() {
        complete(item, &format!("{param}[{at}]"))?;
    }
    Ok(items)
}

/// Adds what an item may leave out: its type, its id, the parts of its content.
fn complete(item: &mut Value, param: &str) -> Result<()> {
    if !item.is_object() {
        return Err(ApiError::invalid(param, format!("expected an object, found {}", kind(item))));
    }
    if item["type"].is_null() {
        item["type"] = json!("message");
    }
    let prefix = match item["type"].as_str() {
        Some("message") => "msg",
        Some("reasoning") => "rs",
        Some("function_call") => "fc",
        Some("function_call_output") => "fco",
        Some("mcp_call") => "mcp",
        Some("mcp_list_tools") => "mcpl",
        _ => {
            let known = "`message`, `reasoning`, `function_call`, `function_call_output`, `mcp_call` and \
                `mcp_list_tools` are";
            let message = format!("{} is not supported: {known}", item["type"]);
            return Err(ApiError::unsupported(&format!("{param}.type"), message));
        }
    };
    if item["id"].is_null() {
        item["id"] = json!(new_id(prefix));
    }
    if let (Some("message"), Value::String(text)) = (item["type"].as_str(), &item["content"]) {
        let kind = if item["role"] == "assistant" { "output_text" } else { "input_text" };
        item["content"] = json!([{ "type": kind, "text": text }]);
    }
    Ok(())
}

/// An id of an item.
pub(super) fn new_id(prefix: &str) -> String {
    format!("{prefix}_{:016x}", random())
}

/// A conversation that grows item by item.
pub(super) struct Conversation<'a> {
    chat: &'a mut Chat,
    /// What the assistant has done in this turn.
    assistant: Option<Message>,
    calls: Vec<Value>,
    /// Of these, those that the server has made: their ids and what they gave.
    results: Vec<(String, String)>,
    /// The calls so far.
    call_ids: Vec<String>,
}

impl Conversation<'_> {
    pub(super) fn new(chat: &mut Chat) -> Conversation<'_> {
        Conversation { chat, assistant: None, calls: Vec::new(), results: Vec::new(), call_ids: Vec::new() }
    }

    /// Adds items; `param` says where they are, for errors.
    pub(super) fn add(&mut self, items: &[Value], param: &str) -> Result<()> {
        for (at, item) in items.iter().enumerate() {
            self.add_item(Fields::of_value(item.clone(), &format!("{param}[{at}]"))?)?;
        }
        Ok(())
    }

    /// All items have been added.
    pub(super) fn finish(mut self) {
        self.end_turn();
    }

    fn add_item(&mut self, mut item: Fields) -> Result<()> {
        let item_id: Option<String> = item.get("id")?;
        let kind: String = item.required("type")?;
        let is_whole = item.get::<String>("status")?.as_deref() != Some("incomplete");
        match kind.as_str() {
            "message" => {
                let role: String = item.required("role")?;
                let text = text_of(&mut item, "content")?;
                item.ignore(&["phase"]);
                self.message(&role, text, &item)?;
            }
            "reasoning" => {
                item.ignore(&["summary", "encrypted_content"]);
                let text = text_of(&mut item, "content")?;
                self.reasoning(&text);
            }
            "function_call" => {
                let (id, name): (String, String) = (item.required("call_id")?, item.required("name")?);
                let arguments: String = item.required("arguments")?;
                // The markup of one that was cut off follows as a message.
                if is_whole {
                    self.call(id, &name, &arguments);
                }
            }
            "function_call_output" => {
                let id: String = item.required("call_id")?;
                let text = text_of(&mut item, "output")?;
                if !self.call_ids.contains(&id) {
                    let message = format!("there is no call `{id}` before it");
                    return Err(ApiError::invalid(&item.name("call_id"), message));
                }
                self.end_turn();
                self.chat.add(Message { tool_call_id: Some(id), ..Message::new("tool", &text) });
            }
            "mcp_list_tools" => item.ignore(&["server_label", "tools", "error"]),
            "mcp_call" => {
                item.ignore(&["server_label", "approval_request_id"]);
                let (name, arguments): (String, String) =
                    (item.required("name")?, item.required("arguments")?);
                let (output, error) = (item.get::<String>("output")?, item.get::<String>("error")?);
                if is_whole {
                    let id = item_id.unwrap_or_else(|| new_id("mcp"));
                    self.call(id.clone(), &name, &arguments);
                    let failed = error.map(|error| format!("error: {error}"));
                    self.results.push((id, failed.or(output).unwrap_or_default()));
                }
            }
            other => unreachable!("items of type {other} are refused when they are read"),
        }
        item.finish()
    }

    fn message(&mut self, role: &str, text: String, item: &Fields) -> Result<()> {
        match role {
            "assistant" => {
                let has_spoken = self.assistant.as_ref().is_some_and(|message| !message.content.is_empty());
                if has_spoken || !self.calls.is_empty() {
                    self.end_turn();
                }
                self.open_turn().content = text;
            }
            "user" | "system" | "developer" => {
                self.end_turn();
                // What templates know it as.
                self.chat.push(if role == "developer" { "system" } else { role }, &text);
            }
            other => {
                let message = format!("`{other}` is none of `user`, `assistant`, `system` and `developer`");
                return Err(ApiError::invalid(&item.name("role"), message));
            }
        }
        Ok(())
    }

    fn reasoning(&mut self, text: &str) {
        let has_acted = self.assistant.as_ref().is_some_and(|message| !message.content.is_empty());
        if has_acted || !self.calls.is_empty() {
            self.end_turn();
        }
        if !text.is_empty() {
            self.open_turn().reasoning_content.get_or_insert_default().push_str(text);
        }
    }

    fn call(&mut self, id: String, name: &str, arguments: &str) {
        self.open_turn();
        let function = json!({ "name": name, "arguments": arguments });
        self.calls.push(json!({ "id": id, "type": "function", "function": function }));
        self.call_ids.push(id);
    }

    fn open_turn(&mut self) -> &mut Message {
        self.assistant.get_or_insert_with(|| Message::new("assistant", ""))
    }

    /// Ends what the assistant has done in this turn: what it does next is a message of its own.
    pub(super) fn end_turn(&mut self) {
        let Some(mut message) = self.assistant.take() else { return };
        let calls = std::mem::take(&mut self.calls);
        message.tool_calls = (!calls.is_empty()).then(|| Value::Array(calls).to_string());
        self.chat.add(message);
        for (id, text) in std::mem::take(&mut self.results) {
            self.chat.add(Message { tool_call_id: Some(id), ..Message::new("tool", &text) });
        }
    }
}

/// The text of a field that is a text or parts with texts; empty when it is not there.
fn text_of(item: &mut Fields, field: &str) -> Result<String> {
    let name = item.name(field);
    let parts = match item.value(field) {
        None => return Ok(String::new()),
        Some(Value::String(text)) => return Ok(text),
        Some(Value::Array(parts)) => parts,
        Some(other) => {
            let message = format!("expected a text or parts, found {}", kind(&other));
            return Err(ApiError::invalid(&name, message));
        }
    };
    let text = |(at, part)| {
        let mut part = Fields::of_value(part, &format!("{name}[{at}]"))?;
        part.only("type", &["input_text", "output_text", "text", "reasoning_text"].map(|kind| json!(kind)))?;
        let text: String = part.required("text")?;
        part.ignore(&["annotations", "logprobs"]);
        part.finish()?;
        Ok(text)
    };
    let texts: Result<Vec<String>> = parts.into_iter().enumerate().map(text).collect();
    Ok(texts?.join("\n"))
}

#[cfg(test)]
mod tests {
    use inferlet::Model;
    use inferlet::testing::{Host, ScriptedModel};

    use super::*;

    fn messages(input: Value) -> Result<Vec<Message>> {
        Host::new().model(ScriptedModel::new()).run(async {
            let mut chat = Chat::new(&Model::open_default().unwrap()).unwrap();
            let items = read(&mut Fields::of_value(json!({ "input": input }), "body").unwrap())?;
            let mut conversation = Conversation::new(&mut chat);
            conversation.add(&items, "input")?;
            conversation.finish();
            Ok(chat.messages().to_vec())
        })
    }

    #[test]
    fn what_was_done_in_a_turn_is_one_message() {
        let call =
            |id: &str| json!({ "type": "function_call", "call_id": id, "name": "f", "arguments": "{}" });
        let messages = messages(json!([
            { "role": "user", "content": "hello" },
            { "type": "reasoning", "summary": [], "content": [{ "type": "reasoning_text", "text": "hm" }] },
            { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "wait" }] },
            call("1"),
            call("2"),
            { "type": "function_call_output", "call_id": "1", "output": "one" },
            { "type": "function_call_output", "call_id": "2", "output": "two" },
            { "role": "assistant", "content": "a" },
            { "role": "assistant", "content": "b" },
        ]))
        .unwrap();
        let said: Vec<_> = messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        let expected = [
            ("user", "hello"),
            ("assistant", "wait"),
            ("tool", "one"),
            ("tool", "two"),
            ("assistant", "a"),
            ("assistant", "b"),
        ];
        assert_eq!(said, expected);
        assert_eq!(messages[1].reasoning_content.as_deref(), Some("hm"));
        assert_eq!(messages[1].tool_calls.as_ref().unwrap().matches("\"function\":").count(), 2);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (input, place) in [
            (json!([]), "input"),
            (json!(7), "input"),
            (json!([{ "type": "item_reference", "id": "x" }]), "input[0].type"),
            (json!([{ "role": "user", "content": [{ "type": "input_image" }] }]), "input[0].content[0].type"),
            (json!([{ "role": "tool", "content": "x" }]), "input[0].role"),
            (json!([{ "role": "user", "content": "x", "color": 1 }]), "input[0].color"),
            (json!([{ "type": "function_call_output", "call_id": "1", "output": "" }]), "input[0].call_id"),
        ] {
            let error = messages(input).unwrap_err();
            assert!(error.message().contains(place), "{place}: {}", error.message());
        }
    }
}

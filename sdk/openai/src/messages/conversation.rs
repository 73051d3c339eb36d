//! `system` and `messages` of a request: blocks of content become messages as templates know them.
//!
//! ```text
//! user       tool_result, text        a `tool` message for each result, then a `user` message
//! assistant  thinking, text, tool_use one message, with its reasoning and its calls
//! ```

use inferlet::{Chat, Message, Value, json};

use crate::fields::kind;
use crate::{ApiError, Fields, Result};

/// Reads a conversation; whether its last message is one of the assistant, which the answer goes on in.
pub(super) fn read(fields: &mut Fields, chat: &mut Chat) -> Result<bool> {
    let name = fields.name("system");
    if let Some(system) = fields.value("system") {
        chat.system(&text_of(system, &name)?);
    }
    let param = fields.name("messages");
    let messages: Vec<Value> = fields.required("messages")?;
    if messages.is_empty() {
        return Err(ApiError::invalid(&param, "there is no message"));
    }
    let mut continues = false;
    for (at, message) in messages.into_iter().enumerate() {
        let mut message = Fields::of_value(message, &format!("{param}[{at}]"))?;
        let role: String = message.required("role")?;
        let blocks = blocks_of(&mut message)?;
        continues = role == "assistant";
        match role.as_str() {
            "user" => user(blocks, chat)?,
            "assistant" => drop(chat.add(assistant(blocks)?)),
            other => {
                let text = format!("`{other}` is none of `user` and `assistant`");
                return Err(ApiError::invalid(&message.name("role"), text));
            }
        }
        message.finish()?;
    }
    if continues && chat.messages().last().is_some_and(|last| last.tool_calls.is_some()) {
        return Err(ApiError::invalid(&param, "the last `tool_use` has no `tool_result`"));
    }
    Ok(continues)
}

/// `content`, as blocks; each with its type.
fn blocks_of(message: &mut Fields) -> Result<Vec<(String, Fields)>> {
    let name = message.name("content");
    let blocks = match message.required("content")? {
        Value::String(text) => vec![json!({ "type": "text", "text": text })],
        Value::Array(blocks) => blocks,
        other => return Err(not_content(&name, &other)),
    };
    let block = |(at, block)| {
        let mut block = Fields::of_value(block, &format!("{name}[{at}]"))?;
        block.ignore(&["cache_control"]);
        Ok((block.required("type")?, block))
    };
    blocks.into_iter().enumerate().map(block).collect()
}

fn not_content(name: &str, found: &Value) -> ApiError {
    ApiError::invalid(name, format!("expected a text or blocks, found {}", kind(found)))
}

/// The block is of a type that may not be there.
fn unsupported(block: &Fields, kind: &str, known: &str) -> ApiError {
    ApiError::unsupported(&block.name("type"), format!("`{kind}` is not supported here: {known}"))
}

fn user(blocks: Vec<(String, Fields)>, chat: &mut Chat) -> Result<()> {
    let mut texts = Vec::new();
    for (kind, mut block) in blocks {
        match kind.as_str() {
            "text" => {
                texts.push(block.required::<String>("text")?);
                block.only("citations", &[json!([])])?;
            }
            "tool_result" => drop(chat.add(tool_result(&mut block)?)),
            other => return Err(unsupported(&block, other, "`text` and `tool_result` are")),
        }
        block.finish()?;
    }
    if !texts.is_empty() {
        chat.user(&texts.join("\n"));
    }
    Ok(())
}

fn tool_result(block: &mut Fields) -> Result<Message> {
    let name = block.name("content");
    let id: String = block.required("tool_use_id")?;
    let text = block.value("content").map_or_else(|| Ok(String::new()), |content| text_of(content, &name))?;
    let has_failed = block.get("is_error")?.unwrap_or(false);
    // Templates have no other place for it.
    let text = if has_failed { format!("Error: {text}") } else { text };
    Ok(Message { tool_call_id: Some(id), ..Message::new("tool", &text) })
}

fn assistant(blocks: Vec<(String, Fields)>) -> Result<Message> {
    let (mut texts, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
    for (kind, mut block) in blocks {
        match kind.as_str() {
            "text" => {
                texts.push_str(&block.required::<String>("text")?);
                block.only("citations", &[json!([])])?;
            }
            "thinking" => {
                reasoning.push_str(&block.required::<String>("thinking")?);
                block.ignore(&["signature"]);
            }
            "tool_use" => {
                let (id, name): (String, String) = (block.required("id")?, block.required("name")?);
                let input: Value = block.required("input")?;
                let function = json!({ "name": name, "arguments": input.to_string() });
                calls.push(json!({ "id": id, "type": "function", "function": function }));
            }
            other => return Err(unsupported(&block, other, "`text`, `thinking` and `tool_use` are")),
        }
        block.finish()?;
    }
    Ok(Message {
        tool_calls: (!calls.is_empty()).then(|| Value::Array(calls).to_string()),
        reasoning_content: (!reasoning.is_empty()).then_some(reasoning),
        ..Message::new("assistant", &texts)
    })
}

/// The text of what is a text or blocks of texts.
fn text_of(content: Value, param: &str) -> Result<String> {
    let blocks = match content {
        Value::String(text) => return Ok(text),
        Value::Array(blocks) => blocks,
        other => return Err(not_content(param, &other)),
    };
    let text = |(at, block)| {
        let mut block = Fields::of_value(block, &format!("{param}[{at}]"))?;
        let kind: String = block.required("type")?;
        if kind != "text" {
            return Err(unsupported(&block, &kind, "`text` is"));
        }
        let text: String = block.required("text")?;
        block.ignore(&["cache_control"]);
        block.only("citations", &[json!([])])?;
        block.finish()?;
        Ok(text)
    };
    let texts: Result<Vec<String>> = blocks.into_iter().enumerate().map(text).collect();
    Ok(texts?.join("\n"))
}

#[cfg(test)]
mod tests {
    use inferlet::Model;
    use inferlet::testing::{Host, ScriptedModel};

    use super::*;

    fn read_in_a_host(request: Value) -> Result<(Vec<Message>, bool)> {
        Host::new().model(ScriptedModel::new()).run(async {
            let mut chat = Chat::new(&Model::open_default().unwrap()).unwrap();
            let continues = read(&mut Fields::of_value(request, "body").unwrap(), &mut chat)?;
            Ok((chat.messages().to_vec(), continues))
        })
    }

    #[test]
    fn blocks_become_messages() {
        let (messages, continues) = read_in_a_host(json!({
            "system": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }],
            "messages": [
                { "role": "user", "content": "hello" },
                { "role": "assistant", "content": [
                    { "type": "thinking", "thinking": "hm", "signature": "" },
                    { "type": "text", "text": "let me look" },
                    { "type": "tool_use", "id": "1", "name": "look", "input": { "at": "x" } },
                ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "1", "content": "gone", "is_error": true },
                    { "type": "text", "text": "and now?" },
                ] },
            ],
        }))
        .unwrap();
        let said: Vec<_> = messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        let expected = [
            ("system", "a\nb"),
            ("user", "hello"),
            ("assistant", "let me look"),
            ("tool", "Error: gone"),
            ("user", "and now?"),
        ];
        assert_eq!(said, expected);
        assert_eq!(messages[2].reasoning_content.as_deref(), Some("hm"));
        assert!(messages[2].tool_calls.as_ref().unwrap().contains(r#""arguments":"{\"at\":\"x\"}""#));
        assert_eq!(messages[3].tool_call_id.as_deref(), Some("1"));
        assert!(!continues);
    }

    #[test]
    fn what_is_not_supported_is_named_with_its_place() {
        let image = json!({ "type": "image", "source": {} });
        let error = read_in_a_host(json!({ "messages": [{ "role": "user", "content": [image] }] }));
        let message = error.unwrap_err().message().to_string();
        assert!(
            message.contains("body.messages[0].content[0].type") && message.contains("`image`"),
            "{message}"
        );
        let call = json!({ "type": "tool_use", "id": "1", "name": "a", "input": {} });
        assert!(read_in_a_host(json!({ "messages": [{ "role": "assistant", "content": [call] }] })).is_err());
        let (_, continues) =
            read_in_a_host(json!({ "messages": [{ "role": "assistant", "content": "On" }] })).unwrap();
        assert!(continues);
    }
}

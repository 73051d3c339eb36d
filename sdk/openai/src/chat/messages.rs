//! The messages of a request.

use inferlet::{Chat, Message, Value, json};

use crate::fields::kind;
use crate::{ApiError, Fields, Result};

/// Reads `messages` into a conversation.
pub(super) fn read(fields: &mut Fields, chat: &mut Chat) -> Result<()> {
    let param = fields.name("messages");
    let messages: Vec<Value> = fields.required("messages")?;
    if messages.is_empty() {
        return Err(ApiError::invalid(&param, "there is no message"));
    }
    for (at, message) in messages.into_iter().enumerate() {
        chat.add(message_of(Fields::of_value(message, &format!("{param}[{at}]"))?)?);
    }
    Ok(())
}

fn message_of(mut fields: Fields) -> Result<Message> {
    let role: String = fields.required("role")?;
    let known = ["system", "developer", "user", "assistant", "tool"];
    if !known.contains(&role.as_str()) {
        let message = format!("`{role}` is none of {}", known.join(", "));
        return Err(ApiError::invalid(&fields.name("role"), message));
    }
    let is_assistant = role == "assistant";
    let tool_calls = match is_assistant {
        true => fields.get::<Vec<Value>>("tool_calls")?.filter(|calls| !calls.is_empty()),
        false => None,
    };
    let name = fields.name("content");
    let content = match fields.value("content") {
        Some(content) => text_of(content, &name)?,
        None if is_assistant => String::new(),
        None => return Err(ApiError::invalid(&name, "is missing").with_code("missing_required_parameter")),
    };
    let mut message = Message {
        // What templates know it as.
        role: if role == "developer" { "system".to_string() } else { role },
        content,
        tool_calls: tool_calls.map(|calls| Value::Array(calls).to_string()),
        tool_call_id: fields.get("tool_call_id")?,
        name: fields.get("name")?,
        reasoning_content: None,
        trusted: false,
    };
    if is_assistant {
        let reasoning = fields.get("reasoning")?;
        message.reasoning_content = fields.get("reasoning_content")?.or(reasoning);
        fields.ignore(&["refusal", "annotations"]);
        fields.only("audio", &[])?;
        fields.only("function_call", &[])?;
    }
    fields.finish()?;
    Ok(message)
}

/// The text of a content: itself, or its parts on lines of their own.
fn text_of(content: Value, param: &str) -> Result<String> {
    let parts = match content {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        other => {
            return Err(ApiError::invalid(
                param,
                format!("expected a text or parts, found {}", kind(&other)),
            ));
        }
    };
    let part = |(at, part): (usize, Value)| {
        let mut part = Fields::of_value(part, &format!("{param}[{at}]"))?;
        part.only("type", &[json!("text"), json!("input_text"), json!("output_text")])?;
        let text: String = part.required("text")?;
        part.ignore(&["annotations"]);
        part.finish()?;
        Ok(text)
    };
    let texts: Result<Vec<String>> = parts.into_iter().enumerate().map(part).collect();
    Ok(texts?.join("\n"))
}

//! Tool calls in the text of an answer.

use crate::{Value, json};

/// A call that the model asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// Name of the tool.
    pub name: String,
    /// Its arguments: a JSON object.
    pub arguments: Value,
}

/// The calls in an answer, in the notations that models use: `<tool_call>{…}</tool_call>`, or an object or
/// list of objects with `name` and `arguments` (or `parameters`), alone, in a fenced block or among text.
/// Text that is no call gives none.
pub fn tool_calls(text: &str) -> Vec<ToolCall> {
    let mut calls = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['{', '[']) {
        rest = &rest[start..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                let end = values.byte_offset();
                match value {
                    Value::Array(items) => calls.extend(items.iter().filter_map(tool_call)),
                    value => calls.extend(tool_call(&value)),
                }
                rest = &rest[end..];
            }
            _ => rest = &rest[1..],
        }
    }
    calls
}

fn tool_call(value: &Value) -> Option<ToolCall> {
    let function = value.get("function").filter(|f| f.is_object()).unwrap_or(value);
    let name = function.get("name")?.as_str()?.to_string();
    let arguments = function.get("arguments").or_else(|| function.get("parameters"))?;
    // The OpenAI API writes the arguments as a string of JSON.
    let arguments = match arguments {
        Value::String(text) => serde_json::from_str(text).ok()?,
        value => value.clone(),
    };
    arguments.is_object().then_some(ToolCall { name, arguments })
}

/// The JSON Schema of one call of any of these tools (a JSON list as in the OpenAI API): a constraint that
/// makes even a small model call correctly. White space is fixed: a model that is lost would write nothing
/// else.
pub fn tool_call_schema(tools: &Value) -> Value {
    let call = |tool: &Value| {
        let function = tool.get("function").unwrap_or(tool);
        let any_object = json!({ "type": "object" });
        let arguments = function.get("parameters").unwrap_or(&any_object);
        json!({
            "type": "object",
            "properties": { "name": { "const": function["name"] }, "arguments": arguments },
            "required": ["name", "arguments"],
            "additionalProperties": false,
        })
    };
    let layout = json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
    let calls = tools.as_array().map(|tools| tools.iter().map(call).collect::<Vec<_>>());
    json!({ "x-guidance": layout, "anyOf": calls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: Value) -> ToolCall {
        ToolCall { name: name.to_string(), arguments }
    }

    #[test]
    fn calls_are_found_in_the_notations_of_models() {
        let expected = vec![call("add", json!({ "a": 1 }))];
        for text in [
            r#"<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>"#,
            r#"{"name": "add", "parameters": {"a": 1}}"#,
            "I call a tool.\n```json\n[{\"name\": \"add\", \"arguments\": {\"a\": 1}}]\n```",
            r#"{"type": "function", "function": {"name": "add", "arguments": "{\"a\": 1}"}}"#,
        ] {
            assert_eq!(tool_calls(text), expected, "{text}");
        }
        let two = r#"{"name": "a", "arguments": {}} {"name": "b", "arguments": {}}"#;
        assert_eq!(tool_calls(two), [call("a", json!({})), call("b", json!({}))]);
    }

    #[test]
    fn what_is_no_call_gives_none() {
        for text in
            ["", "{", "[[[", "{}", r#"{"name": 1, "arguments": {}}"#, r#"{"name": "a", "arguments": "no"}"#]
        {
            assert_eq!(tool_calls(text), [], "{text}");
        }
    }

    #[test]
    fn the_schema_has_the_name_before_the_arguments() {
        let schema = tool_call_schema(&json!([{ "function": { "name": "add" } }]));
        let text = schema.to_string();
        assert!(text.find(r#""name""#) < text.find(r#""arguments""#), "{text}");
        assert_eq!(schema["anyOf"][0]["properties"]["name"]["const"], "add");
    }
}

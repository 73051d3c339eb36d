//! Writes answers in a format.
//!
//! A format writes plainly; whether it can write a call at all is seen by reading it back, as some markups
//! have no escapes.

use serde_json::Value;

use super::{Answer, Call, Parser, ParserOptions, Spec, Tools};

/// Why an answer cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Arguments that are no object.
    #[error("the arguments of the call of `{name}` are `{found}`, expected a JSON object")]
    NotAnObject {
        /// The tool.
        name: String,
        /// The arguments as JSON.
        found: String,
    },
    /// The markup has no way to write this.
    #[error("the format `{format}` cannot write this answer: its calls would be read as others")]
    Unreadable {
        /// The format.
        format: &'static str,
    },
}

pub(super) fn write(spec: &'static Spec, answer: &Answer, tools: &[Value]) -> Result<String, WriteError> {
    let arguments = answer.calls.iter().map(|call| match &call.arguments {
        // The other form that the API knows.
        Value::String(text) => serde_json::from_str(text).unwrap_or(Value::String(text.clone())),
        value => value.clone(),
    });
    let arguments: Vec<Value> = arguments.collect();
    let calls = answer.calls.iter().zip(&arguments).map(|(call, arguments)| {
        let name = call.name.as_str();
        if arguments.is_object() {
            return Ok(Call { name, arguments });
        }
        Err(WriteError::NotAnObject { name: name.to_owned(), found: arguments.to_string() })
    });
    let calls = calls.collect::<Result<Vec<Call<'_>>, WriteError>>()?;
    let text = (spec.write)(&answer.content, &calls);
    let text = match (answer.reasoning.as_str(), spec.reasoning.written) {
        ("", _) | (_, ["", _]) => text,
        (reasoning, [open, close]) => format!("{open}{reasoning}{close}{text}"),
    };
    let options = ParserOptions { is_any_tool: true, ..ParserOptions::default() };
    let mut parser = Parser::new(spec, Tools::new(tools), options);
    let mut parts = parser.push(&text);
    parts.extend(parser.finish());
    let read = Answer::from_parts(&parts).calls;
    let is_equal = read.len() == calls.len()
        && read
            .iter()
            .zip(&calls)
            .all(|(read, call)| read.name == call.name && read.arguments == *call.arguments);
    if is_equal { Ok(text) } else { Err(WriteError::Unreadable { format: spec.name }) }
}

/// JSON as templates write it.
pub(super) fn json(value: &Value) -> String {
    crate::chat::python_json(value)
}

/// `{"name": …, KEY: …}`.
pub(super) fn call(call: &Call<'_>, key: &str) -> String {
    format!("{{\"name\": {}, \"{key}\": {}}}", json(&Value::from(call.name)), json(call.arguments))
}

/// Each call as `each` writes it, with `separator` between them.
pub(super) fn joined(calls: &[Call<'_>], separator: &str, each: impl Fn(&Call<'_>) -> String) -> String {
    calls.iter().map(each).collect::<Vec<_>>().join(separator)
}

/// Content and calls, with `gap` between them if there are both.
pub(super) fn after(content: &str, gap: &str, calls: &str) -> String {
    let gap = if content.is_empty() || calls.is_empty() { "" } else { gap };
    format!("{content}{gap}{calls}")
}

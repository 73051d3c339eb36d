//! The Jinja environment that templates from Hugging Face expect.

use std::fmt::Write;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use serde_json::Map;

use super::{ChatError, python, time};

const NAME: &str = "chat template";

/// Starts the message of an error that the template itself raised.
const RAISED: &str = "raised by the template: ";

/// Compiles `source` into an environment of its own.
pub(super) fn compile(source: &str, fuel: u64) -> Result<Environment<'static>, ChatError> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the default delimiters are valid"));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    python::install(&mut environment);
    environment.set_fuel(Some(fuel));
    environment.add_filter("tojson", python::to_json);
    environment.add_function("raise_exception", raise_exception);
    environment
        .add_template_owned(NAME, without_generation_tags(source))
        .map_err(|error| ChatError::Syntax { reason: reason(&error) })?;
    Ok(environment)
}

/// Runs the template.
pub(super) fn render(
    environment: &Environment<'static>,
    variables: &Map<String, serde_json::Value>,
    now_unix_s: i64,
) -> Result<String, ChatError> {
    let template =
        environment.get_template(NAME).map_err(|error| ChatError::Syntax { reason: reason(&error) })?;
    let strftime_now = Value::from_function(move |format: String| time::format(now_unix_s, &format));
    let context = variables
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(Serde(value))))
        .chain([("strftime_now".to_owned(), strftime_now)]);
    template.render(Value::from_pairs(context)).map_err(|error| match error.kind() {
        ErrorKind::OutOfFuel => ChatError::Fuel { limit: environment.fuel().unwrap_or(0) },
        _ => match error.detail().and_then(|detail| detail.strip_prefix(RAISED)) {
            Some(message) => ChatError::Refused { message: message.to_owned() },
            None => ChatError::Render { reason: reason(&error) },
        },
    })
}

/// The error with the causes behind it, in one line.
fn reason(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let _ = write!(text, ": {cause}"); // Writing to a string cannot fail.
        source = cause.source();
    }
    text
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
}

/// Turns `{% generation %}` and `{% endgeneration %}`, marks of transformers for training, into a block that
/// does nothing: `{% if true %}`, which keeps the rules about the space around it.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        out.push_str(before);
        let inner = tag.trim_start_matches(['-', '+']);
        let inner = inner.trim_start();
        let lead = tag.len() - inner.len();
        let word_end = inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inner.len());
        let replaced = match &inner[..word_end] {
            "generation" => Some("if true"),
            "endgeneration" => Some("endif"),
            _ => None,
        };
        out.push_str(&tag[..lead]);
        out.push_str(replaced.unwrap_or(&inner[..word_end]));
        rest = &inner[word_end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_harmless() {
        let source = "a{%- generation -%} b {% endgeneration %}c{% if generation %}d{% endif %}{%";
        let expected = "a{%- if true -%} b {% endif %}c{% if generation %}d{% endif %}{%";
        assert_eq!(without_generation_tags(source), expected);
    }
}

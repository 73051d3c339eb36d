//! Python literals: read, written, and as a grammar.

use std::future::Future;
use std::pin::Pin;

use serde_json::{Map, Number, Value};

use super::input::{Input, Wrong};
use super::lark::{Lark, any_of};
use super::tools::{self, Kinds, Parameter, Tool};

/// Deepest nesting of lists and dictionaries, as serde_json has it for JSON.
const DEPTH: usize = 127;

/// Reads a literal: a string, a number, `True`, `False`, `None`, a list, or a dictionary with strings for
/// keys. The words of JSON count too.
pub(super) async fn read(input: &Input) -> Result<Value, Wrong> {
    literal(input, DEPTH).await
}

type Reading<'a> = Pin<Box<dyn Future<Output = Result<Value, Wrong>> + Send + 'a>>;

fn literal(input: &Input, depth: usize) -> Reading<'_> {
    Box::pin(async move {
        match input.peek().await.ok_or(Wrong)? {
            '"' | '\'' => string(input).await.map(Value::String),
            '[' if depth > 0 => list(input, depth - 1).await,
            '{' if depth > 0 => dictionary(input, depth - 1).await,
            c if c == '-' || c.is_ascii_digit() => number(input).await.map(Value::Number),
            _ => match input.name().await?.as_str() {
                "True" | "true" => Ok(Value::Bool(true)),
                "False" | "false" => Ok(Value::Bool(false)),
                "None" | "null" => Ok(Value::Null),
                _ => Err(Wrong),
            },
        }
    })
}

async fn list(input: &Input, depth: usize) -> Result<Value, Wrong> {
    input.expect("[").await?;
    let mut items = Vec::new();
    loop {
        input.space().await;
        if input.maybe("]").await {
            return Ok(Value::Array(items));
        }
        if !items.is_empty() {
            input.expect(",").await?;
            input.space().await;
        }
        items.push(literal(input, depth).await?);
    }
}

async fn dictionary(input: &Input, depth: usize) -> Result<Value, Wrong> {
    input.expect("{").await?;
    let mut items = Map::new();
    loop {
        input.space().await;
        if input.maybe("}").await {
            return Ok(Value::Object(items));
        }
        if !items.is_empty() {
            input.expect(",").await?;
            input.space().await;
        }
        let key = string(input).await?;
        input.space().await;
        input.expect(":").await?;
        input.space().await;
        items.insert(key, literal(input, depth).await?);
    }
}

async fn number(input: &Input) -> Result<Number, Wrong> {
    let mut text = String::new();
    while let Ok(c) = input.take(|c| c.is_ascii_digit() || "+-.eE".contains(c)).await {
        text.push(c);
    }
    serde_json::from_str(&text).map_err(|_| Wrong)
}

async fn string(input: &Input) -> Result<String, Wrong> {
    let quote = input.take(|c| c == '"' || c == '\'').await?;
    let mut text = String::new();
    loop {
        match input.take(|_| true).await? {
            c if c == quote => return Ok(text),
            '\\' => match input.take(|_| true).await? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'b' => text.push('\u{8}'),
                'f' => text.push('\u{c}'),
                'x' => text.push(code(input, 2).await?),
                'u' => text.push(code(input, 4).await?),
                'U' => text.push(code(input, 8).await?),
                c if "\\'\"".contains(c) => text.push(c),
                // An escape that Python does not know stands for itself.
                c => text.extend(['\\', c]),
            },
            c => text.push(c),
        }
    }
}

async fn code(input: &Input, digits: usize) -> Result<char, Wrong> {
    let mut code = 0;
    for _ in 0..digits {
        let digit = input.take(|c| c.is_ascii_hexdigit()).await?.to_digit(16).ok_or(Wrong)?;
        code = (code << 4) | digit;
    }
    char::from_u32(code).ok_or(Wrong)
}

/// Writes a literal.
pub(super) fn write(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        // JSON's escapes are Python's.
        Value::Number(_) | Value::String(_) => super::write::json(value),
        Value::Array(items) => format!("[{}]", items.iter().map(write).collect::<Vec<_>>().join(", ")),
        Value::Object(items) => {
            let item = |(key, value): (&String, &Value)| {
                format!("{}: {}", super::write::json(&Value::from(key.as_str())), write(value))
            };
            format!("{{{}}}", items.iter().map(item).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A grammar of the arguments of a tool, without the parentheses. Types of arguments are checked, what is
/// within lists and dictionaries is any literal.
pub(super) fn arguments(lark: &mut Lark<'_>, tool: &Tool) -> String {
    lark.parameters(tool, ", ", |lark, parameter| {
        let value = value(lark, parameter);
        format!("{} {value}", lark.text(&format!("{}=", parameter.name)))
    })
}

fn value(lark: &mut Lark<'_>, parameter: &Parameter<'_>) -> String {
    let schema = parameter.schema;
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let values: Vec<String> = values.iter().map(|value| lark.text(&write(value))).collect();
        return any_of(&values);
    }
    const INTEGER: &str = "/-?(0|[1-9][0-9]{0,17})/";
    const NUMBER: &str = "/-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,17})?/";
    let kind = schema.get("type").and_then(Value::as_str);
    match kind {
        Some("integer") => return lark.terminal(INTEGER),
        Some("number") => return lark.terminal(NUMBER),
        Some("boolean") => return any_of(&["\"True\"".to_owned(), "\"False\"".to_owned()]),
        _ => {}
    }
    let string = lark.terminal("/\"(\\\\[\"'\\\\nrt]|[^\"\\\\\\x00-\\x1F\\x7F])*\"/");
    if tools::kinds(Some(schema)) == Kinds::Strings {
        return string;
    }
    let number = lark.terminal(NUMBER);
    let word = lark.terminal("\"True\" | \"False\" | \"None\"");
    let any = lark.forward();
    let list = lark.rule(&format!("\"[\" ({any} (\", \" {any})*)? \"]\""));
    let pair = lark.rule(&format!("{string} \": \" {any}"));
    let dictionary = lark.rule(&format!("\"{{\" ({pair} (\", \" {pair})*)? \"}}\""));
    lark.define(&any, &any_of(&[string, number, word, list.clone(), dictionary.clone()]));
    match kind {
        Some("array") => list,
        Some("object") => dictionary,
        _ => any,
    }
}

//! Formats of calls and reasoning, all of them by the same rules, each with its examples.

mod examples;
mod grammars;
mod reading;
mod templates;
mod writing;

use model::formats::{Format, Parser, ParserOptions, Part};
use serde_json::{Value, json};

/// The tools that all examples have.
fn tools() -> Vec<Value> {
    let tool = |name: &str, properties: Value, required: Value| {
        json!({"type": "function", "function": {"name": name, "description": "", "parameters":
            {"type": "object", "properties": properties, "required": required}}})
    };
    vec![
        tool(
            "weather",
            json!({"city": {"type": "string"}, "days": {"type": "integer"}, "detailed": {"type": "boolean"}}),
            json!(["city"]),
        ),
        tool(
            "run",
            json!({"code": {"type": "string"}, "options": {"type": "object"}, "tags": {"type": "array"},
                "mode": {"type": "string", "enum": ["fast", "safe"]}}),
            json!(["code"]),
        ),
        tool("now", json!({}), json!([])),
    ]
}

fn format(name: &str) -> Format {
    Format::from_name(name).unwrap_or_else(|| panic!("no format is called {name}"))
}

fn parser(format: Format) -> Parser {
    format.parser(&tools(), ParserOptions::default())
}

/// What a parser gives for an answer in pieces, without the cuts.
fn read<'a>(mut parser: Parser, pieces: impl IntoIterator<Item = &'a str>) -> Vec<Part> {
    let mut parts: Vec<Part> = pieces.into_iter().flat_map(|piece| parser.push(piece)).collect();
    parts.extend(parser.finish());
    join(parts)
}

/// The same parts, with texts of one kind that follow each other as one.
fn join(parts: Vec<Part>) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    for part in parts {
        match (joined.last_mut(), &part) {
            (Some(Part::Content(before)), Part::Content(text)) => before.push_str(text),
            (Some(Part::Reasoning(before)), Part::Reasoning(text)) => before.push_str(text),
            (Some(Part::CallArguments { json: before, .. }), Part::CallArguments { json, .. }) => {
                before.push_str(json);
            }
            _ => joined.push(part),
        }
    }
    joined
}

/// Parts in words, one line for each text and each call.
fn words(parts: &[Part]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match part {
            Part::Content(text) => lines.push(format!("says {text:?}")),
            Part::Reasoning(text) => lines.push(format!("thinks {text:?}")),
            Part::CallBegin { name, .. } => lines.push(format!("calls {name} ")),
            Part::CallArguments { json, .. } => lines.last_mut().expect("a call").push_str(json),
            Part::CallEnd { .. } => {}
            Part::CallFailed { .. } => lines.last_mut().expect("a call").push_str(" in vain"),
        }
    }
    lines
}

/// A generator of numbers, for tests that print their seed.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }
}

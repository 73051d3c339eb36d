//! Answers of a model that has gone wild, cut anywhere.

use std::sync::LazyLock;

use model::formats::{Answer, Format, ParserOptions, Part};
use serde_json::{Value, json};

/// Tags that vanish from an answer although it has no call.
const TAGS: [&str; 4] = ["<think>", "[THINK]", "<|", ">>>"];

static TOOLS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let types = json!({"city": {"type": "string"}, "code": {"type": "string"}, "days": {"type": "integer"},
        "options": {"type": "object"}});
    let tool = |name| json!({"name": name, "parameters": {"type": "object", "properties": types}});
    ["weather", "run", "now"].map(tool).to_vec()
});

/// A byte for the format, one for the options, two that say where to cut, and the answer. It says the same in
/// pieces as in one, nothing of it is lost, and its calls can be written and read again.
pub fn formats(bytes: &[u8]) {
    let Some((&[format, options, first, step], text)) = bytes.split_first_chunk() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let format = Format::all().nth(usize::from(format) % Format::all().count()).expect("a format");
    let tools: &[Value] = if options & 1 == 0 { &TOOLS } else { &[] };
    let options = ParserOptions { is_any_tool: options & 2 != 0, is_reasoning: options & 4 != 0 };
    let read = |text: &str, cut: &dyn Fn(usize) -> bool| {
        let mut parser = format.parser(tools, options);
        let (mut parts, mut begin) = (Vec::new(), 0);
        for (at, _) in text.char_indices().filter(|(at, _)| cut(*at)) {
            parts.extend(parser.push(&text[begin..at]));
            begin = at;
        }
        parts.extend(parser.push(&text[begin..]));
        parts.extend(parser.finish());
        joined(parts)
    };
    let whole = read(text, &|_| false);
    let (first, step) = (usize::from(first), usize::from(step) + 1);
    assert_eq!(read(text, &|_| true), whole, "{format:?} {options:?} by characters");
    assert_eq!(read(text, &|at| at % step == first % step), whole, "{format:?} {options:?}");

    check(&whole, tools, options);
    let answer = Answer::from_parts(&whole);
    let said: String = whole.iter().filter_map(text_of).collect();
    if answer.calls.is_empty() {
        let has_tags = options.is_reasoning || TAGS.iter().any(|tag| text.contains(tag));
        if has_tags || format.name() == "functionary-v3.2" {
            assert!(is_within(&said, text), "{format:?} {text:?} became {said:?}");
        } else {
            assert_eq!(said, text, "{format:?}");
        }
    }
    let mut calls = answer.clone();
    calls.content.clear();
    calls.reasoning.clear();
    if let Ok(written) = format.write(&calls, &TOOLS) {
        let options = ParserOptions { is_any_tool: true, ..ParserOptions::default() };
        let mut parser = format.parser(&TOOLS, options);
        let mut parts = parser.push(&written);
        parts.extend(parser.finish());
        assert_eq!(Answer::from_parts(&parts).calls, calls.calls.iter().map(value).collect::<Vec<_>>());
    }
}

/// Calls with arguments as values; those that are text have none.
fn value(call: &model::chat::FunctionCall) -> model::chat::FunctionCall {
    let arguments = match &call.arguments {
        Value::String(text) => serde_json::from_str(text).expect("it was written"),
        value => value.clone(),
    };
    model::chat::FunctionCall { name: call.name.clone(), arguments }
}

fn text_of(part: &Part) -> Option<&str> {
    match part {
        Part::Content(text) | Part::Reasoning(text) => Some(text),
        _ => None,
    }
}

/// Calls begin and end in turn, are of tools on offer, and have objects for arguments.
fn check(parts: &[Part], tools: &[Value], options: ParserOptions) {
    let mut open: Option<(usize, String)> = None;
    let mut count = 0;
    for part in parts {
        match part {
            Part::Content(_) | Part::Reasoning(_) => assert!(open.is_none(), "text within a call: {parts:?}"),
            Part::CallBegin { index, name } => {
                assert!(open.is_none() && *index == count, "{parts:?}");
                assert!(
                    options.is_any_tool || tools.iter().any(|tool| tool["name"] == name.as_str()),
                    "{name}"
                );
                (open, count) = (Some((*index, String::new())), count + 1);
            }
            Part::CallArguments { index, json } => {
                let (of, arguments) = open.as_mut().expect("a call has begun");
                assert_eq!(of, index);
                arguments.push_str(json);
            }
            Part::CallEnd { index } => {
                let (of, arguments) = open.take().expect("a call has begun");
                assert_eq!(of, *index);
                assert!(arguments.starts_with('{') && arguments.ends_with('}'), "{arguments}");
                // Half surrogates, depth and size are JSON's, but not serde_json's.
                if let Err(error) = serde_json::from_str::<Value>(&arguments) {
                    let error = error.to_string();
                    let is_limit = ["surrogate", "hex escape", "out of range", "recursion"].iter();
                    assert!(is_limit.clone().any(|limit| error.contains(limit)), "{error}: {arguments}");
                }
            }
            Part::CallFailed { index } => assert_eq!(open.take().expect("a call has begun").0, *index),
        }
    }
    assert!(open.is_none(), "a call stays open: {parts:?}");
}

/// Whether all of `part` is in `whole`, in order.
fn is_within(part: &str, whole: &str) -> bool {
    let mut whole = whole.chars();
    part.chars().all(|c| whole.any(|other| other == c))
}

fn joined(parts: Vec<Part>) -> Vec<Part> {
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

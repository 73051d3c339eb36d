//! Chat templates render as Jinja2 renders them for transformers: `data/templates/record.py` recorded what it
//! writes for expressions, and for templates in the manner of each family of models.

use std::path::PathBuf;

use model::chat::{ChatEnd, ChatError, ChatRequest, ChatTemplate, Message};
use serde_json::{Map, Value};

/// Expressions that come out otherwise, and that templates do not need: what the engine itself does not have, or
/// lets pass.
const DIFFERENT: &[&str] = &[
    "{{ '%s is %d' % ('a', 3) }}",
    "{{ list[-1:0:-1] }}",
    // Functionary's template has it, and gets HTML for its tools where Python renders it.
    "{{ '<'|safe + '<' }}",
    "{{ 'a b c d' | wordcount }}",
    "{{ 'abcdef' | truncate(5) }}|{{ 'hello big world' | truncate(8, true, '') }}",
    "{{ 'a-b' | urlencode }}",
    "{{ ' a  b ' | striptags }}",
    "{{ f is callable }}",
    "{{ dict.items is defined }}",
    "{{ ['a=1'] | map('split', '=') | list }}",
    "{% for i in none %}x{% endfor %}",
    "{% macro f(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/templates")
}

fn recorded(name: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

fn render(source: &str, request: &ChatRequest) -> Result<String, ChatError> {
    ChatTemplate::new(source, "<s>", "</s>")?.render(request)
}

/// What differs, in words; nothing where both fail.
fn difference(found: Result<String, ChatError>, expected: &Value) -> Option<String> {
    match (found, expected.as_str()) {
        (Err(_), None) => None,
        (Ok(found), Some(expected)) if found == expected => None,
        (Ok(found), expected) => Some(format!("{found:?}\n  expected {expected:?}")),
        (Err(error), Some(expected)) => Some(format!("{error}\n  expected {expected:?}")),
    }
}

#[test]
fn expressions_are_what_jinja_makes_of_them() {
    let (cases, expected) = (recorded("cases.json"), recorded("expected.json"));
    let request = ChatRequest {
        variables: object(&cases["variables"]).clone(),
        now_unix_s: 1_722_000_000,
        ..ChatRequest::default()
    };
    let expected = object(&expected["expressions"]);
    let (mut differ, mut known) = (Vec::new(), Vec::new());
    for (source, expected) in expected {
        match difference(render(source, &request), expected) {
            Some(_) if DIFFERENT.contains(&source.as_str()) => known.push(source.as_str()),
            Some(difference) => differ.push(format!("{source}\n  gives {difference}")),
            None => {}
        }
    }
    assert_eq!(known.len(), DIFFERENT.len(), "these differ of the known ones: {known:?}");
    assert!(differ.is_empty(), "{} of {} differ:\n{}", differ.len(), expected.len(), differ.join("\n"));
}

#[test]
fn every_family_of_templates_renders_what_jinja_renders() {
    let (cases, expected) = (recorded("cases.json"), recorded("expected.json"));
    let mut differ = Vec::new();
    let mut count = 0;
    for (name, expected) in object(&expected["templates"]) {
        let source = std::fs::read_to_string(folder().join(name)).unwrap();
        for conversation in cases["conversations"].as_array().unwrap() {
            let messages = conversation["messages"].as_array().unwrap().iter();
            let message = |name: &Value| -> Message {
                serde_json::from_value(cases["messages"][name.as_str().unwrap()].clone()).unwrap()
            };
            let has_tools = conversation["has_tools"] == true;
            let variables = conversation.get("variables").map(object).cloned();
            let is_answer = conversation["add_generation_prompt"] == true;
            let request = ChatRequest {
                messages: messages.map(message).collect(),
                tools: if has_tools { cases["tools"].as_array().unwrap().clone() } else { Vec::new() },
                variables: variables.unwrap_or_default(),
                end: if is_answer { ChatEnd::Answer } else { ChatEnd::Nothing },
                now_unix_s: 1_722_000_000,
            };
            let case = conversation["name"].as_str().unwrap();
            count += 1;
            if let Some(difference) = difference(render(&source, &request), &expected[case]) {
                differ.push(format!("{name}, {case}: {difference}"));
            }
        }
    }
    assert!(differ.is_empty(), "{} of {count} differ:\n{}", differ.len(), differ.join("\n"));
    assert!(count > 100, "{count} cases");
}

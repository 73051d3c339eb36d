//! What is written is what is read.

use model::chat::FunctionCall;
use model::formats::{Answer, Format, WriteError};
use serde_json::{Value, json};

use crate::{format, parser, read, tools};

/// Calls that every format can write.
pub(crate) fn calls() -> Vec<Vec<FunctionCall>> {
    let call = |name: &str, arguments: Value| FunctionCall { name: name.to_owned(), arguments };
    vec![
        vec![],
        vec![call("now", json!({}))],
        vec![call("weather", json!({"city": "Zürich", "days": 3, "detailed": true}))],
        vec![
            call("weather", json!({"city": "5"})),
            call("now", json!({})),
            call("weather", json!({"city": ""})),
        ],
        vec![call(
            "run",
            json!({"code": "if a < b:\n\tprint(\"'x'\\n\")\n", "options": {"a": [1, -2.5, {"b": null}], "é": "\"</s>"},
                "tags": ["x", 1, false, []], "mode": "fast"}),
        )],
        vec![call("run", json!({"code": "</tool_call>\n[TOOL_CALLS]<|end|> null", "tags": []}))],
    ]
}

#[test]
fn every_format_reads_what_it_writes() {
    for format in Format::all() {
        for calls in calls() {
            for content in ["", "Let me see.", "Ünïcode <b> {}\n\nand more"] {
                for reasoning in ["", "First this,\n\nthen that."] {
                    let answer = Answer {
                        content: content.to_owned(),
                        reasoning: reasoning.to_owned(),
                        calls: calls.clone(),
                    };
                    let text = format.write(&answer, &tools()).unwrap();
                    let found = Answer::from_parts(&read(parser(format), [text.as_str()]));
                    let mut expected = answer.clone();
                    if format.name().starts_with("functionary") {
                        expected.reasoning.clear();
                    }
                    assert_eq!(found, expected, "{format:?}: {text}");
                }
            }
        }
    }
}

#[test]
fn arguments_may_be_text_as_in_the_api() {
    for format in Format::all() {
        let calls = |arguments: Value| Answer {
            calls: vec![FunctionCall { name: "weather".to_owned(), arguments }],
            ..Answer::default()
        };
        let text = format.write(&calls(json!("{\"city\": \"x\"}")), &tools()).unwrap();
        assert_eq!(text, format.write(&calls(json!({"city": "x"})), &tools()).unwrap());
        let refused = format.write(&calls(json!([1])), &tools());
        assert!(matches!(refused, Err(WriteError::NotAnObject { found, .. }) if found == "[1]"));
    }
}

#[test]
fn what_a_markup_cannot_say_is_refused() {
    let refused = |name: &str, tool: &str, arguments: Value| {
        let calls = vec![FunctionCall { name: tool.to_owned(), arguments }];
        let written = format(name).write(&Answer { calls, ..Answer::default() }, &tools());
        assert!(matches!(written, Err(WriteError::Unreadable { .. })), "{name}: {written:?}");
    };
    refused("qwen3-coder", "run", json!({"code": "a</parameter>b"}));
    refused("glm", "run", json!({"code": "a</arg_value>b"}));
    // The schema says that days are numbers.
    refused("glm", "weather", json!({"city": "x", "days": "3"}));
    refused("llama-pythonic", "not a name", json!({}));
    refused("mistral", "not[ARGS]a name", json!({}));
}

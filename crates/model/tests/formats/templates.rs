//! Which format a chat template has, and that both write the same.

use model::chat::{ChatEnd, ChatRequest, ChatTemplate, FunctionCall, Message, ToolCall};
use model::formats::{Answer, Format};
use serde_json::json;

use crate::tools;

const QWEN2_5: &str = include_str!("../data/qwen2.5.jinja");
const LLAMA3_1: &str = include_str!("../data/llama3.1.jinja");
const SMOLLM2: &str = include_str!("../data/smollm2.jinja");

#[test]
fn formats_have_names_of_their_own() {
    for format in Format::all() {
        assert_eq!(Format::from_name(format.name()), Some(format));
    }
    assert_eq!(Format::from_name("unheard-of"), None);
}

#[test]
fn the_template_says_which_format_it_is() {
    let check = |template: &str, expected: &str| assert_eq!(Format::detect(template).name(), expected);
    check(QWEN2_5, "hermes");
    check(LLAMA3_1, "llama-json");
    check(SMOLLM2, "hermes");
    check("", "hermes");
}

/// What a template writes for an answer as the last message, without what comes before and after it.
fn rendered(template: &str, answer: &Answer, around: (&str, &str)) -> String {
    let template = ChatTemplate::new(template, "<s>", "</s>").unwrap();
    let mut message = Message::new("assistant", &answer.content);
    let call = |function: &FunctionCall| ToolCall {
        id: None,
        kind: "function".to_owned(),
        function: function.clone(),
    };
    message.tool_calls = answer.calls.iter().map(call).collect();
    let messages = vec![Message::new("user", "Hi"), message];
    let request = ChatRequest { messages, tools: tools(), end: ChatEnd::Nothing, ..ChatRequest::default() };
    let text = template.render(&request).unwrap();
    let (_, text) = text.rsplit_once(around.0).unwrap_or_else(|| panic!("{text}"));
    text.strip_suffix(around.1).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn templates_write_what_the_format_writes() {
    let call = |name: &str, arguments| FunctionCall { name: name.to_owned(), arguments };
    let one = vec![call("weather", json!({"city": "Zürich <\"", "days": 3, "detailed": true}))];
    let two =
        vec![one[0].clone(), call("run", json!({"code": "a\nb", "options": {"x": [1, null]}, "tags": []}))];
    let check = |template: &str, content: &str, calls: &[FunctionCall], around: (&str, &str)| {
        let answer = Answer { content: content.to_owned(), calls: calls.to_vec(), ..Answer::default() };
        let written = Format::detect(template).write(&answer, &tools()).unwrap();
        assert_eq!(rendered(template, &answer, around), written);
    };
    let chatml = ("<|im_start|>assistant\n", "<|im_end|>\n");
    check(QWEN2_5, "Let me see.", &two, chatml);
    check(QWEN2_5, "", &one, ("<|im_start|>assistant\n", "<|im_end|>\n"));
    check(LLAMA3_1, "", &one, ("assistant<|end_header_id|>\n\n", "<|eot_id|>"));
}

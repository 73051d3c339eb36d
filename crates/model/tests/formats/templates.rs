//! Which format a chat template has, and that both write the same.

use model::chat::{ChatEnd, ChatRequest, ChatTemplate, FunctionCall, Message, ToolCall};
use model::formats::{Answer, Format};
use serde_json::json;

use crate::{parser, read, tools};

/// Templates in the folder of the data with their formats, and what stands around an answer.
const TEMPLATES: &[(&str, &str, (&str, &str))] = &[
    ("qwen2.5.jinja", "hermes", ("<|im_start|>assistant\n", "<|im_end|>\n")),
    ("llama3.1.jinja", "llama-json", ("assistant<|end_header_id|>\n\n", "<|eot_id|>")),
    ("templates/qwen3.jinja", "hermes", ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "<|im_end|>\n")),
    ("templates/qwen3-coder.jinja", "qwen3-coder", ("<|im_start|>assistant\n", "<|im_end|>\n")),
    ("templates/nemotron.jinja", "qwen3-coder", ("<|im_start|>assistant\n<think></think>", "\n<|im_end|>\n")),
    ("templates/llama3.2.jinja", "llama-json", ("assistant<|end_header_id|>\n\n", "<|eot_id|>")),
    ("templates/llama4.jinja", "llama-pythonic", ("assistant<|header_end|>\n\n", "<|eot|>")),
    ("templates/mistral.jinja", "mistral", ("[/INST]", "</s>")),
    ("templates/mistral-v3.jinja", "mistral-list", ("[/INST]", "</s>")),
    ("templates/deepseek-r1.jinja", "deepseek-v3", ("<｜Assistant｜>", "<｜end▁of▁sentence｜>")),
    ("templates/deepseek-v3.1.jinja", "deepseek-v3.1", ("<｜Assistant｜></think>", "<｜end▁of▁sentence｜>")),
    ("templates/glm4.5.jinja", "glm", ("<|assistant|>", "")),
    ("templates/gpt-oss.jinja", "harmony", ("<|start|>user<|message|>Hi<|end|>", "")),
    (
        "templates/functionary-v3.1.jinja",
        "functionary-v3.1",
        ("assistant<|end_header_id|>\n\n", "<|eom_id|>"),
    ),
    (
        "templates/functionary-v3.2.jinja",
        "functionary-v3.2",
        ("assistant<|end_header_id|>\n\n>>>", "<|eot_id|>"),
    ),
];

/// Templates that write a call as no format does: with all values quoted, with ids, with the recipient first, with
/// nothing thought, with the new line after a call instead of before it.
const OTHERWISE: &[&str] = &["llama4", "mistral-v3", "gpt-oss", "glm4.5", "nemotron"];

fn source(template: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    std::fs::read_to_string(folder.join(template)).unwrap()
}

#[test]
fn formats_have_names_of_their_own() {
    for format in Format::all() {
        assert_eq!(Format::from_name(format.name()), Some(format));
    }
    assert_eq!(Format::from_name("unheard-of"), None);
}

#[test]
fn the_template_says_which_format_it_is() {
    for (template, expected, _) in TEMPLATES {
        assert_eq!(Format::detect(&source(template)).name(), *expected, "{template}");
    }
    for format in Format::all() {
        assert!(TEMPLATES.iter().any(|(_, name, _)| *name == format.name()), "{format:?} has no template");
    }
    for without in [source("smollm2.jinja"), source("templates/gemma3.jinja"), String::new()] {
        assert_eq!(Format::detect(&without).name(), "hermes");
    }
}

/// What a template writes for an answer as the last message, without what comes before and after it.
fn rendered(template: &str, answer: &Answer, around: (&str, &str)) -> String {
    let template = ChatTemplate::new(template, "<s>", "</s>").unwrap();
    let mut message = Message::new("assistant", &answer.content);
    let call = |(index, function): (usize, &FunctionCall)| ToolCall {
        id: Some(format!("abcdefgh{index}")),
        kind: "function".to_owned(),
        function: function.clone(),
    };
    message.tool_calls = answer.calls.iter().enumerate().map(call).collect();
    let messages = vec![Message::new("user", "Hi"), message];
    let request = ChatRequest { messages, tools: tools(), end: ChatEnd::Nothing, ..ChatRequest::default() };
    let text = template.render(&request).unwrap();
    let (_, text) = text.rsplit_once(around.0).unwrap_or_else(|| panic!("{text}"));
    text.strip_suffix(around.1).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn templates_write_what_the_format_writes_and_reads() {
    let call = |name: &str, arguments| FunctionCall { name: name.to_owned(), arguments };
    let one = vec![call("weather", json!({"city": "Zürich <'x'>", "days": 3, "detailed": true}))];
    let two =
        vec![one[0].clone(), call("run", json!({"code": "a <b", "options": {"x": [1, true]}, "tags": []}))];
    for (template, name, around) in TEMPLATES {
        let is_single =
            ["llama3.1.jinja", "templates/llama3.2.jinja", "templates/gpt-oss.jinja"].contains(template);
        // Llama's own has no content beside calls.
        let is_bare = is_single || *name == "mistral-list" || *name == "llama-pythonic";
        let (calls, content) =
            (if is_single { &one } else { &two }, if is_bare { "" } else { "Let me see." });
        let answer = Answer { content: content.to_owned(), calls: calls.clone(), ..Answer::default() };
        let format = Format::detect(&source(template));
        let text = rendered(&source(template), &answer, *around);
        let read = Answer::from_parts(&read(parser(format), [text.as_str()]));
        if *name == "llama-pythonic" {
            // Its dictionary is in quotes, and not JSON.
            assert_eq!((&read.calls[0], read.calls.len()), (&calls[0], 2), "{template}: {text}");
        } else {
            assert_eq!(read, answer, "{template}: {text}");
        }
        if !OTHERWISE.iter().any(|other| template.contains(other)) {
            assert_eq!(text, format.write(&answer, &tools()).unwrap(), "{template}");
        }
    }
}

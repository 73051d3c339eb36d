//! Llama, the JSON of its own templates, and the Python of 3.2 and 4 where a template asks for it:
//!
//! ```text
//! {"name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}
//! [f(a=1), g()]
//! ```
//!
//! Neither needs a mark, so both are calls only where nothing has been said before, and otherwise behind
//! `<|python_tag|>`, or the `<|python_start|>` of Llama 4.

use serde_json::Value;

use super::input::{Input, Mode, Wrong};
use super::lark::{Entry, Place};
use super::write::{after, call, joined, json};
use super::{Call, Spec, THINK, json as reader, python, tools};

pub(super) const JSON: Spec = Spec {
    name: "llama-json",
    is_in: |template| {
        let is_llama = ["<|start_header_id|>", "<|header_start|>"].iter().any(|mark| template.contains(mark));
        is_llama && template.contains("\"parameters\": ")
    },
    reasoning: THINK,
    markers: &["<|python_tag|>", "<|python_start|>"],
    markers_at_start: &["{"],
    begins_in_markup: false,
    gap: "",
    control: &["<|python_tag|>", "<think>", "</think>"],
    read: |input| Box::pin(read_json(input)),
    write: |content, calls| {
        let tag = if content.is_empty() || calls.is_empty() { "" } else { "<|python_tag|>" };
        after(content, tag, &joined(calls, "; ", |one| call(one, "parameters")))
    },
    grammar: |lark| {
        let first = lark.call_objects("{\"name\": \"", "parameters");
        let one = lark.call_objects("", "parameters");
        let more = lark.more("; ", &one);
        let start = Entry {
            trigger: "{\"name\": \"".to_owned(),
            place: Place::Start,
            rest: format!("{first} {more}"),
        };
        let tag = "<|python_tag|>".to_owned();
        let tagged = Entry { trigger: tag, place: Place::Anywhere, rest: format!("{one} {more}") };
        if lark.has("<|python_tag|>") { vec![start, tagged] } else { vec![start] }
    },
};

pub(super) const PYTHONIC: Spec = Spec {
    name: "llama-pythonic",
    is_in: |template| template.contains("[func_name1("),
    reasoning: THINK,
    markers: &["<|python_start|>", "<|python_tag|>"],
    markers_at_start: &["["],
    begins_in_markup: false,
    gap: "",
    control: &["<|python_start|>", "<|python_end|>", "<|python_tag|>", "<think>", "</think>"],
    read: |input| Box::pin(read_python(input)),
    write: |content, calls| {
        let list = format!("[{}]", joined(calls, ", ", write_python));
        match (content, calls) {
            (_, []) => content.to_owned(),
            ("", _) => list,
            _ => format!("{content}<|python_start|>{list}<|python_end|>"),
        }
    },
    grammar: |lark| {
        let mut entries = Vec::new();
        let mut all = Vec::new();
        for tool in lark.tools.clone() {
            let arguments = python::arguments(lark, tool);
            entries.push((tool.name.clone(), format!("{arguments} \")\"")));
            all.push(format!("{} {arguments} \")\"", lark.text(&format!("{}(", tool.name))));
        }
        let one = lark.rule(&super::lark::any_of(&all));
        let more = lark.more(", ", &one);
        let entry = |(name, first): (String, String)| Entry {
            trigger: format!("[{name}("),
            place: Place::Start,
            rest: format!("{first} {more} \"]\""),
        };
        let mut entries: Vec<Entry> = entries.into_iter().map(entry).collect();
        if lark.has("<|python_start|>") {
            entries.push(Entry {
                trigger: "<|python_start|>".to_owned(),
                place: Place::Anywhere,
                rest: format!("\"[\" {one} {more} \"]\" {}", lark.text("<|python_end|>")),
            });
        }
        entries
    },
};

async fn read_json(input: Input) -> Result<Mode, Wrong> {
    let is_closed = input.maybe("<|python_start|>").await;
    if is_closed || input.maybe("<|python_tag|>").await {
        input.space().await;
    }
    loop {
        reader::call(&input).await?;
        input.end();
        if !input.maybe(";").await {
            break;
        }
        input.space().await;
    }
    if is_closed {
        input.maybe("<|python_end|>").await;
    }
    Ok(Mode::Content)
}

async fn read_python(input: Input) -> Result<Mode, Wrong> {
    let is_marked = input.maybe("<|python_start|>").await || input.maybe("<|python_tag|>").await;
    if is_marked {
        input.space().await;
    }
    input.expect("[").await?;
    loop {
        input.space().await;
        let name = input.name().await?;
        input.expect("(").await?;
        input.begin(&name)?;
        read_arguments(&input, &name).await?;
        input.end();
        input.space().await;
        if !input.maybe(",").await {
            break;
        }
    }
    input.close("]").await?;
    if is_marked {
        input.maybe("<|python_end|>").await;
    }
    Ok(Mode::Content)
}

async fn read_arguments(input: &Input, tool: &str) -> Result<(), Wrong> {
    input.arguments("{");
    let mut is_first = true;
    loop {
        input.space().await;
        if input.maybe(")").await {
            break;
        }
        if !is_first {
            input.expect(",").await?;
            input.space().await;
        }
        let name = input.name().await?;
        input.space().await;
        input.expect("=").await?;
        input.space().await;
        let value = match python::read(input).await? {
            // Templates quote all values.
            Value::String(text) => match input.schema(tool, &name) {
                Some(schema) if tools::kinds(Some(&schema)) == tools::Kinds::Others => {
                    tools::value(Some(&schema), &text)
                }
                _ => Value::String(text),
            },
            value => value,
        };
        input.key(&name, &mut is_first);
        input.arguments(&json(&value));
    }
    input.arguments("}");
    Ok(())
}

fn write_python(call: &Call<'_>) -> String {
    let arguments = call.arguments.as_object().into_iter().flatten();
    let arguments: Vec<String> =
        arguments.map(|(name, value)| format!("{name}={}", python::write(value))).collect();
    format!("{}({})", call.name, arguments.join(", "))
}

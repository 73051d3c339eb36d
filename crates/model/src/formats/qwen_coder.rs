//! Qwen3-Coder, Qwen 3.5 and Nemotron 3, which write a string as it is and everything else as Python or JSON:
//!
//! ```text
//! <tool_call>
//! <function=f>
//! <parameter=a>
//! 1
//! </parameter>
//! </function>
//! </tool_call>
//! ```
//!
//! These models tend to leave out the first line, so that a call may begin with `<function=`.

use serde_json::Value;

use super::input::{Input, Mode, Wrong};
use super::lark::{Entry, Lark, Place};
use super::write::{after, joined, json};
use super::{Call, Spec, THINK};

pub(super) const SPEC: Spec = Spec {
    name: "qwen3-coder",
    is_in: |template| template.contains("<function=") && template.contains("<parameter="),
    reasoning: THINK,
    markers: &["<tool_call>", "<function="],
    markers_at_start: &[],
    begins_in_markup: false,
    gap: "\n\n",
    control: &["<tool_call>", "</tool_call>", "<think>", "</think>"],
    read: |input| Box::pin(read(input)),
    write,
    grammar,
};

async fn read(input: Input) -> Result<Mode, Wrong> {
    let is_marked = input.maybe("<tool_call>").await;
    if is_marked {
        input.space().await;
    }
    input.expect("<function=").await?;
    let name = input.name().await?;
    input.expect(">").await?;
    input.begin(&name)?;
    input.arguments("{");
    let mut is_first = true;
    loop {
        input.space().await;
        if !input.maybe("<parameter=").await {
            break;
        }
        let mut key = String::new();
        input.until(">", false, |piece| key.push_str(piece)).await?;
        input.maybe("\n").await;
        input.key(&key, &mut is_first);
        input.value(&name, &key, "</parameter>", true).await?;
    }
    input.expect("</function>").await?;
    input.arguments("}");
    if is_marked {
        input.space().await;
        input.close("</tool_call>").await?;
    } else if !input.maybe("\n</tool_call>").await {
        input.maybe("</tool_call>").await;
    }
    input.end();
    Ok(Mode::Content)
}

fn write(content: &str, calls: &[Call<'_>]) -> String {
    let argument = |(key, value): (&String, &Value)| {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Bool(true) => "True".to_owned(),
            Value::Bool(false) => "False".to_owned(),
            Value::Null => "None".to_owned(),
            value => json(value),
        };
        format!("<parameter={key}>\n{value}\n</parameter>\n")
    };
    let each = |call: &Call<'_>| {
        let arguments: String = call.arguments.as_object().into_iter().flatten().map(argument).collect();
        format!("<tool_call>\n<function={}>\n{arguments}</function>\n</tool_call>", call.name)
    };
    after(content, "\n\n", &joined(calls, "\n", each))
}

fn grammar(lark: &mut Lark<'_>) -> Vec<Entry> {
    const WORDS: &[(&str, &str)] = &[("boolean", "True"), ("boolean", "False"), ("null", "None")];
    let one = lark.each_tool(|lark, tool| {
        let arguments = lark.parameters(tool, "", |lark, parameter| {
            let head = lark.text(&format!("<parameter={}>\n", parameter.name));
            format!("{head} {} \"\\n\"", lark.value(parameter, ("\n", "</parameter>"), WORDS))
        });
        format!("{} {arguments}", lark.text(&format!("\n<function={}>\n", tool.name)))
    });
    let one = lark.rule(&format!("{one} {}", lark.text("</function>\n</tool_call>")));
    let more = lark.more("\n<tool_call>", &one);
    let rest = format!("{one} {more}");
    vec![Entry { trigger: "<tool_call>".to_owned(), place: Place::Anywhere, rest }]
}

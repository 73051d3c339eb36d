//! GLM 4.5 and later, which write a string as it is and everything else as JSON:
//!
//! ```text
//! <tool_call>f
//! <arg_key>a</arg_key>
//! <arg_value>1</arg_value>
//! </tool_call>
//! ```
//!
//! GLM 4.7 leaves the new lines out, which is read too.

use serde_json::Value;

use super::input::{Input, Mode, Wrong};
use super::lark::{Entry, Lark, Place};
use super::write::{after, joined, json};
use super::{Call, Spec, THINK, Tags};

pub(super) const SPEC: Spec = Spec {
    name: "glm",
    is_in: |template| template.contains("<arg_key>"),
    reasoning: Tags { written: ["\n<think>", "</think>\n"], ..THINK },
    markers: &["<tool_call>"],
    markers_at_start: &[],
    begins_in_markup: false,
    gap: "\n",
    control: &[
        "<tool_call>",
        "</tool_call>",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "</arg_value>",
        "<think>",
        "</think>",
    ],
    read: |input| Box::pin(read(input)),
    write,
    grammar,
};

async fn read(input: Input) -> Result<Mode, Wrong> {
    input.expect("<tool_call>").await?;
    input.space().await;
    let name = input.name().await?;
    if !input.peek().await.is_some_and(|c| c == '<' || c.is_whitespace()) {
        return Err(Wrong);
    }
    input.begin(&name)?;
    input.arguments("{");
    let mut is_first = true;
    loop {
        input.space().await;
        if !input.maybe("<arg_key>").await {
            break;
        }
        let mut key = String::new();
        input.until("</arg_key>", false, |piece| key.push_str(piece)).await?;
        input.space().await;
        input.expect("<arg_value>").await?;
        input.key(&key, &mut is_first);
        input.value(&name, &key, "</arg_value>", false).await?;
    }
    input.arguments("}");
    input.close("</tool_call>").await?;
    input.end();
    Ok(Mode::Content)
}

fn write(content: &str, calls: &[Call<'_>]) -> String {
    let argument = |(key, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| json(value), str::to_owned);
        format!("<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n")
    };
    let each = |call: &Call<'_>| {
        let arguments: String = call.arguments.as_object().into_iter().flatten().map(argument).collect();
        format!("<tool_call>{}\n{arguments}</tool_call>", call.name)
    };
    after(content, "\n", &joined(calls, "\n", each))
}

fn grammar(lark: &mut Lark<'_>) -> Vec<Entry> {
    let one = lark.each_tool(|lark, tool| {
        let arguments = lark.parameters(tool, "", |lark, parameter| {
            let head = lark.text(&format!("<arg_key>{}</arg_key>\n<arg_value>", parameter.name));
            let value = lark.value(parameter, ("", "</arg_value>"), &[]);
            format!("{head} {value} \"\\n\"")
        });
        format!("{} {arguments}", lark.text(&format!("{}\n", tool.name)))
    });
    let one = lark.rule(&format!("{one} {}", lark.text("</tool_call>")));
    let more = lark.more("\n<tool_call>", &one);
    let rest = format!("{one} {more}");
    vec![Entry { trigger: "<tool_call>".to_owned(), place: Place::Anywhere, rest }]
}

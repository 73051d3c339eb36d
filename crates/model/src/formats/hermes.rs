//! Hermes, and Qwen 2.5 and 3 after it:
//!
//! ```text
//! <tool_call>
//! {"name": "f", "arguments": {"a": 1}}
//! </tool_call>
//! ```

use super::input::{Input, Mode, Wrong};
use super::lark::{Entry, Lark, Place};
use super::write::{after, call, joined};
use super::{Call, Spec, THINK, json};

pub(super) const SPEC: Spec = Spec {
    name: "hermes",
    is_in: |template| {
        template.contains("<tool_call>")
            && !["<arg_key>", "<function="].iter().any(|other| template.contains(other))
    },
    reasoning: THINK,
    markers: &["<tool_call>"],
    markers_at_start: &[],
    begins_in_markup: false,
    gap: "\n",
    control: &["<tool_call>", "</tool_call>", "<think>", "</think>"],
    read: |input| Box::pin(read(input)),
    write,
    grammar,
};

async fn read(input: Input) -> Result<Mode, Wrong> {
    input.expect("<tool_call>").await?;
    input.space().await;
    json::call(&input).await?;
    input.space().await;
    input.close("</tool_call>").await?;
    input.end();
    Ok(Mode::Content)
}

fn write(content: &str, calls: &[Call<'_>]) -> String {
    let each = |one: &Call<'_>| format!("<tool_call>\n{}\n</tool_call>", call(one, "arguments"));
    after(content, "\n", &joined(calls, "\n", each))
}

fn grammar(lark: &mut Lark<'_>) -> Vec<Entry> {
    let call = lark.call_objects("", "arguments");
    let one = lark.rule(&format!("\"\\n\" {call} {}", lark.text("\n</tool_call>")));
    let more = lark.more("\n<tool_call>", &one);
    vec![Entry { trigger: "<tool_call>".to_owned(), place: Place::Anywhere, rest: format!("{one} {more}") }]
}

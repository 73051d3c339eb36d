//! Mistral, the list of its first models and the names of those since 2025:
//!
//! ```text
//! [TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]
//! [TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{}
//! ```
//!
//! Between name and arguments there may be an id, `[CALL_ID]abcdefghi`, which is the server's to give and is
//! not kept. Both are read in either format, as models of one kind know the other.

use super::input::{Input, Mode, Wrong};
use super::lark::{Entry, Lark, Place};
use super::write::{after, call, joined, json};
use super::{Call, Spec, Tags};

pub(super) const NAMED: Spec = Spec {
    name: "mistral",
    is_in: |template| template.contains("[TOOL_CALLS]") && template.contains("[ARGS]"),
    write: |content, calls| {
        let each = |call: &Call<'_>| format!("[TOOL_CALLS]{}[ARGS]{}", call.name, json(call.arguments));
        after(content, "", &joined(calls, "", each))
    },
    grammar: |lark| {
        let one = lark.each_tool(|lark, tool| {
            let arguments = lark.arguments(tool);
            format!("{} {arguments}", lark.text(&format!("{}[ARGS]", tool.name)))
        });
        let one = lark.rule(&one);
        let more = lark.more("[TOOL_CALLS]", &one);
        entry(format!("{one} {more}"))
    },
    ..LIST
};

pub(super) const LIST: Spec = Spec {
    name: "mistral-list",
    is_in: |template| template.contains("[TOOL_CALLS]"),
    reasoning: Tags {
        open: "[THINK]",
        close: "[/THINK]",
        written: ["[THINK]", "[/THINK]"],
        is_on_lines: false,
    },
    markers: &["[TOOL_CALLS]"],
    markers_at_start: &[],
    begins_in_markup: false,
    gap: "",
    control: &["[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"],
    read: |input| Box::pin(read(input)),
    write: |content, calls| {
        let list = joined(calls, ", ", |one| call(one, "arguments"));
        let list = if calls.is_empty() { list } else { format!("[TOOL_CALLS][{list}]") };
        after(content, "", &list)
    },
    grammar: |lark: &mut Lark<'_>| {
        let one = lark.call_objects("", "arguments");
        let more = lark.more(", ", &one);
        entry(format!("\"[\" {one} {more} \"]\""))
    },
};

fn entry(rest: String) -> Vec<Entry> {
    vec![Entry { trigger: "[TOOL_CALLS]".to_owned(), place: Place::Anywhere, rest }]
}

async fn read(input: Input) -> Result<Mode, Wrong> {
    input.expect("[TOOL_CALLS]").await?;
    input.space().await;
    if input.peek().await == Some('[') {
        list(&input).await?;
        return Ok(Mode::Content);
    }
    let name = input.name().await?;
    if input.maybe("[CALL_ID]").await {
        input.name().await?;
    }
    input.expect("[ARGS]").await?;
    input.space().await;
    input.begin(&name)?;
    super::json::arguments(&input).await?;
    input.end();
    Ok(Mode::Content)
}

async fn list(input: &Input) -> Result<(), Wrong> {
    input.expect("[").await?;
    loop {
        input.space().await;
        super::json::call(input).await?;
        input.end();
        input.space().await;
        if !input.maybe(",").await {
            return input.close("]").await;
        }
    }
}

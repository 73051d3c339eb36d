//! DeepSeek, R1 and V3, and V3.1:
//!
//! ````text
//! <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f
//! ```json
//! {"a": 1}
//! ```<｜tool▁call▁end｜>
//! <｜tool▁call▁begin｜>…<｜tool▁call▁end｜><｜tool▁calls▁end｜>
//!
//! <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜><｜tool▁calls▁end｜>
//! ````
//!
//! Both are read in either format.

use super::input::{Input, Mode, Wrong};
use super::lark::{Entry, Lark, Place};
use super::write::{after, joined, json};
use super::{Call, Spec, THINK, Tags, json as reader};

const BEGIN: &str = "<｜tool▁calls▁begin｜>";
const END: &str = "<｜tool▁calls▁end｜>";
const CALL_BEGIN: &str = "<｜tool▁call▁begin｜>";
const CALL_END: &str = "<｜tool▁call▁end｜>";
const NAME_END: &str = "<｜tool▁sep｜>";

pub(super) const V3: Spec = Spec {
    name: "deepseek-v3",
    is_in: |template| template.contains(BEGIN) && template.contains("```json"),
    reasoning: THINK,
    write: |content, calls| write(content, calls, &V3_PARTS),
    grammar: |lark| grammar(lark, &V3_PARTS),
    ..V3_1
};

pub(super) const V3_1: Spec = Spec {
    name: "deepseek-v3.1",
    is_in: |template| template.contains(BEGIN),
    reasoning: Tags { written: ["<think>", "</think>"], ..THINK },
    markers: &[BEGIN],
    markers_at_start: &[],
    begins_in_markup: false,
    gap: "",
    control: &[BEGIN, END, CALL_BEGIN, CALL_END, NAME_END, "<think>", "</think>"],
    read: |input| Box::pin(read(input)),
    write: |content, calls| write(content, calls, &V3_1_PARTS),
    grammar: |lark| grammar(lark, &V3_1_PARTS),
};

/// What stands before the name, before and after the arguments, and between calls.
struct Parts {
    kind: &'static str,
    open: &'static str,
    close: &'static str,
    between: &'static str,
}

const V3_PARTS: Parts =
    Parts { kind: "function<｜tool▁sep｜>", open: "\n```json\n", close: "\n```", between: "\n" };

const V3_1_PARTS: Parts = Parts { kind: "", open: NAME_END, close: "", between: "" };

async fn read(input: Input) -> Result<Mode, Wrong> {
    input.expect(BEGIN).await?;
    loop {
        input.space().await;
        input.expect(CALL_BEGIN).await?;
        call(&input).await?;
        input.space().await;
        input.close(CALL_END).await?;
        input.end();
        input.space().await;
        if input.maybe(END).await || input.peek().await.is_none() {
            return Ok(Mode::Content);
        }
    }
}

async fn call(input: &Input) -> Result<(), Wrong> {
    let first = input.name().await?;
    input.expect(NAME_END).await?;
    input.space().await;
    if first != "function" || input.peek().await == Some('{') {
        input.begin(&first)?;
        return reader::arguments(input).await;
    }
    let name = input.name().await?;
    input.space().await;
    input.expect("```json").await?;
    input.space().await;
    input.begin(&name)?;
    reader::arguments(input).await?;
    input.space().await;
    input.expect("```").await
}

fn write(content: &str, calls: &[Call<'_>], parts: &Parts) -> String {
    let Parts { kind, open, close, between } = parts;
    let each = |call: &Call<'_>| {
        format!("{CALL_BEGIN}{kind}{}{open}{}{close}{CALL_END}", call.name, json(call.arguments))
    };
    let list = joined(calls, between, each);
    if calls.is_empty() { content.to_owned() } else { after(content, "", &format!("{BEGIN}{list}{END}")) }
}

fn grammar(lark: &mut Lark<'_>, parts: &Parts) -> Vec<Entry> {
    let one = lark.each_tool(|lark, tool| {
        let arguments = lark.arguments(tool);
        let head = lark.text(&format!("{CALL_BEGIN}{}{}{}", parts.kind, tool.name, parts.open));
        format!("{head} {arguments} {}", lark.text(&format!("{}{CALL_END}", parts.close)))
    });
    let one = lark.rule(&one);
    let more = lark.more(parts.between, &one);
    let rest = format!("{one} {more} {}", lark.text(END));
    vec![Entry { trigger: BEGIN.to_owned(), place: Place::Anywhere, rest }]
}

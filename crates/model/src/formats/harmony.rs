//! Harmony, of gpt-oss: an answer is messages, each on a channel.
//!
//! ```text
//! <|channel|>analysis<|message|>What is thought.<|end|>
//! <|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"a": 1}<|call|>
//! <|start|>assistant<|channel|>final<|message|>What is said.<|return|>
//! ```
//!
//! (without the new lines). The recipient may also stand before the channel, where templates write it. The
//! channel `commentary` without a recipient is content, like `final`. `<|call|>` and `<|return|>` are stop
//! tokens, which need not be in the text.

use super::input::{Input, Mode, Wrong, is_name};
use super::lark::{Entry, Lark, Place};
use super::write::{joined, json};
use super::{Call, Spec, Tags, json as reader};

const RECIPIENT: &str = "to=functions.";

pub(super) const SPEC: Spec = Spec {
    name: "harmony",
    is_in: |template| template.contains("<|channel|>") && template.contains("<|message|>"),
    reasoning: Tags {
        open: "<|channel|>analysis<|message|>",
        close: "<|end|>",
        written: ["<|channel|>analysis<|message|>", "<|end|><|start|>assistant"],
        is_on_lines: false,
    },
    markers: &["<|channel|>", "<|start|>", "<|end|>", "<|return|>", "<|call|>"],
    markers_at_start: &[],
    begins_in_markup: false,
    gap: "",
    control: &[
        "<|channel|>",
        "<|start|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|message|>",
        "<|constrain|>",
    ],
    read: |input| Box::pin(read(input)),
    write,
    grammar,
};

async fn read(input: Input) -> Result<Mode, Wrong> {
    for end in ["<|end|>", "<|return|>", "<|call|>"] {
        if input.maybe(end).await {
            return Ok(Mode::Content);
        }
    }
    let mut recipient = None;
    if input.maybe("<|start|>").await {
        input.expect("assistant").await?;
        recipient = read_recipient(&input).await?;
    }
    input.expect("<|channel|>").await?;
    let channel = input.name().await?;
    if recipient.is_none() {
        recipient = read_recipient(&input).await?;
    }
    input.space().await;
    input.maybe("<|constrain|>").await;
    while input.take(is_name).await.is_ok() {}
    input.expect("<|message|>").await?;
    match (channel.as_str(), recipient) {
        (_, Some(name)) => {
            input.begin(&name)?;
            input.space().await;
            reader::arguments(&input).await?;
            input.space().await;
            input.close("<|call|>").await?;
            input.end();
            Ok(Mode::Content)
        }
        ("analysis", None) => Ok(Mode::Reasoning),
        ("commentary" | "final", None) => Ok(Mode::Content),
        _ => Err(Wrong),
    }
}

async fn read_recipient(input: &Input) -> Result<Option<String>, Wrong> {
    input.space().await;
    if !input.maybe(RECIPIENT).await {
        return Ok(None);
    }
    let name = input.name().await?;
    input.space().await;
    Ok(Some(name))
}

fn write(content: &str, calls: &[Call<'_>]) -> String {
    let each = |call: &Call<'_>| {
        let arguments = json(call.arguments);
        format!(
            "<|channel|>commentary {RECIPIENT}{} <|constrain|>json<|message|>{arguments}<|call|>",
            call.name
        )
    };
    let list = joined(calls, "<|start|>assistant", each);
    match (content, calls) {
        (_, []) => format!("<|channel|>final<|message|>{content}"),
        ("", _) => list,
        _ => format!("<|channel|>commentary<|message|>{content}<|end|><|start|>assistant{list}"),
    }
}

fn grammar(lark: &mut Lark<'_>) -> Vec<Entry> {
    let one = lark.each_tool(|lark, tool| {
        let arguments = lark.arguments(tool);
        format!("{} {arguments}", lark.text(&format!("{} <|constrain|>json<|message|>", tool.name)))
    });
    let one = lark.rule(&one);
    let trigger = format!("<|channel|>commentary {RECIPIENT}");
    let more = lark.more(&format!("<|call|><|start|>assistant{trigger}"), &one);
    let rest = format!("{one} {more} ({})?", lark.text("<|call|>"));
    vec![Entry { trigger, place: Place::Anywhere, rest }]
}

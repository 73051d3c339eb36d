//! Functionary, versions 3.1 and 3.2:
//!
//! ```text
//! <function=f>{"a": 1}</function>
//! >>>all
//! What is said.>>>f
//! {"a": 1}
//! ```
//!
//! In 3.2 every piece has a recipient, `all` for content. The prompt ends with the first `>>>`.

use super::input::{Input, Mode, Wrong};
use super::lark::{Entry, Place};
use super::write::{after, joined, json};
use super::{Call, NO_TAGS, Spec, json as reader};

pub(super) const V3_1: Spec = Spec {
    name: "functionary-v3.1",
    is_in: |template| template.contains("<function="),
    reasoning: NO_TAGS,
    markers: &["<function="],
    markers_at_start: &[],
    begins_in_markup: false,
    gap: "",
    control: &[],
    read: |input| Box::pin(read_v3_1(input)),
    write: |content, calls| {
        let each = |call: &Call<'_>| format!("<function={}>{}</function>", call.name, json(call.arguments));
        after(content, "", &joined(calls, "", each))
    },
    grammar: |lark| {
        let one = lark.each_tool(|lark, tool| {
            let arguments = lark.arguments(tool);
            format!("{} {arguments} \"</function>\"", lark.text(&format!("{}>", tool.name)))
        });
        let one = lark.rule(&one);
        let more = lark.more("<function=", &one);
        let rest = format!("{one} {more}");
        vec![Entry { trigger: "<function=".to_owned(), place: Place::Anywhere, rest }]
    },
};

pub(super) const V3_2: Spec = Spec {
    name: "functionary-v3.2",
    is_in: |template| template.contains(">>>all"),
    reasoning: NO_TAGS,
    markers: &[">>>"],
    markers_at_start: &[],
    begins_in_markup: true,
    gap: "",
    control: &[],
    read: |input| Box::pin(read_v3_2(input)),
    write: |content, calls| {
        let content =
            if content.is_empty() && !calls.is_empty() { String::new() } else { format!("all\n{content}") };
        let each = |call: &Call<'_>| format!("{}\n{}", call.name, json(call.arguments));
        after(&content, ">>>", &joined(calls, ">>>", each))
    },
    grammar: |lark| {
        let mut arguments = Vec::new();
        for tool in lark.tools.clone() {
            arguments.push((format!("{}\n", tool.name), lark.arguments(tool)));
        }
        let all: Vec<String> =
            arguments.iter().map(|(head, one)| format!("{} {one}", lark.text(head))).collect();
        let one = lark.rule(&super::lark::any_of(&all));
        let more = lark.more(">>>", &one);
        let entry = |mark: &str, place: Place, (head, one): &(String, String)| Entry {
            trigger: format!("{mark}{head}"),
            place,
            rest: format!("{one} {more}"),
        };
        let both = |one: &(String, String)| [entry("", Place::Start, one), entry(">>>", Place::Later, one)];
        arguments.iter().flat_map(both).collect()
    },
};

async fn read_v3_1(input: Input) -> Result<Mode, Wrong> {
    input.expect("<function=").await?;
    let name = input.name().await?;
    input.expect(">").await?;
    input.begin(&name)?;
    reader::arguments(&input).await?;
    input.close("</function>").await?;
    input.end();
    Ok(Mode::Content)
}

async fn read_v3_2(input: Input) -> Result<Mode, Wrong> {
    input.maybe(">>>").await;
    let name = input.name().await?;
    input.expect("\n").await?;
    if name == "all" {
        return Ok(Mode::Content);
    }
    input.begin(&name)?;
    reader::arguments(&input).await?;
    input.end();
    Ok(Mode::Content)
}

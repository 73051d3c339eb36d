//! Calls as grammars, in the Lark of llguidance.
//!
//! A format gives [`Entry`]s: what begins a call, and what may follow. All of them are an answer that must
//! call; one alone is what holds once an answer has begun a call by itself.
//!
//! Control tokens are written by number, `<[7]>`, as their names need not have the form that Lark takes.

use std::fmt::Write;

use serde_json::{Value, json};

use super::tools::{self, Kinds, Parameter, Tool, Tools};
use super::{Spec, write};

/// Which tools an answer must call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// One of all of them.
    Required,
    /// The one of that name.
    Named(String),
}

/// Where reasoning may be in an answer that must call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reasoning {
    /// Nowhere.
    #[default]
    No,
    /// Before the calls.
    Allowed,
    /// The prompt has opened it, as [`Format::opens_reasoning`](super::Format::opens_reasoning) says.
    Open,
}

/// What a grammar is to allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrammarOptions {
    /// Which tools.
    pub choice: Choice,
    /// Whether there may be more than one call.
    pub is_parallel: bool,
    /// Where the model may think.
    pub reasoning: Reasoning,
}

/// Why there is no grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// No tools.
    #[error("an answer must call a tool, and none is on offer")]
    NoTools,
    /// None of that name.
    #[error("an answer must call `{name}`, which is not on offer: {offered}")]
    Unknown {
        /// The name.
        name: String,
        /// The names on offer.
        offered: String,
    },
}

/// What begins a call in an answer that may say anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The text, in which control tokens appear as their names.
    pub text: String,
    /// The token, if the text is one control token.
    pub token: Option<u32>,
    /// Whether it counts only where nothing has been said before.
    pub is_at_start: bool,
    /// The grammar, in Lark, of what follows it, to the end of the answer.
    pub grammar: String,
}

/// One way to begin a call.
pub(super) struct Entry {
    /// Text that nothing but a call begins with.
    pub(super) trigger: String,
    /// Where it may be.
    pub(super) place: Place,
    /// What follows, as the right side of a rule.
    pub(super) rest: String,
}

/// Where a call may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Where nothing has been said before.
    Start,
    /// After content.
    Later,
    /// Both.
    Anywhere,
}

pub(super) fn grammar(
    spec: &Spec,
    tools: &Tools,
    options: &GrammarOptions,
    control: &dyn Fn(&str) -> Option<u32>,
) -> Result<String, GrammarError> {
    let chosen: Vec<&Tool> = match &options.choice {
        Choice::Required => tools.iter().collect(),
        Choice::Named(name) => {
            let offered = || tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>().join(", ");
            let tool = tools.get(name);
            vec![tool.ok_or_else(|| GrammarError::Unknown { name: name.clone(), offered: offered() })?]
        }
    };
    if chosen.is_empty() {
        return Err(GrammarError::NoTools);
    }
    let mut lark = Lark::new(spec, chosen, options.is_parallel, control);
    let thoughts = lark.reasoning(spec, options.reasoning);
    let entries = (spec.grammar)(&mut lark);
    let entries = entries.iter().filter(|entry| entry.place != Place::Later);
    let calls: Vec<String> =
        entries.map(|entry| format!("{} {}", lark.text(&entry.trigger), entry.rest)).collect();
    Ok(lark.with_start(&format!("{thoughts} {}", any_of(&calls))))
}

pub(super) fn triggers(
    spec: &Spec,
    tools: &Tools,
    is_parallel: bool,
    control: &dyn Fn(&str) -> Option<u32>,
) -> Vec<Trigger> {
    if tools.is_empty() {
        return Vec::new();
    }
    let mut lark = Lark::new(spec, tools.iter().collect(), is_parallel, control);
    let entries = (spec.grammar)(&mut lark);
    let trigger = |entry: Entry| Trigger {
        token: control(&entry.trigger).filter(|_| spec.control.contains(&entry.trigger.as_str())),
        text: entry.trigger,
        is_at_start: entry.place == Place::Start,
        grammar: lark.with_start(&entry.rest),
    };
    entries.into_iter().map(trigger).collect()
}

/// `(one | other)`.
pub(super) fn any_of(alternatives: &[String]) -> String {
    format!("({})", alternatives.join(" | "))
}

/// A grammar that grows.
pub(super) struct Lark<'a> {
    /// The tools that may be called, one at least.
    pub(super) tools: Vec<&'a Tool>,
    is_parallel: bool,
    names: &'static [&'static str],
    control: &'a dyn Fn(&str) -> Option<u32>,
    rules: String,
    count: usize,
    /// What [`until`](Self::until) has made.
    ends: Vec<(String, String)>,
}

impl<'a> Lark<'a> {
    fn new(
        spec: &Spec,
        tools: Vec<&'a Tool>,
        is_parallel: bool,
        control: &'a dyn Fn(&str) -> Option<u32>,
    ) -> Lark<'a> {
        Lark {
            tools,
            is_parallel,
            names: spec.control,
            control,
            rules: String::new(),
            count: 0,
            ends: Vec::new(),
        }
    }

    fn with_start(&self, start: &str) -> String {
        format!("start: {start}\n{}", self.rules)
    }

    fn reasoning(&mut self, spec: &Spec, reasoning: Reasoning) -> String {
        let tags = &spec.reasoning;
        if reasoning == Reasoning::No || tags.open.is_empty() {
            return String::new();
        }
        let (before, _) = tags.written[0].split_once(tags.open).expect("what is written opens");
        let (_, after) = tags.written[1].split_once(tags.close).expect("what is written closes");
        let rest = format!("{} {}", self.until(tags.close), self.text(after));
        if reasoning == Reasoning::Open {
            return rest;
        }
        format!("({} {rest})?", self.text(&format!("{before}{}", tags.open)))
    }

    /// A rule of its own.
    pub(super) fn rule(&mut self, body: &str) -> String {
        let name = self.forward();
        self.define(&name, body);
        name
    }

    /// The name of a rule that is yet to be [defined](Self::define).
    pub(super) fn forward(&mut self) -> String {
        self.count += 1;
        format!("r{}", self.count)
    }

    /// Defines a rule whose name is known.
    pub(super) fn define(&mut self, name: &str, body: &str) {
        let _ = writeln!(self.rules, "{name}: {body}"); // Writing to a string cannot fail.
    }

    /// A terminal of its own.
    pub(super) fn terminal(&mut self, body: &str) -> String {
        let name = self.forward().to_uppercase();
        self.define(&name, body);
        name
    }

    /// Exactly this text, with its control tokens.
    pub(super) fn text(&self, mut text: &str) -> String {
        let mut out = Vec::new();
        while !text.is_empty() {
            let tokens =
                self.names.iter().filter_map(|name| Some((text.find(name)?, *name, (self.control)(name)?)));
            // The first one, and the longest of those that begin there.
            let first = tokens.min_by_key(|(start, name, _)| (*start, usize::MAX - name.len()));
            let (start, length) = first.map_or((text.len(), 0), |(start, name, _)| (start, name.len()));
            if start > 0 {
                out.push(Value::from(&text[..start]).to_string());
            }
            if let Some((_, _, id)) = first {
                out.push(format!("<[{id}]>"));
            }
            text = &text[start + length..];
        }
        out.join(" ")
    }

    /// JSON that satisfies a schema.
    pub(super) fn json(&mut self, schema: &Value) -> String {
        self.rule(&format!("%json {schema}"))
    }

    /// The arguments of a tool as a JSON object.
    pub(super) fn arguments(&mut self, tool: &Tool) -> String {
        let mut schema = tool.schema.clone();
        if schema.get("type").is_none() {
            schema["type"] = json!("object");
        }
        self.json(&schema)
    }

    /// Calls as objects, one for each tool: `{"name": "f", KEY: {…}}`, from behind `opened` on.
    pub(super) fn call_objects(&mut self, opened: &str, key: &str) -> String {
        let calls = self.each_tool(|lark, tool| {
            let arguments = lark.arguments(tool);
            let head = format!("{{\"name\": {}, \"{key}\": ", write::json(&Value::from(tool.name.as_str())));
            let head = head.strip_prefix(opened).expect("a call begins so");
            format!("{} {arguments} \"}}\"", lark.text(head))
        });
        self.rule(&calls)
    }

    /// One of what `each` makes of the tools.
    pub(super) fn each_tool(&mut self, mut each: impl FnMut(&mut Lark<'a>, &'a Tool) -> String) -> String {
        let tools = self.tools.clone();
        let all: Vec<String> = tools.into_iter().map(|tool| each(self, tool)).collect();
        any_of(&all)
    }

    /// Whether the model has a control token of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        (self.control)(name).is_some()
    }

    /// Any text without `end`, and then `end`.
    pub(super) fn until(&mut self, end: &str) -> String {
        if let Some((_, known)) = self.ends.iter().find(|(known, _)| known == end) {
            return known.clone();
        }
        let quoted = Value::from(end);
        let text = self.terminal(&format!("/(?s:.*)/ & ~(/(?s:.*)/ {quoted} /(?s:.*)/)"));
        let until = if self.names.contains(&end) && self.has(end) {
            // No text goes beyond a control token.
            self.rule(&format!("{text} {}", self.text(end)))
        } else {
            // The first `end` ends it.
            let name = self.forward();
            self.define(&format!("{name}[suffix={quoted}]"), &text);
            name
        };
        self.ends.push((end.to_owned(), until.clone()));
        until
    }

    /// More of `item`, if calls may be parallel.
    pub(super) fn more(&self, separator: &str, item: &str) -> String {
        if self.is_parallel { format!("({} {item})*", self.text(separator)) } else { String::new() }
    }

    /// The parameters of a tool in order, those that need not be given or not. `each` is one of them, and
    /// `separator` stands between two.
    pub(super) fn parameters(
        &mut self,
        tool: &Tool,
        separator: &str,
        each: impl Fn(&mut Lark<'_>, &Parameter<'_>) -> String,
    ) -> String {
        let parameters = tool.parameters();
        let separator = if separator.is_empty() { String::new() } else { self.text(separator) };
        // What may follow when something, and when nothing, has been written.
        let nothing = self.rule("\"\"");
        let (mut after, mut first) = (nothing.clone(), nothing);
        for parameter in parameters.iter().rev() {
            let this = each(self, parameter);
            let given = self.rule(&format!("{this} {after}"));
            let or = |other: &str| if parameter.is_required { String::new() } else { format!(" | {other}") };
            first = self.rule(&format!("{given}{}", or(&first)));
            after = self.rule(&format!("{separator} {given}{}", or(&after)));
        }
        first
    }

    /// A value up to `end`, and that: a string as it is, all else as JSON or one of `words`, which are pairs of
    /// a type and a word. `line` comes before the end where the value does not bring it itself.
    pub(super) fn value(
        &mut self,
        parameter: &Parameter<'_>,
        (line, end): (&str, &str),
        words: &[(&str, &str)],
    ) -> String {
        let last = self.text(&format!("{line}{end}"));
        let schema = parameter.schema;
        match (tools::kinds(Some(schema)), schema.get("enum").or(schema.get("const"))) {
            (Kinds::Strings, Some(values)) => {
                let values = values.as_array().map_or(std::slice::from_ref(values), Vec::as_slice);
                let values: Vec<String> =
                    values.iter().filter_map(Value::as_str).map(|value| self.text(value)).collect();
                format!("{} {last}", any_of(&values))
            }
            (Kinds::Others, _) => {
                let types = schema.get("type");
                let has = |name: &str| {
                    types.is_some_and(|types| {
                        types == name || types.as_array().is_some_and(|all| all.iter().any(|one| one == name))
                    })
                };
                let mut all = vec![self.json(&parameter.schema_with_definitions())];
                all.extend(words.iter().filter(|(name, _)| has(name)).map(|(_, word)| self.text(word)));
                format!("{} {last}", any_of(&all))
            }
            _ => self.until(end),
        }
    }
}

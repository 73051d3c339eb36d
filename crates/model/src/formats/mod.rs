//! Formats: how models write calls of tools, and what they think, in their answers.
//!
//! Every family of models was trained on a markup of its own. A format reads it ([`Parser`]), writes it
//! ([`Format::write`]) and says it as a grammar ([`Format::grammar`]), each in one file here and a row in
//! [`TABLE`]. Which one a model uses is found in its chat template.
//!
//! ```text
//! answer of the model ──> Parser ──> Content, Reasoning, CallBegin, CallArguments, CallEnd
//! content, reasoning, calls ──> Format::write ──> what the model would have written
//! tools ──> Format::grammar, Format::triggers ──> Lark, for llguidance
//! ```
//!
//! Control tokens appear in texts as their names. Tools are JSON objects as in the OpenAI API, as in
//! [`ChatRequest`](crate::chat::ChatRequest).

mod answer;
mod input;
mod json;
mod lark;
mod parser;
mod python;
mod tools;
mod write;

mod deepseek;
mod functionary;
mod glm;
mod harmony;
mod hermes;
mod llama;
mod mistral;
mod qwen_coder;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde_json::Value;

pub use answer::{Answer, Part};
use input::{Input, Mode, Wrong};
pub use lark::{Choice, GrammarError, GrammarOptions, Reasoning, Trigger};
use lark::{Entry, Lark};
pub use parser::{Parser, ParserOptions};
use tools::Tools;
pub use write::WriteError;

/// One format: everything that is to know about it.
struct Spec {
    /// The name by which operators and programs choose it.
    name: &'static str,
    /// Whether a chat template with this source writes it. The first of the table that says so is it.
    is_in: fn(template: &str) -> bool,
    /// How it writes what the model thinks.
    reasoning: Tags,
    /// What begins markup, wherever it stands.
    markers: &'static [&'static str],
    /// What begins calls where nothing has been said before.
    markers_at_start: &'static [&'static str],
    /// Whether an answer begins within markup, as the prompt has written its marker.
    begins_in_markup: bool,
    /// What templates write between content and the first call.
    gap: &'static str,
    /// What may be control tokens of the model, of all that it writes.
    control: &'static [&'static str],
    /// Reads one piece of markup, from its marker on.
    read: fn(Input) -> Reading,
    /// Writes content, which may be empty, and calls, which may be none, as they follow the reasoning.
    write: fn(content: &str, calls: &[Call<'_>]) -> String,
    /// The grammar of calls.
    grammar: fn(&mut Lark<'_>) -> Vec<Entry>,
}

/// What is to be read of markup: which text follows it.
type Reading = Pin<Box<dyn Future<Output = Result<Mode, Wrong>> + Send>>;

/// How a format marks what the model thinks.
struct Tags {
    open: &'static str,
    close: &'static str,
    /// Both, with the space that templates write around them.
    written: [&'static str; 2],
    /// Whether new lines beside the marks belong to them.
    is_on_lines: bool,
}

/// No marks: what such a model thinks is not told from what it says.
const NO_TAGS: Tags = Tags { open: "", close: "", written: ["", ""], is_on_lines: false };

/// `<think>` as most models write it.
const THINK: Tags =
    Tags { open: "<think>", close: "</think>", written: ["<think>\n", "\n</think>\n\n"], is_on_lines: true };

/// A call to be written: a name and an object.
struct Call<'a> {
    name: &'a str,
    arguments: &'a Value,
}

/// The first one is for models whose template shows none.
const TABLE: [Spec; 12] = [
    hermes::SPEC,
    harmony::SPEC,
    mistral::NAMED,
    mistral::LIST,
    deepseek::V3,
    deepseek::V3_1,
    glm::SPEC,
    qwen_coder::SPEC,
    functionary::V3_2,
    functionary::V3_1,
    llama::PYTHONIC,
    llama::JSON,
];

/// A format of calls and reasoning.
#[derive(Clone, Copy)]
pub struct Format(&'static Spec);

impl Format {
    /// All formats.
    pub fn all() -> impl Iterator<Item = Format> {
        TABLE.iter().map(Format)
    }

    /// The format that a chat template with this source writes. If it writes none that is known, `hermes`,
    /// which models follow most readily that have not been trained on any.
    pub fn detect(template: &str) -> Format {
        Format::all().find(|format| (format.0.is_in)(template)).unwrap_or(Format(&TABLE[0]))
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::all().find(|format| format.name() == name)
    }

    /// Its name, such as `hermes`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Whether a prompt ends within reasoning, because its template has written the mark that opens it. The
    /// parser and the grammar are to be told.
    pub fn opens_reasoning(self, prompt: &str) -> bool {
        let open = self.0.reasoning.open;
        !open.is_empty() && prompt.trim_end().ends_with(open)
    }

    /// A parser for one answer to a prompt with these tools. A call of any other tool is content.
    pub fn parser(self, tools: &[Value], options: ParserOptions) -> Parser {
        Parser::new(self.0, Tools::new(tools), options)
    }

    /// What the model would have written, from the first token of its answer on and without the stop token.
    /// [`Parser`] reads the same calls in it, given the same tools, whose schemas say which values are
    /// strings.
    ///
    /// # Errors
    /// A call that the format cannot write, since it has no escapes.
    pub fn write(self, answer: &Answer, tools: &[Value]) -> Result<String, WriteError> {
        write::write(self.0, answer, tools)
    }

    /// A grammar, in the Lark of llguidance, for an answer that calls tools and says nothing else.
    ///
    /// `control` is the token of a control token's name, if the model has it: grammars refer to these by
    /// number, and to all else as text.
    ///
    /// # Errors
    /// A choice that is not among the tools.
    pub fn grammar(
        self,
        tools: &[Value],
        options: &GrammarOptions,
        control: &dyn Fn(&str) -> Option<u32>,
    ) -> Result<String, GrammarError> {
        lark::grammar(self.0, &Tools::new(tools), options, control)
    }

    /// What begins a call in an answer that may say anything, and the grammar that holds behind it.
    pub fn triggers(
        self,
        tools: &[Value],
        is_parallel: bool,
        control: &dyn Fn(&str) -> Option<u32>,
    ) -> Vec<Trigger> {
        lark::triggers(self.0, &Tools::new(tools), is_parallel, control)
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Format({})", self.name())
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Format) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Format {}

//! `answer`: what a model says, thinks and calls, read from its markup, and the markup as a grammar.

use std::sync::Arc;

use ::model::formats::{
    Choice, Format, GrammarError, GrammarOptions, Parser, ParserOptions, Part, Reasoning,
};
use serde_json::Value;
use wasmtime::component::Resource;

use super::bindings::api::answer;
use super::forward::check_tokens;
use super::model::ModelHandle;
use super::{Failure, HostState};
use crate::ServedModel;
use crate::account::Taken;
use crate::error::{ApiError, check_length, invalid};

/// Bytes of an answer, and of a list of tools.
const TEXT_BYTES: usize = 1 << 20;
/// Up to so many bytes of tools are read at once, as other short texts are.
const SHORT_BYTES: usize = 4096;
/// Bytes of a reader beside those of its tools and of what was read.
const READER_BYTES: u64 = 4096;
/// Tokens at the end of a prompt that may be the mark of reasoning.
const MARK_TOKENS: usize = 16;

/// A program's reader of an answer.
pub struct Reader {
    parser: Parser,
    read: usize,
    held: Taken,
}

fn tools(text: Option<&str>) -> Result<Vec<Value>, ApiError> {
    let Some(text) = text else { return Ok(Vec::new()) };
    serde_json::from_str(text)
        .map_err(|error| invalid(format!("the tools are not a JSON list as in the OpenAI API: {error}")))
}

fn refused(error: GrammarError) -> ApiError {
    match error {
        GrammarError::Unknown { .. } => ApiError::NotFound(error.to_string()),
        error => invalid(error.to_string()),
    }
}

impl HostState {
    /// Does something with tools: at once when they are few.
    async fn with_tools<T: Send + 'static>(
        &mut self,
        model: &Resource<ModelHandle>,
        text: Option<String>,
        work: impl FnOnce(&ServedModel, Format, &[Value]) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, Failure> {
        let model: Arc<ServedModel> = self.table.get(model)?.0.clone();
        let bytes = text.as_ref().map_or(0, String::len);
        check_length("the list of tools", bytes, TEXT_BYTES)?;
        let work = move || work(&model, model.text.format()?, &tools(text.as_deref())?);
        if bytes <= SHORT_BYTES { Ok(work()?) } else { self.work(bytes, work).await }
    }
}

impl answer::Host for HostState {
    fn opens_reasoning(&mut self, model: Resource<ModelHandle>, prompt: Vec<u32>) -> Result<bool, Failure> {
        let model = &self.table.get(&model)?.0;
        let end = &prompt[prompt.len().saturating_sub(MARK_TOKENS)..];
        check_tokens(model, end)?;
        let bytes: Vec<u8> = end.iter().flat_map(|token| model.text.token_bytes(*token)).copied().collect();
        Ok(model.text.format()?.opens_reasoning(&String::from_utf8_lossy(&bytes)))
    }

    async fn call_grammar(
        &mut self,
        model: Resource<ModelHandle>,
        options: answer::CallOptions,
    ) -> Result<String, Failure> {
        let _call = self.call("answer.call-grammar", Vec::new);
        let answer::CallOptions { tools, name, parallel, reasoning } = options;
        let reasoning = match reasoning {
            answer::ReasoningPlace::None => Reasoning::No,
            answer::ReasoningPlace::Before => Reasoning::Allowed,
            answer::ReasoningPlace::Opened => Reasoning::Open,
        };
        let choice = name.map_or(Choice::Required, Choice::Named);
        let options = GrammarOptions { choice, is_parallel: parallel, reasoning };
        let work = move |model: &ServedModel, format: Format, tools: &[Value]| {
            format.grammar(tools, &options, &|name| model.text.control(name)).map_err(refused)
        };
        self.with_tools(&model, Some(tools), work).await
    }

    async fn call_triggers(
        &mut self,
        model: Resource<ModelHandle>,
        tools: String,
        parallel: bool,
    ) -> Result<Vec<answer::Trigger>, Failure> {
        let _call = self.call("answer.call-triggers", Vec::new);
        let work = move |model: &ServedModel, format: Format, tools: &[Value]| {
            let triggers = format.triggers(tools, parallel, &|name| model.text.control(name));
            let trigger = |trigger: ::model::formats::Trigger| answer::Trigger {
                text: trigger.text,
                token: trigger.token,
                at_start: trigger.is_at_start,
                grammar: trigger.grammar,
            };
            Ok(triggers.into_iter().map(trigger).collect())
        };
        self.with_tools(&model, Some(tools), work).await
    }
}

impl answer::HostReader for HostState {
    async fn create(
        &mut self,
        model: Resource<ModelHandle>,
        options: answer::ReaderOptions,
    ) -> Result<Resource<Reader>, Failure> {
        let _call = self.call("answer.create", Vec::new);
        let answer::ReaderOptions { tools, any_tool, in_reasoning } = options;
        let bytes = READER_BYTES + tools.as_ref().map_or(0, String::len) as u64;
        let held = self.inferlet.host_memory.take(bytes)?;
        let options = ParserOptions { is_reasoning: in_reasoning, is_any_tool: any_tool };
        let work = move |_: &ServedModel, format: Format, tools: &[Value]| Ok(format.parser(tools, options));
        let parser = self.with_tools(&model, tools, work).await?;
        Ok(self.table.push(Reader { parser, read: 0, held })?)
    }

    fn read(&mut self, reader: Resource<Reader>, text: String) -> Result<Vec<answer::Part>, Failure> {
        let reader = self.table.get_mut(&reader)?;
        check_length("the answer", reader.read + text.len(), TEXT_BYTES)?;
        reader.held.grow(text.len() as u64)?;
        reader.read += text.len();
        Ok(reader.parser.push(&text).into_iter().map(part).collect())
    }

    fn finish(&mut self, reader: Resource<Reader>) -> wasmtime::Result<Vec<answer::Part>> {
        Ok(self.table.get_mut(&reader)?.parser.finish().into_iter().map(part).collect())
    }

    fn drop(&mut self, reader: Resource<Reader>) -> wasmtime::Result<()> {
        self.table.delete(reader)?;
        Ok(())
    }
}

/// Parts say by an index which call they are of; it is the one that has begun last.
fn part(part: Part) -> answer::Part {
    match part {
        Part::Content(text) => answer::Part::Content(text),
        Part::Reasoning(text) => answer::Part::Reasoning(text),
        Part::CallBegin { name, .. } => answer::Part::CallBegin(name),
        Part::CallArguments { json, .. } => answer::Part::CallArguments(json),
        Part::CallEnd { .. } => answer::Part::CallEnd,
        Part::CallFailed { .. } => answer::Part::CallFailed,
    }
}

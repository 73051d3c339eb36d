//! Reads an answer while the model writes it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use super::input::{Input, Mode, State, Wrong};
use super::tools::Tools;
use super::{Part, Spec};

/// How an answer is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParserOptions {
    /// Whether the prompt ended within reasoning, as [`Format::opens_reasoning`](super::Format::opens_reasoning)
    /// says.
    pub is_reasoning: bool,
    /// Whether calls of tools that are not on offer are calls, for a program that describes its tools to the
    /// model in its own words. False by default: then an answer to a prompt without tools has no calls.
    pub is_any_tool: bool,
}

/// A parser of one answer: texts in, [`Part`]s out.
///
/// - What the parts say does not depend on how the answer was cut into pieces.
/// - Text that could be the beginning of markup is held back until it is known. If it is none, it is content,
///   unaltered, and so is markup that is malformed, or that calls what is not on offer.
/// - A call begins when its name is known, to be streamed; should its markup be wrong further on,
///   [`Part::CallFailed`] takes it back, and all of its markup comes as content. Markup is read again from the
///   character on that was wrong, so a call after it is found.
/// - Held is the markup of the call being read, and white space, nothing else.
/// - White space that templates write around markup belongs to it. Reasoning begins where nothing has been
///   said before, or after calls; a `<think>` elsewhere is content.
/// - What closes the last call may be missing at the end of an answer, as it may be the stop token.
pub struct Parser {
    input: Input,
    /// `None` after the end.
    run: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Parser {
    pub(super) fn new(spec: &'static Spec, tools: Tools, options: ParserOptions) -> Parser {
        let is_reasoning = options.is_reasoning && !spec.reasoning.close.is_empty();
        let mode = if is_reasoning { Mode::Reasoning } else { Mode::Content };
        let input = Input::new(spec, tools, options.is_any_tool, mode);
        Parser { run: Some(Box::pin(read(input.clone(), spec))), input }
    }

    /// Reads the next piece of the answer, and gives what it is known to be.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        self.go_on(|state| state.push(text))
    }

    /// The answer has ended. Gives what was held back. The parser takes no more text.
    pub fn finish(&mut self) -> Vec<Part> {
        self.go_on(State::end)
    }

    fn go_on(&mut self, change: impl FnOnce(&mut State)) -> Vec<Part> {
        let Some(run) = &mut self.run else { return Vec::new() };
        change(&mut self.input.lock());
        if run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            self.run = None;
        }
        self.input.lock().take_parts()
    }
}

impl fmt::Debug for Parser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parser").finish_non_exhaustive()
    }
}

/// Text and markup in turn, until the end.
async fn read(input: Input, spec: &'static Spec) {
    while input.text().await {
        match markup(&input, spec).await {
            Ok(mode) => input.accept(mode),
            Err(Wrong) => input.give_back(),
        }
    }
}

async fn markup(input: &Input, spec: &Spec) -> Result<Mode, Wrong> {
    if input.is_reasoning() {
        input.expect(spec.reasoning.close).await?;
        return Ok(Mode::Content);
    }
    if !spec.reasoning.open.is_empty() && input.maybe(spec.reasoning.open).await {
        return Ok(Mode::Reasoning);
    }
    (spec.read)(input.clone()).await
}

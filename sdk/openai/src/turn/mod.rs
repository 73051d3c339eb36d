//! One answer of a conversation: drawn within its tools and its form, and taken apart while it is written. The routes
//! differ in how they ask for it and in how they show it.

pub(crate) mod reader;
pub(crate) mod reasoning;
pub(crate) mod tools;

use inferlet::bindings::pie::inferlet::answer;
use inferlet::{Constraint, Context, FinishReason, Logprob, Model, Trigger, Usage};

use crate::{OutputFormat, Result, Settings};
use reader::{Delta, Message, Reader};
use reasoning::Marks;
use tools::{CallPlace, Tools};

/// How an answer is to be drawn.
pub(crate) struct Turn<'a> {
    pub(crate) model: &'a Model,
    pub(crate) settings: &'a Settings,
    pub(crate) tools: &'a Tools,
    pub(crate) format: Option<&'a OutputFormat>,
}

/// A whole answer.
pub(crate) struct Answered {
    pub(crate) message: Message,
    pub(crate) finish_reason: FinishReason,
    pub(crate) cost: Cost,
}

/// A piece of an answer.
pub(crate) struct Piece<'a> {
    pub(crate) deltas: Vec<Delta>,
    /// Log-probabilities of its tokens.
    pub(crate) logprobs: &'a [Logprob],
    /// What the answer has cost so far.
    pub(crate) cost: Cost,
}

/// What an answer cost, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) prompt: usize,
    /// Of the prompt: those that were not computed.
    pub(crate) cached: usize,
    pub(crate) generated: usize,
    /// Of those generated: those of reasoning.
    pub(crate) reasoning: usize,
}

impl Cost {
    fn new(usage: Usage, reasoning: usize) -> Cost {
        Cost { prompt: usage.prompt, cached: usage.prompt_cached, generated: usage.generated, reasoning }
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, more: Cost) {
        self.prompt += more.prompt;
        self.cached += more.cached;
        self.generated += more.generated;
        self.reasoning += more.reasoning;
    }
}

/// Whether what an answer says has a form from some point on: then it is to be known where its thoughts end.
pub(crate) fn has_form(tools: &Tools, format: Option<&OutputFormat>) -> bool {
    tools.must_call() || format.is_some()
}

impl Turn<'_> {
    /// Draws the `index`th answer after the prompt in `context`. `more` is told of each piece.
    pub(crate) async fn answer(
        &self,
        context: &mut Context,
        index: usize,
        mut more: impl AsyncFnMut(Piece<'_>) -> Result<()>,
    ) -> Result<Answered> {
        let in_reasoning = answer::opens_reasoning(self.model.handle(), context.tokens())?;
        let mut reader = Reader::new(self.model, self.tools, in_reasoning)?;
        // An answer that must call says nothing else, so it has no other form.
        let must_call = self.tools.must_call();
        let marks = match must_call || self.format.is_some() || self.settings.thinking_tokens.is_some() {
            true => Marks::of(self.model)?,
            false => None,
        };
        let place = match (in_reasoning, marks) {
            (false, _) => CallPlace::Start,
            (true, Some(_)) => CallPlace::BehindThoughts,
            (true, None) => CallPlace::InThoughts,
        };
        // All that the generation borrows.
        let form = match self.format.filter(|_| !must_call) {
            Some(format) => Some(format.constraint(self.model).await?),
            None => self.tools.calls(self.model, place).await?,
        };
        let triggers: Vec<(Trigger, Constraint)> = self.tools.triggers(self.model).await?;

        let mut generation = self.settings.apply(context.generate(self.settings.sampling(index)));
        match (&form, marks.filter(|_| in_reasoning)) {
            (Some(form), Some(marks)) => {
                generation = generation.constrain_after(Trigger::text(marks.close).to_the_end(), form);
            }
            (Some(form), None) => generation = generation.constrain(form),
            (None, _) => {}
        }
        if let (Some(tokens), Some(marks)) = (self.settings.thinking_tokens, marks) {
            generation = generation.budget(marks.budget(tokens, in_reasoning));
        }
        for (trigger, constraint) in &triggers {
            generation = generation.constrain_after(trigger.clone(), constraint);
        }
        while let Some(item) = generation.next().await? {
            let deltas = reader.read(&item.text, item.tokens.len())?;
            let cost = Cost::new(generation.usage(), reader.reasoning_tokens());
            more(Piece { deltas, logprobs: &item.logprobs, cost }).await?;
        }
        let deltas = reader.finish();
        let cost = Cost::new(generation.usage(), reader.reasoning_tokens());
        more(Piece { deltas, logprobs: &[], cost }).await?;
        let finish_reason = generation.finish_reason().cloned().unwrap_or(FinishReason::MaxTokens);
        let message = reader.into_message();
        Ok(Answered { message, finish_reason, cost })
    }
}

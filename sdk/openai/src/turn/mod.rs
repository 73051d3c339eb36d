//! One answer of a conversation: drawn within its tools and its form, and taken apart while it is written. The routes
//! differ in how they ask for it and in how they show it.

pub(crate) mod reader;
pub(crate) mod reasoning;
pub(crate) mod tools;

use inferlet::bindings::pie::inferlet::answer;
use inferlet::{Constraint, Context, FinishReason, Logprob, Model, Trigger};

use crate::{OutputFormat, Result, Settings};
use reader::{Delta, Message, Reader};
use reasoning::Marks;
use tools::Tools;

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

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, more: Cost) {
        self.prompt += more.prompt;
        self.cached += more.cached;
        self.generated += more.generated;
        self.reasoning += more.reasoning;
    }
}

impl Turn<'_> {
    /// Draws the `index`th answer after the prompt in `context`. `more` is told of each piece, and of the
    /// log-probabilities of its tokens.
    pub(crate) async fn answer(
        &self,
        context: &mut Context,
        index: usize,
        mut more: impl AsyncFnMut(Vec<Delta>, &[Logprob]) -> Result<()>,
    ) -> Result<Answered> {
        let in_reasoning = answer::opens_reasoning(self.model.handle(), context.tokens())?;
        let mut reader = Reader::new(self.model, self.tools, in_reasoning)?;
        // All that the generation borrows.
        let format = match self.format {
            Some(format) => Some(format.constraint(self.model).await?),
            None => None,
        };
        let must_call = self.tools.must_call(self.model, in_reasoning).await?;
        let triggers: Vec<(Trigger, Constraint)> = self.tools.triggers(self.model).await?;

        let marks = match self.format.is_some() || self.settings.thinking_tokens.is_some() {
            true => Marks::of(self.model)?,
            false => None,
        };

        let mut generation = self.settings.apply(context.generate(self.settings.sampling(index)));
        match (&format, marks.filter(|_| in_reasoning)) {
            (Some(format), Some(marks)) => {
                generation = generation.constrain_after(Trigger::text(marks.close).to_the_end(), format);
            }
            (Some(format), None) => generation = generation.constrain(format),
            (None, _) => {}
        }
        if let Some(must_call) = &must_call {
            generation = generation.constrain(must_call);
        }
        if let (Some(tokens), Some(marks)) = (self.settings.thinking_tokens, marks) {
            generation = generation.budget(marks.budget(tokens, in_reasoning));
        }
        for (trigger, constraint) in &triggers {
            generation = generation.constrain_after(trigger.clone(), constraint);
        }
        while let Some(item) = generation.next().await? {
            let deltas = reader.read(&item.text, item.tokens.len())?;
            more(deltas, &item.logprobs).await?;
        }
        more(reader.finish(), &[]).await?;
        let usage = generation.usage();
        let finish_reason = generation.finish_reason().cloned().unwrap_or(FinishReason::MaxTokens);
        let message = reader.into_message();
        let cost = Cost {
            prompt: usage.prompt,
            cached: usage.prompt_cached,
            generated: usage.generated,
            reasoning: message.reasoning_tokens,
        };
        Ok(Answered { message, finish_reason, cost })
    }
}

//! The tokens of a context, counted by the server for the penalties of sampling.
//!
//! ```text
//! tokens    t0 t1 … t5 | t6 t7 t8 | t9
//!           prompt       generated  not counted yet      <- the next penalized step counts it
//! ```
//! Only what changed crosses over: a step adds the token before it, a truncation takes back what it drops.

use std::ops::Range;

use crate::Result;
use crate::bindings::pie::inferlet::forward::{TokenCounts, TokenOrigin};
use crate::bindings::pie::inferlet::model::Model;
use crate::context::EMBEDDING;

pub(crate) struct Counts {
    handle: TokenCounts,
    /// Leading tokens of the context that are counted.
    counted: usize,
    /// Of them, those that are counted as the prompt.
    prompt: usize,
}

impl Counts {
    pub(crate) fn new(model: &Model) -> Result<Counts> {
        Ok(Counts { handle: TokenCounts::create(model)?, counted: 0, prompt: 0 })
    }

    pub(crate) fn handle(&self) -> &TokenCounts {
        &self.handle
    }

    /// Counts what is not counted yet, but for embedding rows; the first `prompt` tokens are the prompt.
    pub(crate) fn update(&mut self, tokens: &[u32], prompt: usize) -> Result<()> {
        // What was generated before has become a part of the prompt.
        let moved = &tokens[self.prompt..prompt.min(self.counted).max(self.prompt)];
        if !moved.is_empty() {
            self.handle.remove(&countable(moved), TokenOrigin::Generated)?;
            self.handle.add(&countable(moved), TokenOrigin::Prompt)?;
            self.prompt += moved.len();
        }
        let new = &tokens[self.counted..];
        let (of_prompt, generated) = new.split_at(prompt.saturating_sub(self.counted).min(new.len()));
        if !of_prompt.is_empty() {
            self.handle.add(&countable(of_prompt), TokenOrigin::Prompt)?;
            self.prompt += of_prompt.len();
        }
        if !generated.is_empty() {
            self.handle.add(&countable(generated), TokenOrigin::Generated)?;
        }
        self.counted = tokens.len();
        Ok(())
    }

    /// Takes back tokens of a range, as far as they are counted, before they leave `tokens`.
    pub(crate) fn forget(&mut self, tokens: &[u32], range: Range<usize>) -> Result<()> {
        let (start, end) = (range.start, range.end.min(self.counted));
        if start >= end {
            return Ok(());
        }
        let boundary = self.prompt.clamp(start, end);
        self.handle.remove(&countable(&tokens[start..boundary]), TokenOrigin::Prompt)?;
        self.handle.remove(&countable(&tokens[boundary..end]), TokenOrigin::Generated)?;
        self.counted -= end - start;
        self.prompt -= boundary - start;
        Ok(())
    }
}

/// The tokens without embedding rows, which are none.
fn countable(tokens: &[u32]) -> Vec<u32> {
    tokens.iter().copied().filter(|token| *token != EMBEDDING).collect()
}

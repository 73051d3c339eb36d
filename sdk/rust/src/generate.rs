//! Token after token until something ends it.

use crate::bindings::pie::inferlet::grammar::Constraint;
use crate::stop::{Stop, StopTexts};
use crate::{Context, Detokenizer, Error, Result, SamplingParams, Window};

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model drew one of its stop tokens.
    StopToken,
    /// A stop text appeared.
    StopText(String),
    /// The constraint is complete and allows nothing more.
    Constraint,
    /// `max_tokens` were drawn.
    MaxTokens,
    /// The model has no position left for another token.
    ContextLength,
}

/// A running generation: settings first, then [`Generation::next`] for each piece or [`Generation::text`] for
/// all.
///
/// The context gets the tokens of the text: neither a stop token nor a stop text is added to it.
pub struct Generation<'a> {
    context: &'a mut Context,
    sampling: SamplingParams,
    seed: u64,
    constraint: Option<&'a Constraint>,
    window: Option<Window>,
    max_tokens: usize,
    stop_tokens: Vec<u32>,
    stop_texts: StopTexts,
    detokenizer: Detokenizer,
    tokens: Vec<u32>,
    finish_reason: Option<FinishReason>,
}

impl<'a> Generation<'a> {
    pub(crate) fn new(context: &'a mut Context, sampling: SamplingParams) -> Generation<'a> {
        let detokenizer = Detokenizer::new(context.model());
        let stop_tokens = context.model().facts().stop_tokens.clone();
        let (sampling, seed) = sampling.seeded();
        context.end_prompt();
        Generation {
            context,
            sampling,
            seed,
            constraint: None,
            window: None,
            max_tokens: 256,
            stop_tokens,
            stop_texts: StopTexts::default(),
            detokenizer,
            tokens: Vec::new(),
            finish_reason: None,
        }
    }

    /// At most this many tokens; 256 if not set.
    pub fn max_tokens(self, max_tokens: usize) -> Self {
        Generation { max_tokens, ..self }
    }

    /// Ends when this text appears; the text before it is the answer. An empty one is refused by
    /// [`Generation::next`].
    pub fn stop(mut self, text: &str) -> Self {
        self.stop_texts.add(text);
        self
    }

    /// Goes on past the model's stop tokens.
    pub fn ignore_stop_tokens(self) -> Self {
        Generation { stop_tokens: Vec::new(), ..self }
    }

    /// Draws only what the constraint allows, and advances it.
    pub fn constraint(self, constraint: &'a Constraint) -> Self {
        Generation { constraint: Some(constraint), ..self }
    }

    /// Keeps only a window of the context, from the prompt on: the text never reaches the context length.
    pub fn window(self, window: Window) -> Self {
        Generation { window: Some(window), ..self }
    }

    /// The seed of the draws: that of the sampling parameters, or the random one.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Tokens of the text so far: neither a stop token nor those of a stop text.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Why it ended; none while it runs.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.finish_reason.as_ref()
    }

    /// Draws tokens until there is text to give out; none at the end.
    ///
    /// # Errors
    /// `invalid-argument` when a stop text is empty, and as for [`Context::step`].
    pub async fn next(&mut self) -> Result<Option<String>> {
        if self.stop_texts.has_empty() {
            return Err(Error::InvalidArgument("a stop text is empty".to_string()).into());
        }
        while self.finish_reason.is_none() {
            let text = self.draw().await?;
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// The whole text.
    ///
    /// # Errors
    /// As for [`Generation::next`].
    pub async fn text(mut self) -> Result<String> {
        self.rest().await
    }

    /// The rest of the text: what [`Generation::text`] gives, for a generation that is still needed.
    ///
    /// # Errors
    /// As for [`Generation::next`].
    pub async fn rest(&mut self) -> Result<String> {
        let mut text = String::new();
        while let Some(piece) = self.next().await? {
            text.push_str(&piece);
        }
        Ok(text)
    }

    /// Draws one token and gives the text that can no longer be part of a stop text.
    async fn draw(&mut self) -> Result<String> {
        if self.tokens.len() >= self.max_tokens {
            return Ok(self.end(FinishReason::MaxTokens));
        }
        if let Some(constraint) = self.constraint
            && constraint.finished()?
        {
            return Ok(self.end(FinishReason::Constraint));
        }
        if let Some(window) = self.window {
            window.prefill(self.context).await?;
        } else if !self.tokens.is_empty() && self.context.positions_left().is_none() {
            return Ok(self.end(FinishReason::ContextLength));
        }
        let token = self.context.step(&self.sampling, self.constraint).await?.token;
        if self.stop_tokens.contains(&token) {
            let length = self.context.tokens().len() - 1;
            self.context.truncate(length)?;
            return Ok(self.end(FinishReason::StopToken));
        }
        self.tokens.push(token);
        if let Some(constraint) = self.constraint {
            constraint.advance(&[token])?;
        }
        let (text, stop) = self.stop_texts.push(&self.detokenizer.push(&[token])?);
        if let Some(stop) = stop {
            self.take_back(&stop)?;
            self.finish_reason = Some(FinishReason::StopText(stop.stop));
        }
        Ok(text)
    }

    /// Takes a stop text out of the context.
    fn take_back(&mut self, stop: &Stop) -> Result<()> {
        let removed = self.tokens.len() - stop.tokens;
        let rest = self.context.model().tokenize(&stop.rest)?;
        self.tokens.truncate(stop.tokens);
        self.tokens.extend_from_slice(&rest);
        self.context.truncate(self.context.tokens().len().saturating_sub(removed))?;
        self.context.append_tokens(&rest);
        if let Some(constraint) = self.constraint {
            constraint.rollback(removed as u32)?;
            constraint.advance(&rest)?;
        }
        Ok(())
    }

    fn end(&mut self, reason: FinishReason) -> String {
        self.finish_reason = Some(reason);
        self.stop_texts.finish() + &self.detokenizer.finish()
    }
}

//! Token after token until something ends it.

use crate::bindings::pie::inferlet::grammar::Constraint;
use crate::{Context, Detokenizer, Result, SamplingParams};

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
}

/// A running generation: settings first, then [`Generation::next`] for each piece or [`Generation::text`] for
/// all.
///
/// The stop token is not added to the context; all other tokens are, those of a stop text among them.
pub struct Generation<'a> {
    context: &'a mut Context,
    sampling: SamplingParams,
    constraint: Option<&'a Constraint>,
    max_tokens: usize,
    stop_tokens: Vec<u32>,
    stop_texts: Vec<String>,
    detokenizer: Detokenizer,
    held: String,
    tokens: Vec<u32>,
    finish_reason: Option<FinishReason>,
}

impl<'a> Generation<'a> {
    pub(crate) fn new(context: &'a mut Context, sampling: SamplingParams) -> Generation<'a> {
        let detokenizer = Detokenizer::new(context.model());
        let stop_tokens = context.model().facts().stop_tokens.clone();
        Generation {
            context,
            sampling,
            constraint: None,
            max_tokens: 256,
            stop_tokens,
            stop_texts: Vec::new(),
            detokenizer,
            held: String::new(),
            tokens: Vec::new(),
            finish_reason: None,
        }
    }

    /// At most this many tokens; 256 if not set.
    pub fn max_tokens(self, max_tokens: usize) -> Self {
        Generation { max_tokens, ..self }
    }

    /// Ends when this text appears; the text before it is the answer.
    pub fn stop(mut self, text: &str) -> Self {
        self.stop_texts.push(text.to_string());
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

    /// Tokens drawn so far, without a stop token.
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
    /// As for [`Context::step`].
    pub async fn next(&mut self) -> Result<Option<String>> {
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
    /// As for [`Context::step`].
    pub async fn text(mut self) -> Result<String> {
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
        if self.constraint.is_some_and(|c| c.finished()) {
            return Ok(self.end(FinishReason::Constraint));
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
        self.held.push_str(&self.detokenizer.push(&[token])?);
        let found = self.stop_texts.iter().filter_map(|s| self.held.find(s).map(|at| (at, s.clone()))).min();
        if let Some((at, stop)) = found {
            self.held.truncate(at);
            self.finish_reason = Some(FinishReason::StopText(stop));
            return Ok(std::mem::take(&mut self.held));
        }
        let keep = self.stop_texts.iter().map(|s| partial_suffix(&self.held, s)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Ok(std::mem::replace(&mut self.held, rest))
    }

    fn end(&mut self, reason: FinishReason) -> String {
        self.finish_reason = Some(reason);
        let rest = self.detokenizer.finish();
        std::mem::take(&mut self.held) + &rest
    }
}

/// Bytes at the end of `text` that could be the beginning of `stop`.
fn partial_suffix(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(at, _)| at).skip(1);
    starts.filter(|at| text.ends_with(&stop[..*at])).max().unwrap_or(0)
}

//! Speculative decoding: draft several tokens, verify them all in one pass.

use std::collections::HashMap;

use anyhow::bail;

use crate::context::no_token_allowed;
use crate::counts::Counts;
use crate::forward::{Output, OutputKind, OutputRequest, TokenCounts, TokenOrigin};
use crate::{Context, Result, SamplingParams};

/// Drafts the next tokens.
pub trait Drafter {
    /// Tokens that may follow `tokens`; none costs nothing and gains nothing.
    fn draft(&mut self, tokens: &[u32]) -> Vec<u32>;

    /// The tokens that the model drew after the first rejected guess: drawn on wrong input, but maybe right.
    fn rejected(&mut self, drawn: &[u32]) {
        let _ = drawn;
    }
}

/// Drafts what followed the last time the text ended in the same tokens: good where text repeats itself.
pub struct NgramDrafter {
    order: usize,
    length: usize,
    seen: usize,
    table: HashMap<Vec<u32>, usize>,
}

impl NgramDrafter {
    /// Looks up the last `order` tokens, and drafts up to `length`.
    pub fn new(order: usize, length: usize) -> NgramDrafter {
        NgramDrafter { order: order.max(1), length, seen: 0, table: HashMap::new() }
    }
}

impl Drafter for NgramDrafter {
    fn draft(&mut self, tokens: &[u32]) -> Vec<u32> {
        // Enter the n-grams that something follows already.
        for end in self.seen.max(self.order)..tokens.len() {
            self.table.insert(tokens[end - self.order..end].to_vec(), end);
        }
        self.seen = tokens.len();
        let Some(start) = tokens.len().checked_sub(self.order) else { return Vec::new() };
        let Some(&found) = self.table.get(&tokens[start..]) else { return Vec::new() };
        tokens[found..].iter().copied().take(self.length).collect()
    }
}

/// A running generation that verifies drafts. The text is the one that [`Context::generate`] gives with the
/// same sampling, whatever the drafter says: a guess is kept only if it is the token that the sampling draws
/// there, and the draw depends on the seed and the position alone.
pub struct Speculation<'a, D> {
    context: &'a mut Context,
    sampling: SamplingParams,
    drafter: D,
    max_tokens: usize,
    tokens: Vec<u32>,
    ended: bool,
    /// Passes computed.
    pub passes: usize,
    /// Tokens drafted.
    pub drafted: usize,
    /// Tokens drafted that became text.
    pub accepted: usize,
}

impl<'a, D: Drafter> Speculation<'a, D> {
    /// Begins to generate after the pending tokens of a context.
    pub fn new(context: &'a mut Context, sampling: SamplingParams, drafter: D) -> Speculation<'a, D> {
        let (tokens, max_tokens) = (Vec::new(), 256);
        let (sampling, _) = sampling.seeded();
        context.end_prompt();
        Speculation {
            context,
            sampling,
            drafter,
            max_tokens,
            tokens,
            ended: false,
            passes: 0,
            drafted: 0,
            accepted: 0,
        }
    }

    /// At most this many tokens; 256 if not set.
    pub fn max_tokens(self, max_tokens: usize) -> Self {
        Speculation { max_tokens, ..self }
    }

    /// Tokens so far, without a stop token.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The tokens of one more pass: one, and those drafted that were right. None at the end.
    ///
    /// # Errors
    /// As for [`Context::pass`].
    pub async fn next(&mut self) -> Result<Option<Vec<u32>>> {
        if self.ended || self.tokens.len() >= self.max_tokens {
            return Ok(None);
        }
        let left = self.context.positions_left();
        if left.is_none() && !self.tokens.is_empty() {
            return Ok(None);
        }
        let mut draft = self.drafter.draft(self.context.tokens());
        draft.truncate(left.unwrap_or(0).min(self.max_tokens - self.tokens.len() - 1));
        let first_row = self.context.last_row()?;
        let length = self.context.tokens().len();
        let counts = self.context.count(&self.sampling)?;
        let guessed = counts.as_ref().map(|counts| after_each(counts.handle(), &draft)).transpose()?;
        self.context.append_drawn(&draft);
        let wanted = (0..=draft.len()).map(|guess| {
            let before = counts.as_ref().map(Counts::handle);
            let counts = guess.checked_sub(1).map_or(before, |last| guessed.as_ref().map(|all| &all[last]));
            let kind = OutputKind::Token(self.sampling.for_token(counts, None));
            OutputRequest { row: first_row + guess as u32, kind }
        });
        let answer = self.context.pass(wanted.collect()).await;
        self.context.keep_counts(counts);
        let drawn = match answer {
            Ok(values) => values.into_iter().map(|output| match output {
                Output::Token(drawn) => Ok(drawn.token),
                Output::NoTokenAllowed => Err(no_token_allowed()),
                other => bail!("requested a token, got {other:?}"),
            }),
            Err(error) => {
                self.context.truncate(length)?;
                return Err(error);
            }
        };
        let drawn = match drawn.collect::<Result<Vec<u32>>>() {
            Ok(drawn) => drawn,
            Err(error) => {
                self.context.truncate(length)?;
                return Err(error);
            }
        };
        let right = drawn.iter().zip(&draft).take_while(|(a, b)| a == b).count();
        self.passes += 1;
        self.drafted += draft.len();
        self.drafter.rejected(&drawn[right + 1..]);

        let stop_tokens = &self.context.model().facts().stop_tokens;
        let mut tokens = drawn[..=right].to_vec();
        if let Some(stop) = tokens.iter().position(|token| stop_tokens.contains(token)) {
            tokens.truncate(stop);
            self.ended = true;
        }
        // Guesses accepted behind a stop token are dropped.
        let accepted = right.min(tokens.len());
        self.accepted += accepted;
        self.context.truncate(length + accepted)?;
        self.context.append_drawn(&tokens[accepted..]);
        self.tokens.extend_from_slice(&tokens);
        Ok(Some(tokens))
    }
}

/// Counts as they are after each of these tokens.
fn after_each(counts: &TokenCounts, tokens: &[u32]) -> Result<Vec<TokenCounts>> {
    let mut after: Vec<TokenCounts> = Vec::with_capacity(tokens.len());
    for token in tokens {
        let next = after.last().unwrap_or(counts).fork()?;
        next.add(&[*token], TokenOrigin::Generated)?;
        after.push(next);
    }
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drafter_goes_on_as_the_last_time() {
        let mut drafter = NgramDrafter::new(2, 3);
        assert!(drafter.draft(&[]).is_empty());
        assert!(drafter.draft(&[1, 2]).is_empty());
        assert_eq!(drafter.draft(&[1, 2, 3, 4, 5, 6, 1, 2]), [3, 4, 5]);
        assert_eq!(drafter.draft(&[1, 2, 3, 4, 5, 6, 1, 2, 9, 1, 2]), [9, 1, 2]);
    }
}

//! A context that forgets: memory stays flat however long the text and its prompt get.
//!
//! Tokens keep their positions when others leave, so positions run out where the model's context ends. There
//! the kept tokens are computed once more, from position 0 on: `sink + size` tokens for every
//! `context_length` generated ones.

use crate::generate::prompt;
use crate::{Context, Layout, Result, mask};

/// Keeps the first `sink` tokens, to which models pay attention whatever they say, and the last `size`.
/// Tokens between leave attention, and their pages are freed.
///
/// ```text
/// t0 .. | removed, pages free | .. tn
/// sink                          size, the pending token among them
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Tokens kept at the beginning.
    pub sink: usize,
    /// Tokens kept at the end.
    pub size: usize,
}

impl Window {
    /// Computes all pending tokens but the last, `size` of them a pass, and removes the tokens outside the
    /// window after each pass; call it before each step. Every token attends to the tokens it would if they
    /// came one by one.
    ///
    /// # Errors
    /// As for [`Context::pass`].
    pub async fn prefill(&self, context: &mut Context) -> Result<()> {
        prompt::prefill(context, Some(*self), None).await?;
        Ok(())
    }

    /// Pages that a context takes at most: its kept tokens and a piece of prompt, and on either side of the
    /// removed tokens a page that is freed only when all of it is removed.
    pub fn pages(&self, page_tokens: usize) -> usize {
        self.sink.div_ceil(page_tokens) + (2 * self.size).div_ceil(page_tokens) + 2
    }

    /// Whether a token attends to another, by their places among the kept tokens.
    pub(crate) fn sees(&self, token: usize, other: usize) -> bool {
        other < self.sink || other + self.size > token
    }

    /// Masks for the pending tokens before index `end`, where the causal one would show tokens outside the window.
    pub(crate) fn layout(&self, context: &Context, end: usize) -> Layout {
        let rows = context.tokens().len() - context.pending().len()..end;
        let row = |token: usize| mask((0..=token).map(|other| self.sees(token, other)));
        let masks = (end > self.sink + self.size).then(|| rows.map(row).collect());
        Layout { positions: None, masks }
    }

    /// Removes the computed tokens that no later token attends to, if the tokens before index `end` are all.
    pub(crate) fn slide(&self, context: &mut Context, end: usize) -> Result<()> {
        let computed = context.tokens().len() - context.pending().len();
        let (start, end) = (self.sink, end.saturating_sub(self.size).min(computed));
        if start < end { context.remove(start, end) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_sees_the_sink_and_the_window_it_ends() {
        let window = Window { sink: 2, size: 3 };
        let seen = |token: usize| (0..=token).filter(|other| window.sees(token, *other)).collect::<Vec<_>>();
        assert_eq!(seen(3), [0, 1, 2, 3]);
        assert_eq!(seen(5), [0, 1, 3, 4, 5]);
        assert_eq!(seen(9), [0, 1, 7, 8, 9]);
    }
}

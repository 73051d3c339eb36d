//! A context that forgets: memory stays flat however long the text gets.
//!
//! Tokens keep their positions when others leave, so positions run out where the model's context ends. There
//! the kept tokens are computed once more, from position 0 on: `sink + size` tokens for every
//! `context_length` generated ones.

use crate::{Context, Result};

/// Keeps the first `sink` tokens, to which models pay attention whatever they say, and the last `size`.
/// Tokens between leave attention, and their pages are freed.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Tokens kept at the beginning.
    pub sink: usize,
    /// Tokens kept at the end.
    pub size: usize,
}

impl Window {
    /// Removes the tokens outside the window; call it after each step. Pending tokens are not touched, and
    /// count. Where no position is left for another token, all kept tokens are pending again.
    ///
    /// # Errors
    /// As for [`Context::remove`].
    pub fn slide(&self, context: &mut Context) -> Result<()> {
        let length = context.tokens().len();
        let computed = length - context.pending().len();
        let (start, end) = (self.sink, length.saturating_sub(self.size).min(computed));
        if start < end {
            context.remove(start, end)?;
        }
        let positions = context.model().facts().context_length as usize;
        if context.next_position() as usize + context.pending().len() > positions {
            // A new context begins at position 0; one that lost its first tokens does not go back there.
            let mut anew = Context::new(context.model())?;
            anew.append_tokens(context.tokens());
            *context = anew;
        }
        Ok(())
    }

    /// Pages that the kept tokens take at most: removed tokens free a page when all of it is removed.
    pub fn pages(&self, page_tokens: usize) -> usize {
        self.sink.div_ceil(page_tokens) + self.size.div_ceil(page_tokens) + 2
    }
}

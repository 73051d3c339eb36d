//! A context that forgets: memory stays flat however long the text gets.

use crate::{Context, Result};

/// Keeps the first `sink` tokens, to which models pay attention whatever they say, and the last `size`. Tokens between
/// leave attention, and their pages are freed.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Tokens kept at the beginning.
    pub sink: usize,
    /// Tokens kept at the end.
    pub size: usize,
}

impl Window {
    /// Drops what is outside the window; call it after each step. Pending tokens are not touched, and count.
    ///
    /// # Errors
    /// As for [`Context::remove`].
    pub fn slide(&self, context: &mut Context) -> Result<()> {
        let length = context.tokens().len();
        let computed = length - context.pending().len();
        let (start, end) = (self.sink, length.saturating_sub(self.size).min(computed));
        if start < end { context.remove(start, end) } else { Ok(()) }
    }

    /// Pages that the kept tokens take at most: removed tokens free a page when all of it is removed.
    pub fn pages(&self, page_tokens: usize) -> usize {
        self.sink.div_ceil(page_tokens) + self.size.div_ceil(page_tokens) + 2
    }
}

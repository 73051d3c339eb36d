//! What a model computed for programs, in tokens, and how long they waited for them.
//!
//! The engine knows rows; which of them are a prompt is seen here. A token that a pass drew comes back as a row of the
//! context's next pass, so the rows beyond those are text, or tokens that the program chose itself:
//!
//! ```text
//! pass      rows            drawn   of the rows, prompt
//! prompt    The quick brown fox     3
//! step      fox             jumps   0
//! step      jumps           .       0
//! turn      . And then      he      2
//! ```
//! All of it is counted with atomics, once for each pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use metrics::{SECONDS, SharedHistogram};

use crate::ServedModel;
use crate::inferlet::InferletState;

/// The counts of one model.
pub(crate) struct TokenCounts {
    pub(crate) prompt: AtomicU64,
    pub(crate) generated: AtomicU64,
    /// From the launch of an inferlet to the first token that it draws.
    pub(crate) first_token: SharedHistogram,
    /// Between two tokens of a context, without a prompt between them.
    pub(crate) between_tokens: SharedHistogram,
    /// From the launch of an inferlet that drew tokens to its end.
    pub(crate) whole: SharedHistogram,
}

impl Default for TokenCounts {
    fn default() -> TokenCounts {
        let histogram = || SharedHistogram::new(SECONDS);
        TokenCounts {
            prompt: AtomicU64::new(0),
            generated: AtomicU64::new(0),
            first_token: histogram(),
            between_tokens: histogram(),
            whole: histogram(),
        }
    }
}

/// What the last pass of a context drew.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drawn {
    tokens: u32,
    at: Option<Instant>,
}

/// A pass that was answered.
pub(crate) struct AnsweredPass {
    pub(crate) rows: u32,
    pub(crate) drawn: u32,
    /// Whether its rows stay in the context.
    pub(crate) keep: bool,
}

impl Drawn {
    /// Counts a pass of a context of this model.
    pub(crate) fn count(&mut self, model: &Arc<ServedModel>, inferlet: &InferletState, pass: &AnsweredPass) {
        let AnsweredPass { rows, drawn, keep } = *pass;
        let prompt = rows.saturating_sub(self.tokens);
        let counts = &model.tokens;
        counts.prompt.fetch_add(u64::from(prompt), Ordering::Relaxed);
        let mut at = None;
        if drawn > 0 {
            counts.generated.fetch_add(u64::from(drawn), Ordering::Relaxed);
            let now = Instant::now();
            if inferlet.drew_from(model) {
                counts.first_token.observe(now.saturating_duration_since(inferlet.arrived()));
            } else if let Some(before) = self.at.filter(|_| prompt == 0) {
                counts.between_tokens.observe(now - before);
            }
            at = Some(now);
        }
        if keep {
            *self = Drawn { tokens: drawn, at };
        }
    }
}

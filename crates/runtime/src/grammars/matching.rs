//! Where a text is within a grammar, with the model's stop tokens, which the grammar library does not count.

use std::sync::Arc;
use std::time::Duration;

use llguidance::{CancellationHandle, Matcher};
use model::Wanted;

use super::{Expressions, stoppable};
use crate::ServedModel;
use crate::account::Account;
use crate::error::{ApiError, invalid};

/// A state within a grammar.
pub(crate) struct Matching {
    matcher: Matcher,
    /// Ends a step of this state.
    cancellation: CancellationHandle,
    model: Arc<ServedModel>,
    accepted: Vec<Accepted>,
    bytes: u64,
    /// What steps have made.
    expressions: Expressions,
    /// Whether a step was stopped in its middle.
    is_broken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepted {
    Token,
    Stop,
}

/// A matcher whose steps can be ended from another thread, and what ends them.
fn cancellable(matcher: Matcher) -> (Matcher, CancellationHandle) {
    let matcher = matcher.into_cancellable();
    let cancellation = matcher.cancellation_handle().expect("it was made so");
    (matcher, cancellation)
}

impl Matching {
    /// The state before the first token. A compiled grammar takes so many bytes.
    pub(crate) fn new(model: Arc<ServedModel>, matcher: Matcher, bytes: u64) -> Matching {
        let (matcher, cancellation) = cancellable(matcher);
        let (accepted, expressions) = (Vec::new(), Expressions::default());
        Matching { matcher, cancellation, model, accepted, bytes, expressions, is_broken: false }
    }

    /// An equal state.
    ///
    /// # Errors
    /// As [`Self::work`] when there is none, and `limit-exceeded` when there is no memory for what steps have made.
    pub(crate) fn fork(&self, memory: &Arc<Account>) -> Result<Matching, ApiError> {
        self.check()?;
        let expressions = self.expressions.copy(memory)?;
        let (model, accepted) = (self.model.clone(), self.accepted.clone());
        let (matcher, cancellation) = cancellable(self.matcher.deep_clone());
        Ok(Matching {
            matcher,
            cancellation,
            model,
            accepted,
            bytes: self.bytes,
            expressions,
            is_broken: false,
        })
    }

    /// Does something in the grammar, on this thread, until it ends, is not wanted any more, or has had so much processor
    /// time. What was stopped in its middle is the last of this state.
    ///
    /// # Errors
    /// Those of the work; `limit-exceeded` at the limits; `cancelled` when it is not wanted; `invalid-argument` when
    /// something before was stopped.
    pub(crate) fn work<T>(
        &mut self,
        limit: Duration,
        wanted: Wanted<'_>,
        memory: &Arc<Account>,
        work: impl FnOnce(&mut Matching) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        self.check()?;
        // Also when it panics.
        self.is_broken = true;
        let mut expressions = std::mem::take(&mut self.expressions);
        let result = stoppable(limit, wanted, memory, &mut expressions, || work(self));
        self.expressions = expressions;
        self.is_broken = result.is_err();
        result.unwrap_or_else(|stopped| Err(stopped.error("a step in the grammar")))
    }

    /// What ends a step that another thread is in.
    pub(crate) fn cancellation(&self) -> CancellationHandle {
        self.cancellation.clone()
    }

    /// Whether there is a state.
    ///
    /// # Errors
    /// `invalid-argument` when a step was stopped in its middle.
    fn check(&self) -> Result<(), ApiError> {
        match self.is_broken || self.cancellation.is_cancelled() {
            false => Ok(()),
            true => {
                Err(invalid("a step in this constraint was stopped in its middle: compile the grammar again"))
            }
        }
    }

    /// Bytes that it takes, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn ended(&self) -> bool {
        self.accepted.last() == Some(&Accepted::Stop)
    }

    /// Bits of the tokens allowed next. All stop tokens of the model are allowed where the text may end.
    pub(crate) fn mask(&mut self) -> Result<Arc<[u32]>, ApiError> {
        let facts = &self.model.facts;
        let length = (facts.vocabulary_size as usize).div_ceil(32);
        let mut words: Vec<u32> = if self.ended() {
            Vec::new()
        } else {
            let mask =
                self.matcher.compute_mask_or_eos().map_err(|e| invalid(format!("the grammar: {e}")))?;
            mask.as_slice().to_vec()
        };
        words.resize(length, 0);
        let stop = &facts.stop_tokens;
        if self.ended() || stop.iter().any(|t| words[*t as usize / 32] >> (t % 32) & 1 == 1) {
            for token in stop {
                words[*token as usize / 32] |= 1 << (token % 32);
            }
        }
        Ok(words.into())
    }

    /// Accepts all of the tokens, or none: it says which is not allowed, or that nobody wants it any more.
    pub(crate) fn advance(&mut self, tokens: &[u32], wanted: Wanted<'_>) -> Result<(), ApiError> {
        for (index, token) in tokens.iter().enumerate() {
            let accepted = if wanted() { self.accept(*token) } else { Err(ApiError::Cancelled) };
            if let Err(refused) = accepted {
                self.rollback(index)?;
                return Err(refused);
            }
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), ApiError> {
        let refused = || invalid(format!("token {token} is not allowed here"));
        if self.model.facts.stop_tokens.contains(&token) {
            if !self.complete() {
                return Err(refused());
            }
            self.accepted.push(Accepted::Stop);
            return Ok(());
        }
        if self.ended() || self.matcher.try_consume_tokens(&[token]).map_err(|e| invalid(e.to_string()))? != 1
        {
            return Err(refused());
        }
        self.accepted.push(Accepted::Token);
        Ok(())
    }

    /// Takes back the last tokens accepted.
    pub(crate) fn rollback(&mut self, tokens: usize) -> Result<(), ApiError> {
        let accepted = self.accepted.len();
        if tokens > accepted {
            return Err(invalid(format!("{tokens} tokens are to be taken back, {accepted} were accepted")));
        }
        let back = self.accepted.split_off(accepted - tokens);
        let consumed = back.iter().filter(|a| **a == Accepted::Token).count();
        self.matcher.rollback(consumed).map_err(|e| invalid(format!("the grammar: {e}")))
    }

    /// Tokens that must come next.
    pub(crate) fn forced(&mut self) -> Vec<u32> {
        if self.ended() { Vec::new() } else { self.matcher.compute_ff_tokens() }
    }

    /// Whether the text may end here.
    pub(crate) fn complete(&mut self) -> bool {
        self.finished() || self.matcher.is_accepting().unwrap_or(false)
    }

    /// Whether nothing can follow.
    pub(crate) fn finished(&self) -> bool {
        self.ended() || self.matcher.is_stopped()
    }
}

//! `grammar`: constraints on what is drawn, over the full vocabulary.

use std::sync::Arc;

use llguidance::Matcher;
use wasmtime::component::{Accessor, HasSelf, Resource};

use super::bindings::api::grammar;
use super::model::ModelHandle;
use super::{Failure, HostState};
use crate::ServedModel;
use crate::error::{ApiError, check_length, invalid};
use crate::grammars::Source;

/// Bytes of a grammar's text.
const SOURCE_BYTES: usize = 1 << 20;

/// A program's state within a grammar.
pub struct Constraint {
    matcher: Matcher,
    model: Arc<ServedModel>,
    /// Whether a stop token was accepted, which the matcher does not count.
    accepted: Vec<Accepted>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepted {
    Token,
    Stop,
}

impl Constraint {
    fn ended(&self) -> bool {
        self.accepted.last() == Some(&Accepted::Stop)
    }

    /// Bits of the tokens allowed next. All stop tokens of the model are allowed where the text may end.
    pub(crate) fn mask(&mut self, model: &ServedModel) -> Result<Arc<[u32]>, ApiError> {
        if self.model.name != model.name {
            return Err(invalid(format!("the constraint was compiled for model `{}`", self.model.name)));
        }
        let mut words: Vec<u32> = if self.ended() {
            vec![0; (model.facts.vocabulary_size as usize).div_ceil(32)]
        } else {
            let mask =
                self.matcher.compute_mask_or_eos().map_err(|e| invalid(format!("the grammar: {e}")))?;
            mask.as_slice().to_vec()
        };
        words.resize((model.facts.vocabulary_size as usize).div_ceil(32), 0);
        let stop = &model.facts.stop_tokens;
        if self.ended() || stop.iter().any(|t| words[*t as usize / 32] >> (t % 32) & 1 == 1) {
            for token in stop {
                words[*token as usize / 32] |= 1 << (token % 32);
            }
        }
        Ok(words.into())
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

    fn take_back(&mut self, tokens: usize) -> Result<(), ApiError> {
        let accepted = self.accepted.len();
        if tokens > accepted {
            return Err(invalid(format!("{tokens} tokens are to be taken back, {accepted} were accepted")));
        }
        let back = self.accepted.split_off(accepted - tokens);
        let consumed = back.iter().filter(|a| **a == Accepted::Token).count();
        self.matcher.rollback(consumed).map_err(|e| invalid(format!("the grammar: {e}")))
    }

    fn complete(&mut self) -> bool {
        self.ended() || self.matcher.is_stopped() || self.matcher.is_accepting().unwrap_or(false)
    }
}

impl grammar::Host for HostState {}

impl grammar::HostConstraint for HostState {
    fn fork(&mut self, constraint: Resource<Constraint>) -> wasmtime::Result<Resource<Constraint>> {
        let source = self.table.get(&constraint)?;
        let (model, accepted) = (source.model.clone(), source.accepted.clone());
        let fork = Constraint { matcher: source.matcher.deep_clone(), model, accepted };
        Ok(self.table.push(fork)?)
    }

    fn advance(&mut self, constraint: Resource<Constraint>, tokens: Vec<u32>) -> Result<(), Failure> {
        let constraint = self.table.get_mut(&constraint)?;
        super::forward::check_tokens(&constraint.model, &tokens)?;
        for (index, token) in tokens.iter().enumerate() {
            if let Err(refused) = constraint.accept(*token) {
                constraint.take_back(index)?;
                return Err(refused.into());
            }
        }
        Ok(())
    }

    fn rollback(&mut self, constraint: Resource<Constraint>, tokens: u32) -> Result<(), Failure> {
        Ok(self.table.get_mut(&constraint)?.take_back(tokens as usize)?)
    }

    fn allowed(&mut self, constraint: Resource<Constraint>) -> Result<Vec<u32>, Failure> {
        let constraint = self.table.get_mut(&constraint)?;
        let model = constraint.model.clone();
        Ok(constraint.mask(&model)?.to_vec())
    }

    fn forced(&mut self, constraint: Resource<Constraint>) -> wasmtime::Result<Vec<u32>> {
        let constraint = self.table.get_mut(&constraint)?;
        Ok(if constraint.ended() { Vec::new() } else { constraint.matcher.compute_ff_tokens() })
    }

    fn complete(&mut self, constraint: Resource<Constraint>) -> wasmtime::Result<bool> {
        Ok(self.table.get_mut(&constraint)?.complete())
    }

    fn finished(&mut self, constraint: Resource<Constraint>) -> wasmtime::Result<bool> {
        let constraint = self.table.get_mut(&constraint)?;
        Ok(constraint.ended() || constraint.matcher.is_stopped())
    }

    fn drop(&mut self, constraint: Resource<Constraint>) -> wasmtime::Result<()> {
        self.table.delete(constraint)?;
        Ok(())
    }
}

impl<T: Send + 'static> grammar::HostConstraintWithStore<T> for HasSelf<HostState> {
    async fn compile(
        accessor: &Accessor<T, Self>,
        model: Resource<ModelHandle>,
        source: grammar::Source,
    ) -> Result<Resource<Constraint>, Failure> {
        let model = accessor.with(|mut access| access.get().table.get(&model).map(|m| m.0.clone()))?;
        let source = match source {
            grammar::Source::Json => Source::Json,
            grammar::Source::JsonSchema(text) => Source::JsonSchema(text),
            grammar::Source::Regex(text) => Source::Regex(text),
            grammar::Source::Lark(text) => Source::Lark(text),
            grammar::Source::Ebnf(text) => Source::Ebnf(text),
        };
        check_length("the grammar", source.text().len(), SOURCE_BYTES)?;
        let compiled = model.clone();
        // A large schema takes milliseconds; the programs on this thread need not wait for it.
        let matcher = tokio::task::spawn_blocking(move || compiled.grammars.compile(source)).await;
        let matcher = matcher.map_err(|e| ApiError::Backend(e.to_string()))??;
        let constraint = Constraint { matcher, model, accepted: Vec::new() };
        accessor.with(|mut access| Ok(access.get().table.push(constraint)?))
    }
}

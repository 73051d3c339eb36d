//! Constraints, by the grammar library that the server has. Its rules for stop tokens are those of the server too.

use std::cell::RefCell;
use std::rc::Rc;

use llguidance::Matcher;
use llguidance::api::TopLevelGrammar;

use super::model::Model;
use super::{Error, invalid};
use crate::testing::{ScriptedModel, pause};

#[derive(Clone, Debug)]
pub enum Source {
    Json,
    JsonSchema(String),
    Regex(String),
    Lark(String),
    Ebnf(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepted {
    Token,
    Stop,
}

struct State {
    matcher: Matcher,
    accepted: Vec<Accepted>,
}

pub struct Constraint {
    model: Rc<ScriptedModel>,
    state: RefCell<State>,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Constraint")
    }
}

impl State {
    fn ended(&self) -> bool {
        self.accepted.last() == Some(&Accepted::Stop)
    }

    fn finished(&self) -> bool {
        self.ended() || self.matcher.is_stopped()
    }

    fn complete(&mut self) -> bool {
        self.finished() || self.matcher.is_accepting().unwrap_or(false)
    }

    fn accept(&mut self, token: u32, stop: &[u32]) -> Result<(), Error> {
        let refused = || invalid(format!("token {token} is not allowed here"));
        if stop.contains(&token) {
            if !self.complete() {
                return Err(refused());
            }
            self.accepted.push(Accepted::Stop);
            return Ok(());
        }
        let consumed =
            || self.matcher.try_consume_tokens(&[token]).map_err(|error| invalid(error.to_string()));
        if self.accepted.last() == Some(&Accepted::Stop) || { consumed }()? != 1 {
            return Err(refused());
        }
        self.accepted.push(Accepted::Token);
        Ok(())
    }

    fn rollback(&mut self, tokens: usize) -> Result<(), Error> {
        let accepted = self.accepted.len();
        if tokens > accepted {
            return Err(invalid(format!("{tokens} tokens are to be taken back, {accepted} were accepted")));
        }
        let back = self.accepted.split_off(accepted - tokens);
        let consumed = back.iter().filter(|accepted| **accepted == Accepted::Token).count();
        self.matcher.rollback(consumed).map_err(|error| invalid(format!("the grammar: {error}")))
    }
}

impl Constraint {
    pub async fn compile(model: &Model, source: Source) -> Result<Constraint, Error> {
        pause().await;
        let schema = |text: &str| match serde_json::from_str(text) {
            Ok(schema) => Ok(TopLevelGrammar::from_json_schema(schema)),
            Err(error) => Err(invalid(format!("the JSON Schema is not JSON: {error}"))),
        };
        let grammar = match &source {
            Source::Json => schema("{}")?,
            Source::JsonSchema(text) => schema(text)?,
            Source::Regex(text) => TopLevelGrammar::from_regex(text),
            Source::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
            Source::Ebnf(_) => return Err(invalid("EBNF is not to be had in a test: write it in Lark")),
        };
        let parser = model.model.parsers().create_parser(grammar);
        let matcher = Matcher::new(parser);
        match matcher.get_error() {
            Some(reason) => Err(invalid(format!("the grammar does not compile: {reason}"))),
            None => {
                let state = RefCell::new(State { matcher, accepted: Vec::new() });
                Ok(Constraint { model: model.model.clone(), state })
            }
        }
    }

    pub fn fork(&self) -> Result<Constraint, Error> {
        let state = self.state.borrow();
        let state = State { matcher: state.matcher.deep_clone(), accepted: state.accepted.clone() };
        Ok(Constraint { model: self.model.clone(), state: RefCell::new(state) })
    }

    pub fn advance(&self, tokens: &[u32]) -> Result<(), Error> {
        let mut state = self.state.borrow_mut();
        for (index, token) in tokens.iter().enumerate() {
            if let Err(refused) = state.accept(*token, &self.model.facts.stop_tokens) {
                state.rollback(index)?;
                return Err(refused);
            }
        }
        Ok(())
    }

    pub fn rollback(&self, tokens: u32) -> Result<(), Error> {
        self.state.borrow_mut().rollback(tokens as usize)
    }

    pub fn allowed(&self) -> Result<Vec<u32>, Error> {
        let mut state = self.state.borrow_mut();
        let length = self.model.words.len().div_ceil(32);
        let mut words = if state.ended() {
            Vec::new()
        } else {
            let mask = state.matcher.compute_mask_or_eos();
            mask.map_err(|error| invalid(format!("the grammar: {error}")))?.as_slice().to_vec()
        };
        words.resize(length, 0);
        let stop = &self.model.facts.stop_tokens;
        if state.ended() || stop.iter().any(|token| words[*token as usize / 32] >> (token % 32) & 1 == 1) {
            stop.iter().for_each(|token| words[*token as usize / 32] |= 1 << (token % 32));
        }
        Ok(words)
    }

    pub fn forced(&self) -> Result<Vec<u32>, Error> {
        let mut state = self.state.borrow_mut();
        Ok(if state.ended() { Vec::new() } else { state.matcher.compute_ff_tokens() })
    }

    pub fn complete(&self) -> Result<bool, Error> {
        Ok(self.state.borrow_mut().complete())
    }

    pub fn finished(&self) -> Result<bool, Error> {
        Ok(self.state.borrow().finished())
    }
}

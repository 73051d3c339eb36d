//! The constraints of a generation: some for the whole text, some from a trigger on.

use crate::context::no_token_allowed;
use crate::generate::text::TextLog;
use crate::{Constraint, Result};

/// What begins a constraint in the middle of a text.
#[derive(Clone, Debug)]
pub struct Trigger {
    sign: Sign,
    again: bool,
    is_last: bool,
    at_start: bool,
}

#[derive(Clone, Debug)]
enum Sign {
    Text(String),
    Token(u32),
}

impl Trigger {
    /// A text. What a token holds behind it is drawn again, within the constraint.
    pub fn text(text: &str) -> Trigger {
        Trigger { sign: Sign::Text(text.to_string()), again: false, is_last: false, at_start: false }
    }

    /// A token.
    pub fn token(token: u32) -> Trigger {
        Trigger { sign: Sign::Token(token), again: false, is_last: false, at_start: false }
    }

    /// At every occurrence that is not within a constraint of a trigger, rather than at the first.
    pub fn every_time(self) -> Trigger {
        Trigger { again: true, ..self }
    }

    /// The text ends with the constraint: where nothing may follow in it, nor before it has begun.
    pub fn to_the_end(self) -> Trigger {
        Trigger { is_last: true, ..self }
    }

    /// Only where the text before it is white space.
    pub fn at_start(self) -> Trigger {
        Trigger { at_start: true, ..self }
    }

    fn is_empty(&self) -> bool {
        matches!(&self.sign, Sign::Text(text) if text.is_empty())
    }

    /// Where in the text it ends, if it is complete with the last token, whose text begins at `from`.
    fn end(&self, log: &TextLog, from: usize, token: u32) -> Option<usize> {
        let (end, length) = match &self.sign {
            Sign::Text(text) => (log.find_end(text, from)?, text.len()),
            Sign::Token(wanted) if *wanted == token => {
                (log.text().len(), log.text().len().saturating_sub(from))
            }
            Sign::Token(_) => return None,
        };
        let is_at_start = || log.text()[..end - length].trim_start().is_empty();
        (!self.at_start || is_at_start()).then_some(end)
    }
}

/// The constraints of a generation: a token must be allowed by all.
#[derive(Default)]
pub(crate) struct Constraints<'a> {
    whole: Vec<&'a Constraint>,
    rules: Vec<Rule<'a>>,
    /// The one that a trigger began, until nothing may follow in it.
    begun: Option<Constraint>,
    /// The text ends with that one.
    is_last: bool,
    /// Bytes of the text that triggers have looked at.
    searched: usize,
}

struct Rule<'a> {
    trigger: Trigger,
    constraint: &'a Constraint,
    is_done: bool,
}

impl<'a> Constraints<'a> {
    pub fn add(&mut self, constraint: &'a Constraint) {
        self.whole.push(constraint);
    }

    pub fn add_after(&mut self, trigger: Trigger, constraint: &'a Constraint) {
        self.rules.push(Rule { trigger, constraint, is_done: false });
    }

    /// Others for the whole text from here on.
    pub fn replace(&mut self, constraints: &[&'a Constraint]) {
        self.whole = constraints.to_vec();
    }

    pub fn has_empty_trigger(&self) -> bool {
        self.rules.iter().any(|rule| rule.trigger.is_empty())
    }

    /// Those that hold for the next token.
    pub fn now(&self) -> Vec<&Constraint> {
        self.whole.iter().copied().chain(&self.begun).collect()
    }

    /// Whether nothing may follow.
    pub fn are_finished(&self) -> Result<bool> {
        let last: Vec<&Constraint> = self.begun.iter().filter(|_| self.is_last).collect();
        Ok(any(&self.whole, Constraint::finished)? || any(&last, Constraint::finished)?)
    }

    /// Whether the constraint that the text ends with has not begun.
    pub fn await_the_last(&self) -> bool {
        self.rules.iter().any(|rule| rule.trigger.is_last && !rule.is_done)
    }

    /// Whether the text may end here.
    pub fn are_complete(&self) -> Result<bool> {
        Ok(!self.await_the_last() && !any(&self.now(), |constraint| Ok(!constraint.complete()?))?)
    }

    /// Tokens that must come next.
    pub fn forced(&self) -> Result<Vec<u32>> {
        forced(&self.now())
    }

    /// Takes in the next token. Whether there are other constraints now.
    ///
    /// # Errors
    /// When one of them does not allow it; none has taken it in then.
    pub fn accept(&mut self, token: u32) -> Result<bool> {
        advance(&self.now(), token)?;
        match &self.begun {
            Some(begun) if !self.is_last && begun.finished()? => self.begun = None,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Begins a constraint if its trigger is complete with the last token. Gives where in the text that is.
    pub fn begin(&mut self, log: &TextLog, token: u32) -> Result<Option<usize>> {
        let from = std::mem::replace(&mut self.searched, log.text().len());
        if self.begun.is_some() {
            return Ok(None);
        }
        let rules = self.rules.iter_mut().filter(|rule| !rule.is_done || rule.trigger.again);
        let found = rules.filter_map(|rule| Some((rule.trigger.end(log, from, token)?, rule)));
        let Some((end, rule)) = found.min_by_key(|(end, _)| *end) else { return Ok(None) };
        rule.is_done = true;
        self.is_last = rule.trigger.is_last;
        self.searched = end;
        self.begun = Some(rule.constraint.fork()?);
        Ok(Some(end))
    }

    /// Takes back the last `removed` tokens, and takes in others: the same text, cut.
    pub fn replace_last(&mut self, removed: usize, tokens: &[u32]) -> Result<()> {
        for constraint in &self.whole {
            constraint.rollback(removed as u32)?;
            constraint.advance(tokens)?;
        }
        Ok(())
    }
}

/// Equal states.
pub(crate) fn fork(constraints: &[&Constraint]) -> Result<Vec<Constraint>> {
    constraints.iter().map(|constraint| Ok(constraint.fork()?)).collect()
}

/// Advances all by a token, or none.
pub(crate) fn advance(constraints: &[&Constraint], token: u32) -> Result<()> {
    for (index, constraint) in constraints.iter().enumerate() {
        if constraint.advance(&[token]).is_err() {
            constraints[..index].iter().try_for_each(|advanced| advanced.rollback(1))?;
            return Err(no_token_allowed());
        }
    }
    Ok(())
}

/// Tokens that must come next: those of the first that leaves no choice.
pub(crate) fn forced(constraints: &[&Constraint]) -> Result<Vec<u32>> {
    for constraint in constraints {
        let forced = constraint.forced()?;
        if !forced.is_empty() {
            return Ok(forced);
        }
    }
    Ok(Vec::new())
}

/// Whether nothing may follow in one of them, or a token must.
pub(crate) fn leave_no_choice(constraints: &[&Constraint]) -> Result<bool> {
    Ok(any(constraints, Constraint::finished)? || !forced(constraints)?.is_empty())
}

fn any(constraints: &[&Constraint], is: impl Fn(&Constraint) -> Result<bool, crate::Error>) -> Result<bool> {
    for constraint in constraints {
        if is(constraint)? {
            return Ok(true);
        }
    }
    Ok(false)
}

//! Token after token until something ends it.
//!
//! ```text
//! until it ends:
//!     draw a token after the pending ones      a pass
//!     unless it is a stop token: append it     it is pending now
//!     give out its text
//! ```
//! What differs, and why:
//!
//! 1. Where a constraint leaves no choice, its tokens are appended without a pass: they are computed with the next
//!    one that draws.
//! 2. A pass draws after each candidate of a draft as well, so that it may give several tokens (`verify`). They are
//!    taken in one by one, as if each had been drawn alone; where one changes what may follow, the draws behind it
//!    are dropped.
//! 3. A stop text ends the text before its first byte, wherever that is in a token, and text that may be the
//!    beginning of one is held back (`text`). The trigger of a constraint cuts the text behind its last byte.
//! 4. Of a window, only the kept tokens are computed and attended to (`window`).
//! 5. Where a part of the text has used up its budget, its end is appended as forced tokens are (`budget`).

mod budget;
mod constraint;
mod detokenizer;
mod draft;
mod item;
mod prompt;
#[cfg(test)]
mod tests;
mod text;
mod verify;
mod window;

pub use budget::Budget;
pub use constraint::Trigger;
pub use detokenizer::Detokenizer;
pub use draft::{Draft, Drafter, ModelDrafter, NgramDrafter};
pub use item::{Answer, FinishReason, Item, Logprob, Usage};
pub use window::Window;

use std::rc::Rc;

use budget::Spending;
use constraint::Constraints;
use draft::AnyDrafter;
use text::{Cut, TextLog};

use crate::adapter::Adapter;
use crate::model::Work;
use crate::{Constraint, Context, Error, Result, SamplingParams};

/// A running generation: settings first, then [`Generation::next`] for each piece or [`Generation::answer`] for
/// all.
///
/// Settings compose: with one seed, a drafter, a window that is never full or the size of items change nothing of the
/// text. The context gets the tokens of the text: neither a stop token nor a stop text is added to it.
///
/// ```no_run
/// # use inferlet::{Context, Result, SamplingParams, Constraint, session};
/// # async fn example(context: &mut Context, constraint: &Constraint) -> Result<()> {
/// let generation = context.generate(SamplingParams::temperature(0.7)).max_tokens(64).stop("\n\n");
/// let mut generation = generation.constrain(constraint).top_logprobs(5);
/// while let Some(item) = generation.next().await? {
///     session::send(item.text).await?;
/// }
/// println!("{:?}, {:?}", generation.finish_reason(), generation.usage());
/// # Ok(())
/// # }
/// ```
pub struct Generation<'a> {
    context: &'a mut Context,
    sampling: SamplingParams,
    seed: u64,
    constraints: Constraints<'a>,
    budget: Option<Spending>,
    drafter: Option<&'a mut dyn AnyDrafter>,
    window: Option<Window>,
    max_tokens: usize,
    min_tokens: usize,
    stop_tokens: Vec<u32>,
    /// Alternatives to each token, if log-probabilities are asked for.
    top_logprobs: Option<u32>,
    prompt_logprobs: Prompt,
    log: TextLog,
    detokenizer: Detokenizer,
    tokens: Vec<u32>,
    logprobs: Vec<Logprob>,
    /// Tokens given out in items.
    given: usize,
    finish_reason: Option<FinishReason>,
    /// It is known that the text does not end where it is.
    is_checked: bool,
    usage: Usage,
    before: Work,
    /// Tokens of the prompt that no pass had yet.
    prompt_pending: usize,
}

/// The log-probabilities of the prompt.
enum Prompt {
    NotAsked,
    /// With so many alternatives each.
    Asked(u32),
    Known(Vec<Option<Logprob>>),
}

/// What comes after a token was taken in.
enum Next {
    GoOn,
    /// Something else may follow than was thought when the draws behind it were made.
    DrawAgain,
    /// The text ends within the tokens taken in, or goes on from there.
    Cut(Cut),
    /// It was a stop token, which is no part of the text.
    Stop,
}

impl<'a> Generation<'a> {
    pub(crate) fn new(context: &'a mut Context, sampling: SamplingParams) -> Generation<'a> {
        let detokenizer = Detokenizer::new(context.model());
        let stop_tokens = context.model().facts().stop_tokens.clone();
        let (sampling, seed) = sampling.seeded();
        context.end_prompt();
        let (prompt, new) = (context.tokens().len(), context.pending().len());
        let usage = Usage { prompt, prompt_cached: prompt - new, ..Usage::default() };
        let before = context.work();
        Generation {
            context,
            sampling,
            seed,
            constraints: Constraints::default(),
            budget: None,
            drafter: None,
            window: None,
            max_tokens: 256,
            min_tokens: 0,
            stop_tokens,
            top_logprobs: None,
            prompt_logprobs: Prompt::NotAsked,
            log: TextLog::default(),
            detokenizer,
            tokens: Vec::new(),
            logprobs: Vec::new(),
            given: 0,
            finish_reason: None,
            is_checked: false,
            usage,
            before,
            prompt_pending: new,
        }
    }

    /// At most this many tokens; 256 if not set.
    pub fn max_tokens(self, max_tokens: usize) -> Self {
        Generation { max_tokens, ..self }
    }

    /// Forbids stop tokens, and passes over stop texts, until this many tokens are there.
    pub fn min_tokens(self, min_tokens: usize) -> Self {
        Generation { min_tokens, ..self }
    }

    /// Ends when this text appears; the text before it is the answer. There may be several. An empty one is
    /// refused by [`Generation::next`].
    pub fn stop(mut self, text: &str) -> Self {
        self.log.add_stop(text);
        self
    }

    /// Ends when one of these tokens is drawn, besides the model's stop tokens.
    pub fn stop_tokens(mut self, tokens: &[u32]) -> Self {
        self.stop_tokens.extend_from_slice(tokens);
        self
    }

    /// Goes on past the model's stop tokens. Stop tokens of one's own come after this call.
    pub fn ignore_stop_tokens(self) -> Self {
        Generation { stop_tokens: Vec::new(), ..self }
    }

    /// Draws only what the constraint allows, and advances it. Of several, all must allow a token. Tokens that
    /// it leaves no choice about are appended without being drawn. The text ends when nothing may follow.
    pub fn constrain(mut self, constraint: &'a Constraint) -> Self {
        self.constraints.add(constraint);
        self
    }

    /// Draws freely until the trigger, and then what a fork of the constraint allows, until nothing may follow
    /// in it: from there on freely again. So give it an end, such as `</tool_call>`: where it may end but need
    /// not, only a stop token leaves it.
    pub fn constrain_after(mut self, trigger: Trigger, constraint: &'a Constraint) -> Self {
        self.constraints.add_after(trigger, constraint);
        self
    }

    /// Limits a part of the text: what a model thinks, say.
    pub fn budget(self, budget: Budget) -> Self {
        Generation { budget: Some(Spending::new(budget)), ..self }
    }

    /// Keeps only a window of the context, from the prompt on: the text never reaches the context length.
    pub fn window(self, window: Window) -> Self {
        Generation { window: Some(window), ..self }
    }

    /// Verifies the drafts of a drafter: several tokens a pass where they are right.
    pub fn drafter<D: Drafter>(self, drafter: &'a mut D) -> Self {
        Generation { drafter: Some(drafter), ..self }
    }

    /// Applies a low-rank adapter from here on: see [`Context::set_adapter`]. It stays with the context.
    pub fn adapter(self, adapter: &Rc<Adapter>) -> Self {
        self.context.set_adapter(Some(adapter.clone()));
        self
    }

    /// Gives the `top` most probable tokens beside each token; and the log-probabilities of forced tokens, which
    /// then cost a pass, as well. Those of drawn tokens are there without it.
    pub fn top_logprobs(self, top: u32) -> Self {
        Generation { top_logprobs: Some(top), ..self }
    }

    /// Finds out the log-probabilities of the pending tokens too, with `top` alternatives each: see
    /// [`Generation::logprobs_of_prompt`].
    pub fn prompt_logprobs(self, top: u32) -> Self {
        Generation { prompt_logprobs: Prompt::Asked(top), ..self }
    }

    /// Other constraints for the whole text from the next token on, in place of those so far. Triggers stay.
    pub fn set_constraints(&mut self, constraints: &[&'a Constraint]) {
        self.constraints.replace(constraints);
        self.is_checked = false;
    }

    /// The seed of the draws: that of the sampling parameters, or the random one.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The text so far, with what is held back.
    pub fn text(&self) -> &str {
        self.log.text()
    }

    /// Tokens of the text so far: neither a stop token nor those of a stop text.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The log-probabilities of [`Generation::tokens`].
    pub fn logprobs(&self) -> &[Logprob] {
        &self.logprobs
    }

    /// Those of the tokens that were pending when it began, once something was drawn: none for the first of them
    /// and for embedding rows.
    pub fn logprobs_of_prompt(&self) -> &[Option<Logprob>] {
        match &self.prompt_logprobs {
            Prompt::Known(logprobs) => logprobs,
            Prompt::NotAsked | Prompt::Asked(_) => &[],
        }
    }

    /// Why it ended; none while it runs.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.finish_reason.as_ref()
    }

    /// What it cost so far.
    pub fn usage(&self) -> Usage {
        self.usage.with(self.context.work() - self.before)
    }

    /// Draws tokens until there is something to give out; none at the end.
    ///
    /// # Errors
    /// `invalid-argument` when a stop text or trigger is empty or no token is allowed, and as for
    /// [`Context::step`].
    pub async fn next(&mut self) -> Result<Option<Item>> {
        if self.log.has_empty_stop() || self.constraints.has_empty_trigger() {
            return Err(Error::InvalidArgument("a stop text or a trigger is empty".to_string()).into());
        }
        if let Prompt::Asked(top) = self.prompt_logprobs {
            let logprobs = prompt::prefill(self.context, self.window, Some(top)).await?;
            self.prompt_logprobs = Prompt::Known(logprobs);
        }
        while self.finish_reason.is_none() {
            let mut text = String::new();
            if self.is_checked || self.find_end()?.is_none() {
                text = self.advance().await?;
                self.count_prompt();
                self.is_checked = true;
            }
            if self.finish_reason.is_some() || self.find_end()?.is_some() {
                let end = self.detokenizer.finish();
                text.push_str(&self.log.finish(&end));
            }
            let item = self.item(text);
            if item != Item::default() {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    /// Generates to the end and gives all of it.
    ///
    /// # Errors
    /// As for [`Generation::next`].
    pub async fn answer(mut self) -> Result<Answer> {
        self.rest().await
    }

    /// [`Generation::answer`] for a generation that is still needed. What [`Generation::next`] gave is part of it.
    ///
    /// # Errors
    /// As for [`Generation::next`].
    pub async fn rest(&mut self) -> Result<Answer> {
        while self.next().await?.is_some() {}
        Ok(Answer {
            text: self.log.text().to_string(),
            tokens: self.tokens.clone(),
            logprobs: self.logprobs.clone(),
            finish_reason: self.finish_reason.clone().expect("it has ended"),
            complete: self.constraints.are_complete()?,
            usage: self.usage(),
            seed: self.seed,
        })
    }

    /// Appends what is forced, or draws. Gives the text that can no longer be part of a stop text.
    async fn advance(&mut self) -> Result<String> {
        if let Some(window) = self.window {
            window.prefill(self.context).await?;
        }
        let mut forced = self.end_of_budget()?;
        if forced.is_empty() {
            forced = self.forced()?;
        }
        match forced.is_empty() {
            true => self.draw().await?,
            false => self.fill(forced).await?,
        }
        Ok(self.log.give())
    }

    /// The end of a part whose budget is used up (5), if it may come here.
    fn end_of_budget(&mut self) -> Result<Vec<u32>> {
        let count = self.tokens.len();
        let Some(budget) = self.budget.as_mut().filter(|budget| budget.is_due(count)) else {
            return Ok(Vec::new());
        };
        for text in budget.end() {
            let tokens = self.context.model().tokenize_special(&text)?;
            let states = constraint::fork(&self.constraints.now())?;
            let is_allowed = states.iter().all(|state| state.advance(&tokens).is_ok());
            if is_allowed && tokens.iter().all(|token| self.may_be_forced(*token)) {
                return Ok(tokens.into_iter().take(self.most_forced()).collect());
            }
        }
        Ok(Vec::new())
    }

    /// The tokens that must come next (1).
    fn forced(&self) -> Result<Vec<u32>> {
        let forced = self.constraints.forced()?.into_iter().take(self.most_forced());
        Ok(forced.take_while(|token| self.may_be_forced(*token)).collect())
    }

    fn may_be_forced(&self, token: u32) -> bool {
        !self.stop_tokens.contains(&token) && self.sampling.allows(token)
    }

    /// Tokens that may be appended without being drawn.
    fn most_forced(&self) -> usize {
        // A token after the last position is pending for ever, but it is drawn.
        let positions = match self.window {
            Some(_) => usize::MAX,
            None => self.context.positions_left().map_or(0, |left| left + 1),
        };
        positions.min(self.max_tokens - self.tokens.len())
    }

    /// Appends forced tokens. Without log-probabilities to find out, no pass is needed for them.
    async fn fill(&mut self, forced: Vec<u32>) -> Result<()> {
        let length = self.context.tokens().len();
        let tokens = match self.top_logprobs {
            None => forced.into_iter().map(Logprob::unknown).collect(),
            Some(top) => self.forced_logprobs(&forced, top).await?,
        };
        let count = self.take_in(length, tokens, true)?;
        self.usage.forced += count;
        Ok(())
    }

    /// Computes forced tokens but for the last one, and gives their log-probabilities.
    async fn forced_logprobs(&mut self, forced: &[u32], top: u32) -> Result<Vec<Logprob>> {
        let outputs = prompt::requests(forced, self.context.last_row()?, top);
        self.context.append_drawn(&forced[..forced.len() - 1]);
        let end = self.context.tokens().len();
        let layout = self.window.map(|window| window.layout(self.context, end)).unwrap_or_default();
        let values = self.context.pass_in(layout, outputs).await;
        let logprobs = values.and_then(|values| prompt::answers(forced, top, values));
        if logprobs.is_err() {
            self.context.truncate(end + 1 - forced.len())?;
        }
        Ok(logprobs?.into_iter().flatten().collect())
    }

    /// Draws the next token, and those of right candidates before it (2).
    async fn draw(&mut self) -> Result<()> {
        let left = self.context.positions_left().unwrap_or(0);
        let depth = left.min(self.max_tokens - self.tokens.len() - 1);
        let draft = match &mut self.drafter {
            Some(drafter) if depth > 0 => drafter.draft(self.context.tokens()).await?,
            _ => Draft::none(),
        };
        let length = self.context.tokens().len();
        let constraints = self.constraints.now();
        let rules = verify::Rules {
            sampling: &self.sampling,
            constraints: &constraints,
            stop_tokens: &self.stop_tokens,
            without_stop: match self.constraints.await_the_last() {
                true => usize::MAX,
                false => self.min_tokens.saturating_sub(self.tokens.len()),
            },
            top: self.top_logprobs.unwrap_or(0),
            window: self.window,
            depth,
        };
        let drawn = rules.draw(self.context, &draft).await?;
        if let Some(drafter) = &mut self.drafter {
            drafter.rejected(&drawn.rejected);
        }
        self.usage.drafted += drawn.drafted;
        let count = self.take_in(length, drawn.tokens, false)?;
        self.usage.accepted += count.saturating_sub(1);
        Ok(())
    }

    /// Takes in tokens one by one, as long as nothing changes what may follow. The context had `length` tokens before
    /// them, and has some of them already. Gives how many were taken in.
    fn take_in(&mut self, length: usize, tokens: Vec<Logprob>, are_forced: bool) -> Result<usize> {
        let ids: Vec<u32> = tokens.iter().map(|token| token.token).collect();
        let (mut count, mut next, mut taken) = (0, Next::GoOn, Ok(()));
        for token in tokens {
            match self.accept(token) {
                Ok(then) => next = then,
                Err(error) => {
                    taken = Err(error);
                    break;
                }
            }
            count += 1;
            if !matches!(next, Next::GoOn) || count < ids.len() && !self.goes_on(are_forced)? {
                break;
            }
        }
        self.usage.generated += count;
        // What comes after the last one is asked again, unless a stop token did.
        let has_stopped = matches!(next, Next::Stop);
        let kept = count - usize::from(has_stopped);
        let computed = if has_stopped { kept } else { kept.saturating_sub(1) };
        let known = (self.context.tokens().len() - length).min(computed);
        self.context.truncate(length + known)?;
        self.context.append_drawn(&ids[known..kept]);
        taken?;
        if let Next::Cut(cut) = next {
            self.cut(&cut)?;
        }
        Ok(count)
    }

    /// Whether tokens that were drawn or forced together may come, too.
    fn goes_on(&mut self, are_forced: bool) -> Result<bool> {
        Ok(self.find_end()?.is_none() && (are_forced || self.constraints.forced()?.is_empty()))
    }

    /// Takes in one token.
    fn accept(&mut self, logprob: Logprob) -> Result<Next> {
        let token = logprob.token;
        if self.stop_tokens.contains(&token) {
            self.finish_reason = Some(FinishReason::StopToken(token));
            return Ok(Next::Stop);
        }
        let has_changed = self.constraints.accept(token)?;
        self.tokens.push(token);
        self.logprobs.push(logprob);
        let piece = self.detokenizer.push(&[token])?;
        self.log.push(&piece, self.detokenizer.is_whole());
        if self.tokens.len() <= self.min_tokens {
            self.log.pass_over();
        } else if let Some((end, stop)) = self.log.find_stop() {
            self.finish_reason = Some(FinishReason::StopText(stop.to_string()));
            return Ok(Next::Cut(self.log.cut_at(end)));
        }
        if let Some(budget) = &mut self.budget {
            budget.read(&self.log, self.tokens.len());
        }
        if has_changed {
            return Ok(Next::DrawAgain);
        }
        if let Some(end) = self.constraints.begin(&self.log, token)? {
            let is_at_end = end == self.log.text().len();
            return Ok(if is_at_end { Next::DrawAgain } else { Next::Cut(self.log.cut_at(end)) });
        }
        let is_due = self.budget.as_ref().is_some_and(|budget| budget.is_due(self.tokens.len()));
        Ok(if is_due { Next::DrawAgain } else { Next::GoOn })
    }

    /// Ends the text at a cut, in the context and the constraints as well (3).
    fn cut(&mut self, cut: &Cut) -> Result<()> {
        let removed = self.tokens.len() - cut.tokens;
        let mut rest = self.context.model().tokenize(&cut.rest)?;
        if self.finish_reason.is_none() {
            rest.truncate(self.max_tokens.saturating_sub(cut.tokens));
        }
        self.context.truncate(self.context.tokens().len().saturating_sub(removed))?;
        self.context.append_drawn(&rest);
        self.constraints.replace_last(removed, &rest)?;
        self.tokens.truncate(cut.tokens);
        self.logprobs.truncate(cut.tokens);
        self.log.truncate(cut.tokens);
        self.detokenizer = Detokenizer::new(self.context.model());
        for token in rest {
            self.tokens.push(token);
            self.logprobs.push(Logprob::unknown(token));
            let piece = self.detokenizer.push(&[token])?;
            self.log.push(&piece, self.detokenizer.is_whole());
        }
        Ok(())
    }

    /// Whether the text ends here, without another token.
    fn find_end(&mut self) -> Result<Option<&FinishReason>> {
        if self.finish_reason.is_none() {
            let is_full = self.window.is_none() && self.context.positions_left().is_none();
            if self.constraints.are_finished()? {
                self.finish_reason = Some(FinishReason::Constraint);
            } else if self.tokens.len() >= self.max_tokens {
                self.finish_reason = Some(FinishReason::MaxTokens);
            } else if is_full && !self.tokens.is_empty() {
                self.finish_reason = Some(FinishReason::ContextLength);
            }
        }
        Ok(self.finish_reason.as_ref())
    }

    /// Counts what the prefix cache had of the prompt, once that is computed: the first rows of the first pass.
    fn count_prompt(&mut self) {
        let work = self.context.work() - self.before;
        if work.passes > 0 {
            let pending = std::mem::take(&mut self.prompt_pending);
            self.usage.prompt_cached += pending.min(work.cached() as usize);
        }
    }

    /// What is to be given out with this text.
    fn item(&mut self, text: String) -> Item {
        let end = if self.finish_reason.is_some() { self.tokens.len() } else { self.log.tokens_given() };
        let start = std::mem::replace(&mut self.given, end);
        Item { text, tokens: self.tokens[start..end].to_vec(), logprobs: self.logprobs[start..end].to_vec() }
    }
}

//! Beam search over forks of a context.
//!
//! ```text
//! for each step: every beam with its `width` best next tokens; of all, the `width` of the best scores go on
//! ```
//! A beam that has ended stays among them with its score. Beams share the pages of their common tokens, and a step is
//! one batch.

use futures::future::try_join_all;

use crate::{Constraint, Context, Result, log_softmax};

/// One hypothesis.
pub struct Beam {
    /// The prompt and the tokens of the hypothesis.
    pub context: Context,
    /// Tokens after the prompt, without a stop token.
    pub tokens: Vec<u32>,
    /// Sum of the log-probabilities of `tokens`, and of the stop token where one ended it.
    pub logprob: f64,
    /// By what it is compared with others: `logprob` over its length to the length penalty.
    pub score: f64,
    /// Whether the model drew a stop token, or the constraint allows nothing more.
    pub ended: bool,
    constraint: Option<Constraint>,
}

/// When a search ends before `max_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BeamStop {
    /// When all beams have ended: what is kept then is the best of this width.
    #[default]
    AllEnded,
    /// When the best beam has ended.
    Early,
    /// When no beam that goes on can become better than one that has ended, however probable its next tokens are.
    BestPossible,
}

/// A search for the most probable continuations of a prompt: settings first, then [`BeamSearch::run`].
pub struct BeamSearch<'a> {
    prompt: &'a Context,
    width: usize,
    max_tokens: usize,
    length_penalty: f64,
    stop: BeamStop,
    constraint: Option<&'a Constraint>,
}

/// A beam with one more token, or one that has ended.
struct Candidate {
    score: f64,
    logprob: f64,
    beam: usize,
    token: Option<u32>,
}

impl<'a> BeamSearch<'a> {
    /// Keeps `width` beams.
    pub fn new(prompt: &'a Context, width: usize) -> BeamSearch<'a> {
        let width = width.clamp(1, prompt.model().facts().vocabulary_size as usize);
        let stop = BeamStop::default();
        BeamSearch { prompt, width, max_tokens: 256, length_penalty: 0.0, stop, constraint: None }
    }

    /// At most this many tokens; 256 if not set.
    pub fn max_tokens(self, max_tokens: usize) -> Self {
        BeamSearch { max_tokens, ..self }
    }

    /// Divides the log-probability of a beam by its length to this power: 0, if not set, leaves it as it is, 1
    /// takes the average of its tokens, and more favours longer ones.
    pub fn length_penalty(self, length_penalty: f64) -> Self {
        BeamSearch { length_penalty, ..self }
    }

    /// When it ends; with all beams if not set.
    pub fn stop(self, stop: BeamStop) -> Self {
        BeamSearch { stop, ..self }
    }

    /// Only texts that this constraint allows. A step then takes the whole distribution of each beam.
    pub fn constrain(self, constraint: &'a Constraint) -> Self {
        BeamSearch { constraint: Some(constraint), ..self }
    }

    /// The beams, that of the best score first. Of equals, the one from the better beam comes first. It ends where
    /// the context does, too.
    ///
    /// # Errors
    /// When the prompt has nothing pending, and as for a pass.
    pub async fn run(&self) -> Result<Vec<Beam>> {
        let constraint = self.constraint.map(Constraint::fork).transpose()?;
        let context = self.prompt.fork()?;
        let mut beams =
            vec![Beam { context, tokens: Vec::new(), logprob: 0.0, score: 0.0, ended: false, constraint }];
        while !self.is_done(&beams) {
            let nexts = try_join_all(beams.iter_mut().map(|beam| self.next(beam))).await?;
            let mut candidates = Vec::new();
            for (index, (beam, nexts)) in beams.iter().zip(nexts).enumerate() {
                let candidate = |logprob: f64, token: Option<u32>| {
                    let length = beam.tokens.len() + usize::from(token.is_some());
                    Candidate { score: self.score(logprob, length), logprob, beam: index, token }
                };
                candidates.extend(
                    beam.ended.then(|| Candidate { score: beam.score, ..candidate(beam.logprob, None) }),
                );
                let nexts = nexts.into_iter();
                candidates
                    .extend(nexts.map(|(token, logprob)| candidate(beam.logprob + logprob, Some(token))));
            }
            candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
            candidates.truncate(self.width);
            if candidates.is_empty() {
                // The constraint allows no token anywhere.
                break;
            }
            beams = candidates.iter().map(|candidate| extend(&beams, candidate)).collect::<Result<_>>()?;
        }
        Ok(beams)
    }

    fn score(&self, logprob: f64, length: usize) -> f64 {
        logprob / (length.max(1) as f64).powf(self.length_penalty)
    }

    fn is_done(&self, beams: &[Beam]) -> bool {
        let length = beams.iter().map(|beam| beam.tokens.len()).max().unwrap_or(0);
        let is_full = |beam: &Beam| !beam.tokens.is_empty() && beam.context.positions_left().is_none();
        if length >= self.max_tokens || beams.iter().all(|beam| beam.ended) || beams.iter().any(is_full) {
            return true;
        }
        match self.stop {
            BeamStop::AllEnded => false,
            BeamStop::Early => beams[0].ended,
            BeamStop::BestPossible => {
                let (ended, running): (Vec<&Beam>, Vec<&Beam>) = beams.iter().partition(|beam| beam.ended);
                let best = ended.iter().map(|beam| beam.score);
                // Its next tokens are certain at best; a longer one scores better where length is favoured.
                let longest = if self.length_penalty > 0.0 { self.max_tokens } else { length + 1 };
                let bound = running.iter().map(|beam| self.score(beam.logprob, longest));
                best.fold(f64::NEG_INFINITY, f64::max) >= bound.fold(f64::NEG_INFINITY, f64::max)
            }
        }
    }

    /// The best next tokens of a beam, with their log-probabilities; none when it has ended.
    async fn next(&self, beam: &mut Beam) -> Result<Vec<(u32, f64)>> {
        if beam.ended {
            return Ok(Vec::new());
        }
        let Some(constraint) = &beam.constraint else {
            let top = beam.context.top_k(self.width as u32).await?;
            return Ok(top.into_iter().map(|next| (next.token, f64::from(next.log_prob))).collect());
        };
        let allowed = constraint.allowed()?;
        let logprobs = log_softmax(&beam.context.logits().await?);
        let is_allowed = |(token, _): &(u32, f64)| allowed[*token as usize / 32] >> (token % 32) & 1 == 1;
        let mut nexts: Vec<(u32, f64)> = (0..).zip(logprobs).filter(is_allowed).collect();
        nexts.sort_by(|a, b| b.1.total_cmp(&a.1));
        nexts.truncate(self.width);
        Ok(nexts)
    }
}

/// The beam of a candidate.
fn extend(beams: &[Beam], candidate: &Candidate) -> Result<Beam> {
    let beam = &beams[candidate.beam];
    let mut context = beam.context.fork()?;
    let mut tokens = beam.tokens.clone();
    let constraint = beam.constraint.as_ref().map(Constraint::fork).transpose()?;
    let stop_tokens = &context.model().facts().stop_tokens;
    let mut ended = candidate.token.is_none_or(|token| stop_tokens.contains(&token));
    if let Some(token) = candidate.token.filter(|_| !ended) {
        context.append_drawn(&[token]);
        tokens.push(token);
        if let Some(constraint) = &constraint {
            constraint.advance(&[token])?;
            ended = constraint.finished()?;
        }
    }
    Ok(Beam { context, tokens, logprob: candidate.logprob, score: candidate.score, ended, constraint })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, ScriptedModel};
    use crate::{Grammar, Model};

    #[test]
    fn beams_are_the_best_of_all_texts_that_the_constraint_allows() {
        for seed in 0..12 {
            for penalty in [0.0, 1.0] {
                Host::new().model(ScriptedModel::noise(seed)).run(async {
                    let model = Model::open_default().unwrap();
                    let mut prompt = Context::new(&model).unwrap();
                    prompt.append("which");
                    let form = Grammar::Regex("(a|b)(c|dd)".to_string());
                    let constraint = model.constraint(form).await.unwrap();
                    let mut all = Vec::new();
                    for text in ["ac", "bc", "add", "bdd"] {
                        let logprobs =
                            prompt.fork().unwrap().logprobs(&model.tokenize(text).unwrap()).await.unwrap();
                        let sum: f64 = logprobs.iter().map(|logprob| f64::from(*logprob)).sum();
                        all.push((sum / (text.len() as f64).powf(penalty), text));
                    }
                    all.sort_by(|a, b| b.0.total_cmp(&a.0));
                    let search = BeamSearch::new(&prompt, 8).constrain(&constraint).length_penalty(penalty);
                    let beams = search.run().await.unwrap();
                    let texts = beams.iter().map(|beam| model.detokenize(&beam.tokens).unwrap());
                    assert_eq!(
                        texts.collect::<Vec<_>>(),
                        all.iter().map(|one| one.1).collect::<Vec<_>>(),
                        "{seed}"
                    );
                    let search = BeamSearch::new(&prompt, 8).constrain(&constraint).length_penalty(penalty);
                    let best = search.stop(BeamStop::BestPossible).max_tokens(3).run().await.unwrap();
                    assert_eq!(best[0].tokens, beams[0].tokens, "{seed}: the best possible is the best");
                    let early = BeamSearch::new(&prompt, 8).constrain(&constraint).stop(BeamStop::Early);
                    assert!(early.run().await.unwrap()[0].ended);
                });
            }
        }
    }
}

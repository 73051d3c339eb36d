//! How tokens are drawn.

use std::hash::{BuildHasher, RandomState};

use crate::bindings::pie::inferlet::forward::{Sampling, TokenCounts};
use crate::bindings::pie::inferlet::grammar::Constraint;

/// Sampling parameters, built up from [`SamplingParams::greedy`] or [`SamplingParams::temperature`].
///
/// The draw of a token depends on the seed and the token's position only, so a seed gives the same text
/// whatever else the server computes. Two texts in parallel need different seeds: with one, they draw equal
/// numbers at equal positions.
#[derive(Clone, Debug)]
pub struct SamplingParams {
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    repetition_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    logit_bias: Vec<(u32, f32)>,
    allowed_tokens: Option<Vec<u32>>,
    seed: Option<u64>,
}

impl SamplingParams {
    /// Always the most probable token.
    pub fn greedy() -> SamplingParams {
        SamplingParams::temperature(0.0)
    }

    /// Draws from the distribution at this temperature.
    pub fn temperature(temperature: f32) -> SamplingParams {
        SamplingParams {
            temperature,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            allowed_tokens: None,
            seed: None,
        }
    }

    /// Only the `k` most probable tokens.
    pub fn top_k(self, top_k: u32) -> SamplingParams {
        SamplingParams { top_k, ..self }
    }

    /// Only the most probable tokens that together reach probability `p`.
    pub fn top_p(self, top_p: f32) -> SamplingParams {
        SamplingParams { top_p, ..self }
    }

    /// Only tokens at least `p` times as probable as the most probable one.
    pub fn min_p(self, min_p: f32) -> SamplingParams {
        SamplingParams { min_p, ..self }
    }

    /// Divides the positive logits of tokens of the prompt and of the text so far, multiplies the negative
    /// ones.
    pub fn repetition_penalty(self, repetition_penalty: f32) -> SamplingParams {
        SamplingParams { repetition_penalty, ..self }
    }

    /// Subtracts from the logits of tokens of the text so far, without the prompt, as in the OpenAI API.
    pub fn presence_penalty(self, presence_penalty: f32) -> SamplingParams {
        SamplingParams { presence_penalty, ..self }
    }

    /// Subtracts from the logits of tokens once for each time they are in the text so far, without the prompt,
    /// as in the OpenAI API.
    pub fn frequency_penalty(self, frequency_penalty: f32) -> SamplingParams {
        SamplingParams { frequency_penalty, ..self }
    }

    /// Adds to the logits of single tokens.
    pub fn logit_bias(self, logit_bias: Vec<(u32, f32)>) -> SamplingParams {
        SamplingParams { logit_bias, ..self }
    }

    /// Draws only these tokens: without a stop token among them, none ends the text.
    pub fn allowed_tokens(self, allowed_tokens: Vec<u32>) -> SamplingParams {
        SamplingParams { allowed_tokens: Some(allowed_tokens), ..self }
    }

    /// The same seed gives the same text. Without one, every generation takes a random seed.
    pub fn seed(self, seed: u64) -> SamplingParams {
        SamplingParams { seed: Some(seed), ..self }
    }

    /// The same with the seed that comes `count` seeds later, if there is a seed.
    pub fn seed_after(&self, count: u64) -> SamplingParams {
        SamplingParams { seed: self.seed.map(|seed| seed.wrapping_add(count)), ..self.clone() }
    }

    /// The same with a seed, a random one if there is none; and that seed.
    pub(crate) fn seeded(self) -> (SamplingParams, u64) {
        let seed = self.seed.unwrap_or_else(random_seed);
        (self.seed(seed), seed)
    }

    /// Whether bias or the allowed tokens leave this one.
    pub(crate) fn allows(&self, token: u32) -> bool {
        self.logit_bias.iter().all(|(biased, bias)| *biased != token || *bias > f32::NEG_INFINITY)
            && self.allowed_tokens.as_ref().is_none_or(|allowed| allowed.contains(&token))
    }

    /// Whether a draw depends on the tokens before it in other ways than through the model.
    pub fn penalizes(&self) -> bool {
        self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// The parameters for one token of a pass; penalties look at `counts`, and all constraints must allow the
    /// token. Without a seed, each token has a random one.
    pub fn for_token<'a>(
        &self,
        counts: Option<&'a TokenCounts>,
        constraints: &[&'a Constraint],
    ) -> Sampling<'a> {
        Sampling {
            logit_bias: self.logit_bias.clone(),
            counts: counts.filter(|_| self.penalizes()),
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            constraints: constraints.to_vec(),
            allowed_tokens: self.allowed_tokens.clone(),
            temperature: self.temperature,
            top_k: self.top_k,
            min_p: self.min_p,
            top_p: self.top_p,
            seed: self.seed.unwrap_or_else(random_seed),
        }
    }
}

impl Default for SamplingParams {
    fn default() -> SamplingParams {
        SamplingParams::greedy()
    }
}

/// 64 random bits. The keys of a `RandomState` come from the system, and no two are equal.
pub fn random_seed() -> u64 {
    RandomState::new().hash_one(())
}

/// The most probable token of logits; the first of equals.
pub fn arg_max(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (token, logit)| {
        if *logit > best.1 { (token, *logit) } else { best }
    });
    best.0 as u32
}

/// Log-probabilities of logits.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
    logits.iter().map(|logit| f64::from(logit - most) - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_reaches_the_server() {
        let sampling = SamplingParams::temperature(0.7).top_k(5).top_p(0.9).min_p(0.1).seed(3);
        let plain = sampling.for_token(None, &[]);
        assert!(!sampling.penalizes());
        assert_eq!((plain.temperature, plain.top_k, plain.top_p, plain.min_p), (0.7, 5, 0.9, 0.1));
        assert_eq!((plain.seed, sampling.seed_after(2).for_token(None, &[]).seed), (3, 5));
        for one in [sampling.clone().repetition_penalty(1.1), sampling.clone().presence_penalty(0.2)] {
            assert!(one.penalizes());
        }
        assert!(sampling.clone().frequency_penalty(0.3).penalizes());
        let penalized = sampling.repetition_penalty(1.1).presence_penalty(0.2).frequency_penalty(0.3);
        let penalized = penalized.logit_bias(vec![(4, 1.0)]).for_token(None, &[]);
        let penalties =
            (penalized.repetition_penalty, penalized.presence_penalty, penalized.frequency_penalty);
        assert_eq!(penalties, (1.1, 0.2, 0.3));
        assert_eq!(penalized.logit_bias, vec![(4, 1.0)]);
        let few =
            SamplingParams::greedy().allowed_tokens(vec![3, 4]).logit_bias(vec![(4, f32::NEG_INFINITY)]);
        assert_eq!(few.for_token(None, &[]).allowed_tokens, Some(vec![3, 4]));
        assert_eq!([3, 4, 5].map(|token| few.allows(token)), [true, false, false]);
    }

    #[test]
    fn without_a_seed_there_is_a_random_one() {
        let sampling = SamplingParams::temperature(1.0);
        let ((_, one), (again, two)) = (sampling.clone().seeded(), sampling.seeded());
        assert_ne!(one, two);
        assert_eq!(again.seeded().1, two, "a seed stays");
    }

    #[test]
    fn log_probabilities_add_up() {
        let sum: f64 = log_softmax(&[1.0, -3.0, 800.0, 799.0]).iter().map(|value| value.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        assert_eq!(arg_max(&[1.0, 7.0, -2.0, 7.0]), 1);
        assert_eq!(arg_max(&[]), 0);
    }
}

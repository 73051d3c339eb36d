//! Outputs of a batch: the kinds there are, and the values.

use std::sync::Arc;

use crate::counts::{TokenCount, TokenCounts};

/// How a token is drawn from a row's logits.
///
/// Applied in this order: logit bias, penalties, allowed set, temperature, top-k, min-p, top-p, draw.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Logits are divided by this; 0 takes the most probable token (lowest id on a tie). At least 0.
    pub temperature: f32,
    /// Keep the `k` most probable tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of most probable tokens whose probabilities sum to at least this; 1 keeps all. In (0, 1].
    pub top_p: f32,
    /// Drop tokens less probable than this share of the most probable one; 0 drops none. In [0, 1].
    pub min_p: f32,
    /// Logits of tokens in `counts`, of the prompt or generated, are divided (if positive) or multiplied (if negative) by
    /// this; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of each token that was generated, by `counts`.
    pub presence_penalty: f32,
    /// Subtracted from the logit once for each time the token was generated, by `counts`.
    pub frequency_penalty: f32,
    /// What the penalties look at. Shared: an unchanged one costs nothing to pass on, and whoever changes it while a pass
    /// has it makes a copy.
    pub counts: Option<Arc<TokenCounts>>,
    /// Added to the logits of these tokens: finite, or negative infinity to forbid one.
    pub logit_bias: Vec<(u32, f32)>,
    /// The draw depends on this and the row's position only. So two sequences with one seed draw equal numbers at equal
    /// positions, and parallel samples need different seeds.
    pub seed: u64,
    /// Bit `t % 32` of word `t / 32` = token `t` may be drawn; a bit for each token. `None` allows all.
    pub allowed: Option<Arc<[u32]>>,
}

impl SamplingParams {
    /// Always the most probable token.
    pub fn greedy() -> SamplingParams {
        SamplingParams {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            counts: None,
            logit_bias: Vec::new(),
            seed: 0,
            allowed: None,
        }
    }

    /// Checks every range stated on the fields, and every token against the vocabulary.
    ///
    /// # Errors
    /// The first rule broken: the value found, then what is expected.
    pub fn check(&self, vocabulary: u32) -> Result<(), String> {
        let above_0 = |value: f32| value > 0.0 && value.is_finite();
        let ranges = [
            (
                "temperature",
                self.temperature,
                self.temperature == 0.0 || above_0(self.temperature),
                "0 or more",
            ),
            ("top-p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0, at most 1"),
            ("min-p", self.min_p, (0.0..=1.0).contains(&self.min_p), "0 to 1"),
            ("repetition penalty", self.repetition_penalty, above_0(self.repetition_penalty), "above 0"),
            ("presence penalty", self.presence_penalty, self.presence_penalty.is_finite(), "a finite number"),
            (
                "frequency penalty",
                self.frequency_penalty,
                self.frequency_penalty.is_finite(),
                "a finite number",
            ),
        ];
        if let Some((name, value, _, range)) = ranges.iter().find(|(_, _, in_range, _)| !in_range) {
            return Err(format!("{name} is {value}: expected {range}"));
        }
        if let Some((token, bias)) =
            self.logit_bias.iter().find(|(_, bias)| bias.is_nan() || *bias == f32::INFINITY)
        {
            return Err(format!("logit bias of token {token} is {bias}: expected a finite number or -inf"));
        }
        check_tokens(self.logit_bias.iter().map(|(token, _)| token), vocabulary)?;
        self.counts.as_ref().map_or(Ok(()), |counts| counts.check(vocabulary))?;
        let words = vocabulary.div_ceil(32) as usize;
        match self.allowed.as_ref().filter(|allowed| allowed.len() < words) {
            Some(allowed) => Err(format!("{} words of allowed tokens: expected {words}", allowed.len())),
            None => Ok(()),
        }
    }

    /// Tokens that came before, when a penalty looks at them.
    pub fn penalized(&self) -> Option<&TokenCounts> {
        let penalties =
            self.repetition_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0;
        self.counts.as_deref().filter(|counts| penalties && counts.distinct() > 0)
    }

    /// The logit of a token that came before, after the penalties.
    pub fn penalize(&self, logit: f32, count: TokenCount) -> f32 {
        let penalty = self.repetition_penalty;
        let logit = if logit > 0.0 { logit / penalty } else { logit * penalty };
        match count.generated {
            0 => logit,
            times => logit - (self.presence_penalty + self.frequency_penalty * times as f32),
        }
    }
}

/// Refuses token ids that are not in the vocabulary.
pub(crate) fn check_tokens<'a>(
    tokens: impl IntoIterator<Item = &'a u32>,
    vocabulary: u32,
) -> Result<(), String> {
    match tokens.into_iter().find(|token| **token >= vocabulary) {
        Some(token) => Err(format!("token {token} is outside the vocabulary of {vocabulary}")),
        None => Ok(()),
    }
}

/// A kind of output of one row.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputKind {
    /// A token drawn from the distribution.
    Token(SamplingParams),
    /// The `k` most probable tokens at temperature 1, most probable first (lowest id first on a tie). `k` is at least 1
    /// and at most the vocabulary.
    TopK(u32),
    /// The log-probabilities of these tokens at temperature 1.
    LogProbs(Vec<u32>),
    /// All logits, as the model gives them.
    Logits,
    /// The entropy of the distribution at temperature 1, in nats.
    Entropy,
    /// The row after the last norm, before the output matrix: `hidden` values.
    Hidden,
}

impl OutputKind {
    /// Numbers in the answer, of 4 bytes each.
    pub fn values(&self, limits: &crate::Limits) -> u64 {
        match self {
            OutputKind::Token(_) => 2,
            OutputKind::TopK(k) => 2 * u64::from(*k),
            OutputKind::LogProbs(tokens) => tokens.len() as u64,
            OutputKind::Logits => u64::from(limits.vocabulary),
            OutputKind::Entropy => 1,
            OutputKind::Hidden => u64::from(limits.hidden),
        }
    }

    /// Checks the rules stated on the kind. The one such check: [`crate::Batch::check`] calls it, and a scheduler when a
    /// request comes in, so that a mistake is answered before anything is computed.
    ///
    /// # Errors
    /// The first rule broken: the value found, then what is expected.
    pub fn check(&self, limits: &crate::Limits) -> Result<(), String> {
        let vocabulary = limits.vocabulary;
        match self {
            OutputKind::Hidden => Ok(()),
            _ if limits.encoder => Err("the model is an encoder: its rows have hidden outputs only".into()),
            OutputKind::Token(params) => params.check(vocabulary),
            OutputKind::LogProbs(tokens) => check_tokens(tokens, vocabulary),
            OutputKind::TopK(k) if !(1..=vocabulary).contains(k) => {
                Err(format!("top-k of {k}: expected 1 to {vocabulary}"))
            }
            OutputKind::TopK(_) | OutputKind::Logits | OutputKind::Entropy => Ok(()),
        }
    }
}

/// A request for one value of one row; a row may have several.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputRequest {
    /// Row of the batch.
    pub row: usize,
    /// The kind.
    pub kind: OutputKind,
}

/// A token with its log-probability in nats, at temperature 1 over the whole vocabulary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogProb {
    /// Token id.
    pub token: u32,
    /// Natural logarithm of its probability.
    pub log_prob: f32,
}

/// A drawn token. Its log-probability is the model's own: before bias, penalties, temperature and truncation.
pub type Sampled = TokenLogProb;

/// The answer to one [`OutputRequest`], of the same kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// See [`OutputKind::Token`].
    Token(Sampled),
    /// See [`OutputKind::TopK`].
    TopK(Vec<TokenLogProb>),
    /// See [`OutputKind::LogProbs`].
    LogProbs(Vec<f32>),
    /// See [`OutputKind::Logits`].
    Logits(Vec<f32>),
    /// See [`OutputKind::Entropy`].
    Entropy(f32),
    /// See [`OutputKind::Hidden`].
    Hidden(Vec<f32>),
    /// The request could not be answered: no token is allowed by bias and mask together.
    NoTokenAllowed,
}

/// The answers of one batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// One value for each of `Batch::outputs`, in the same order.
    pub values: Vec<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generated(tokens: &[u32]) -> Arc<TokenCounts> {
        let mut counts = TokenCounts::default();
        counts.add(tokens, crate::TokenOrigin::Generated);
        Arc::new(counts)
    }

    fn limits() -> crate::Limits {
        crate::Backend::limits(&crate::FakeBackend::new(1, 40))
    }

    #[test]
    fn every_range_of_the_sampling_parameters_is_checked() {
        let refused = |change: fn(&mut SamplingParams), named: &str| {
            let mut params = SamplingParams::greedy();
            change(&mut params);
            let error = OutputKind::Token(params).check(&limits()).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
        };
        refused(|p| p.temperature = -1.0, "temperature is -1");
        refused(|p| p.temperature = f32::INFINITY, "temperature is inf");
        refused(|p| p.temperature = f32::NAN, "temperature");
        refused(|p| p.top_p = 0.0, "top-p is 0");
        refused(|p| p.top_p = 1.5, "top-p");
        refused(|p| p.min_p = -0.1, "min-p");
        refused(|p| p.repetition_penalty = 0.0, "repetition penalty");
        refused(|p| p.presence_penalty = f32::INFINITY, "presence penalty");
        refused(|p| p.frequency_penalty = f32::NAN, "frequency penalty");
        refused(|p| p.logit_bias = vec![(1, f32::NAN)], "token 1 is NaN");
        refused(|p| p.logit_bias = vec![(1, f32::INFINITY)], "token 1 is inf");
        refused(|p| p.logit_bias = vec![(40, 0.0)], "token 40");
        refused(|p| p.counts = Some(generated(&[3, 40])), "token 40");
        refused(|p| p.allowed = Some([1u32].into()), "expected 2");
        let widest = SamplingParams {
            temperature: 0.5,
            repetition_penalty: 0.001,
            counts: Some(generated(&[39])),
            logit_bias: vec![(39, f32::NEG_INFINITY)],
            allowed: Some([1u32, 1].into()),
            ..SamplingParams::greedy()
        };
        assert_eq!(widest.check(40), Ok(()));
    }

    #[test]
    fn every_kind_is_checked() {
        for (kind, good) in [
            (OutputKind::TopK(0), false),
            (OutputKind::TopK(40), true),
            (OutputKind::TopK(41), false),
            (OutputKind::LogProbs(vec![39]), true),
            (OutputKind::LogProbs(vec![39, 40]), false),
            (OutputKind::Logits, true),
            (OutputKind::Entropy, true),
            (OutputKind::Hidden, true),
        ] {
            assert_eq!(kind.check(&limits()).is_ok(), good, "{kind:?}");
            let encoder = crate::Limits { encoder: true, ..limits() };
            assert_eq!(kind.check(&encoder).is_ok(), kind == OutputKind::Hidden, "{kind:?} of an encoder");
        }
    }
}

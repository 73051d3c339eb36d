//! What a batch can be asked for, and the answers.

use std::sync::Arc;

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
    /// Logits of tokens in `history` are divided (if positive) or multiplied (if negative) by this; 1 is off.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of each token in `history`.
    pub presence_penalty: f32,
    /// Subtracted from the logit once for each time the token is in `history`.
    pub frequency_penalty: f32,
    /// Tokens that the penalties look at.
    pub history: Vec<u32>,
    /// Added to the logits of these tokens; negative infinity forbids one.
    pub logit_bias: Vec<(u32, f32)>,
    /// The draw depends on this and the row's position only.
    pub seed: u64,
    /// Bit `t % 32` of word `t / 32` = token `t` may be drawn. `None` allows all.
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
            history: Vec::new(),
            logit_bias: Vec::new(),
            seed: 0,
            allowed: None,
        }
    }
}

/// What is wanted of one row.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputKind {
    /// A token drawn from the distribution.
    Token(SamplingParams),
    /// The `k` most probable tokens at temperature 1, most probable first (lowest id first on a tie).
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

/// A request for one value of one row; a row may have several.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputRequest {
    /// Row of the batch.
    pub row: usize,
    /// What is wanted.
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

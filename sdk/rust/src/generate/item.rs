//! What a generation gives: items while it runs, an answer at the end.

use crate::model::Work;

/// Why a generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model drew this stop token.
    StopToken(u32),
    /// This stop text appeared.
    StopText(String),
    /// A constraint is complete and allows nothing more.
    Constraint,
    /// `max_tokens` are there.
    MaxTokens,
    /// The model has no position left for another token.
    ContextLength,
}

impl FinishReason {
    /// `finish_reason` of the OpenAI API: `stop` or `length`.
    pub fn openai(&self) -> &'static str {
        match self {
            FinishReason::StopToken(_) | FinishReason::StopText(_) | FinishReason::Constraint => "stop",
            FinishReason::MaxTokens | FinishReason::ContextLength => "length",
        }
    }
}

/// A piece of text, with the tokens that ended in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Item {
    /// Whole characters, and never a part of a stop text.
    pub text: String,
    /// Tokens whose text ended in this item or before: the items together have all tokens.
    pub tokens: Vec<u32>,
    /// One for each of `tokens`.
    pub logprobs: Vec<Logprob>,
}

/// How probable a token was, by the model's own distribution before any sampling parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprob {
    /// The token.
    pub token: u32,
    /// Natural logarithm. None for a token that was not drawn: one that a constraint forced, unless
    /// `top_logprobs` asks for it, and one that replaces a token which was cut.
    pub logprob: Option<f32>,
    /// The most probable tokens there, as many as `top_logprobs` asks for, each with its logarithm.
    pub top: Vec<(u32, f32)>,
}

impl Logprob {
    /// Of a token that was not drawn.
    pub(crate) fn unknown(token: u32) -> Logprob {
        Logprob { token, logprob: None, top: Vec::new() }
    }
}

/// What a generation cost.
///
/// `computed + cached` are the rows of all its passes. `generated = draws + accepted + forced`, where `draws` are
/// the passes that drew: all, but for those that only computed a prompt or the log-probabilities of forced tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the context when it began.
    pub prompt: usize,
    /// Of those, the ones that were not computed for it: the context had them already, or the prefix cache did.
    pub prompt_cached: usize,
    /// Rows that the model computed.
    pub computed: usize,
    /// Rows that came from the prefix cache.
    pub cached: usize,
    /// Tokens drawn or forced, a stop token and the tokens of a stop text among them.
    pub generated: usize,
    /// Tokens drafted and verified.
    pub drafted: usize,
    /// Drafted tokens that saved a pass each.
    pub accepted: usize,
    /// Tokens that a constraint left no choice about.
    pub forced: usize,
    /// Passes.
    pub passes: usize,
}

impl Usage {
    /// The same, with the passes that this work was.
    pub(crate) fn with(self, work: Work) -> Usage {
        Usage {
            computed: work.computed as usize,
            cached: work.cached() as usize,
            passes: work.passes as usize,
            ..self
        }
    }
}

/// A whole generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The text, without stop token and stop text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// One for each of `tokens`.
    pub logprobs: Vec<Logprob>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// The constraints allow it to end here: always so without any.
    pub complete: bool,
    /// What it cost.
    pub usage: Usage,
    /// The seed of its draws.
    pub seed: u64,
}

//! Passes as they end, for whoever wants to see what programs ask of the model (`pie run --trace`).

use std::fmt::{Debug, Formatter};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backend::Value;
use scheduler::ForwardReply;

use crate::error::ApiError;
use crate::inferlet::InferletState;
use crate::served::ServedModel;

/// Is told of every pass that ends with an answer or an error, on the thread of its program; one that is given up is not
/// told. It should return soon: the program waits for it.
#[derive(Clone)]
pub struct PassObserver(Arc<dyn Fn(&ObservedPass<'_>) + Send + Sync>);

impl PassObserver {
    /// An observer that calls this.
    pub fn new(tell: impl Fn(&ObservedPass<'_>) + Send + Sync + 'static) -> PassObserver {
        PassObserver(Arc::new(tell))
    }
}

impl Debug for PassObserver {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("PassObserver")
    }
}

/// A pass that has ended.
pub struct ObservedPass<'a> {
    /// The inferlet that asked for it.
    pub inferlet: &'a str,
    /// Its program.
    pub program: &'a str,
    /// The model.
    pub model: &'a ServedModel,
    /// The context, numbered by the runtime.
    pub context: u64,
    /// Tokens of the context before the pass.
    pub length: u32,
    /// The tokens that went in; zeros where embeddings went in.
    pub tokens: &'a [u32],
    /// Whether the context keeps them.
    pub keep: bool,
    /// When the program asked.
    pub began: Instant,
    /// Until it had the answer.
    pub took: Duration,
    /// The answer, or the error in words.
    pub result: Result<PassResult<'a>, String>,
}

/// The answer to a pass.
pub struct PassResult<'a> {
    /// Rows that were computed, and those found in the prefix cache.
    pub computed: u32,
    /// See `computed`.
    pub cached: u32,
    /// An output for each that was requested.
    pub outputs: &'a [Value],
}

/// A pass under way that will be told.
pub(crate) struct Observing {
    observer: PassObserver,
    inferlet: Arc<InferletState>,
    model: Arc<ServedModel>,
    context: u64,
    length: u32,
    tokens: Vec<u32>,
    keep: bool,
    began: Instant,
}

impl Observing {
    pub(crate) fn new(
        observer: &PassObserver,
        inferlet: &Arc<InferletState>,
        model: &Arc<ServedModel>,
        context: u64,
        length: u32,
        (tokens, keep): (&[u32], bool),
    ) -> Observing {
        Observing {
            observer: observer.clone(),
            inferlet: inferlet.clone(),
            model: model.clone(),
            context,
            length,
            tokens: tokens.to_vec(),
            keep,
            began: Instant::now(),
        }
    }

    pub(crate) fn ended(&self, answer: &Result<ForwardReply, ApiError>) {
        let result = answer.as_ref().map_err(ToString::to_string).map(|reply| PassResult {
            computed: reply.computed_tokens,
            cached: reply.cached_tokens,
            outputs: &reply.values,
        });
        (self.observer.0)(&ObservedPass {
            inferlet: &self.inferlet.id,
            program: &self.inferlet.program,
            model: &self.model,
            context: self.context,
            length: self.length,
            tokens: &self.tokens,
            keep: self.keep,
            began: self.began,
            took: self.began.elapsed(),
            result,
        });
    }
}

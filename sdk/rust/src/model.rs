//! A model handle that several contexts of a program share.

use std::cell::Cell;
use std::ops::{Add, Sub};
use std::rc::Rc;
use std::time::Duration;

use crate::bindings::pie::inferlet::forward::Outputs;
use crate::bindings::pie::inferlet::grammar::{Constraint, Source};
use crate::bindings::pie::inferlet::model as api;
use crate::{Result, Value, json};

/// A model of the server, with its facts read once. Cloning is free.
#[derive(Clone)]
pub struct Model {
    inner: Rc<(api::Model, api::ModelFacts, Cell<Work>)>,
}

/// The cost of this program's passes so far, over all contexts of a [`Model`] and its clones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Passes computed.
    pub passes: u64,
    /// Tokens given to them.
    pub tokens: u64,
    /// Tokens among them that the model computed; the prefix cache had the others.
    pub computed: u64,
    /// Wall time of the batches these passes were in, other passes included.
    pub batch_time: Duration,
    /// The part of that time that is these passes', by rows.
    pub batch_time_share: Duration,
}

/// Both together.
impl Add for Work {
    type Output = Work;

    fn add(self, more: Work) -> Work {
        Work {
            passes: self.passes + more.passes,
            tokens: self.tokens + more.tokens,
            computed: self.computed + more.computed,
            batch_time: self.batch_time + more.batch_time,
            batch_time_share: self.batch_time_share + more.batch_time_share,
        }
    }
}

/// The work since an earlier moment.
impl Sub for Work {
    type Output = Work;

    fn sub(self, earlier: Work) -> Work {
        Work {
            passes: self.passes - earlier.passes,
            tokens: self.tokens - earlier.tokens,
            computed: self.computed - earlier.computed,
            batch_time: self.batch_time - earlier.batch_time,
            batch_time_share: self.batch_time_share - earlier.batch_time_share,
        }
    }
}

impl Work {
    /// That of a pass with so many tokens.
    pub(crate) fn of_pass(tokens: usize, outputs: &Outputs) -> Work {
        Work {
            passes: 1,
            tokens: tokens as u64,
            computed: outputs.computed.into(),
            batch_time: Duration::from_nanos(outputs.compute_ns),
            batch_time_share: Duration::from_nanos(outputs.compute_share_ns),
        }
    }

    /// Tokens that the prefix cache had.
    pub fn cached(&self) -> u64 {
        self.tokens - self.computed
    }

    /// For the machine-readable line of a program's result.
    pub fn json(&self) -> Value {
        json!({ "passes": self.passes, "tokens": self.tokens, "computed": self.computed })
    }

    /// Passes in a batch, on average over the time of the batches: 1 when each pass had a batch alone, 3 when
    /// three branches always took their steps in one batch. 1 too when nothing was computed.
    pub fn passes_per_batch(&self) -> f64 {
        if self.batch_time_share.is_zero() {
            1.0
        } else {
            self.batch_time.as_secs_f64() / self.batch_time_share.as_secs_f64()
        }
    }
}

impl Model {
    /// The server's default model.
    ///
    /// # Errors
    /// When the server has none.
    pub fn open_default() -> Result<Model> {
        Model::from_handle(api::open(None)?)
    }

    /// A model by name.
    ///
    /// # Errors
    /// `not-found` when the server has no model of that name.
    pub fn open(name: &str) -> Result<Model> {
        Model::from_handle(api::open(Some(name))?)
    }

    /// Names of the server's models, the default one first.
    pub fn names() -> Vec<String> {
        api::models()
    }

    fn from_handle(handle: api::Model) -> Result<Model> {
        let facts = handle.facts();
        Ok(Model { inner: Rc::new((handle, facts, Cell::default())) })
    }

    /// Facts that do not change.
    pub fn facts(&self) -> &api::ModelFacts {
        &self.inner.1
    }

    /// The handle, for calls of [`crate::bindings`].
    pub fn handle(&self) -> &api::Model {
        &self.inner.0
    }

    /// The cost of this program's passes so far.
    pub fn work(&self) -> Work {
        self.inner.2.get()
    }

    pub(crate) fn count(&self, work: Work) {
        self.inner.2.set(self.work() + work);
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// `invalid-argument` when the grammar is wrong.
    pub async fn constraint(&self, grammar: Source) -> Result<Constraint> {
        Ok(Constraint::compile(self.handle(), grammar).await?)
    }

    /// Token ids of a text; control tokens in it stay plain text.
    ///
    /// # Errors
    /// `limit-exceeded` when the text is longer than 1 MiB.
    pub fn tokenize(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.0.tokenize(text, false)?)
    }

    /// Token ids of a text in which control tokens (`<|im_start|>`) count as such.
    ///
    /// # Errors
    /// As for [`Model::tokenize`].
    pub fn tokenize_special(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.inner.0.tokenize(text, true)?)
    }

    /// Text of tokens; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// When a token is outside the vocabulary.
    pub fn detokenize(&self, tokens: &[u32]) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.inner.0.detokenize(tokens)?).into_owned())
    }
}

//! `grammar`: constraints on what is drawn, over the full vocabulary.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use llguidance::CancellationHandle;
use model::Wanted;
use wasmtime::component::{Accessor, HasSelf, Resource};

use super::bindings::api::grammar;
use super::model::ModelHandle;
use super::{Failure, HostState, call};
use crate::ServedModel;
use crate::account::Taken;
use crate::error::{ApiError, check_length, invalid};
use crate::grammars::{Compiled, LONG, Matching, SHORT, SOURCE_BYTES, Source};
use crate::inferlet::InferletState;
use crate::work::Workers;

/// A step in a grammar that takes longer is work for other threads, and so are the next ones.
const LONG_STEP: Duration = Duration::from_millis(1);
/// Steps after a long one that go to other threads.
const LONG_STEPS: u32 = 64;
/// Tokens that are accepted at once, where one takes a short time.
const SHORT_TOKENS: usize = 64;

/// A program's handle to its state within a grammar.
pub struct Constraint {
    model: Arc<ServedModel>,
    state: Arc<Mutex<Matching>>,
    /// Whether a call works on the state, here or on another thread.
    is_in_use: Arc<AtomicBool>,
    /// Steps that go to other threads; a new grammar is not known yet, and begins there.
    long_steps: u32,
    /// Bytes of the state, as far as they are known.
    _held: Taken,
}

/// The state of a constraint, for one call at a time.
pub(crate) struct InUse {
    state: Arc<Mutex<Matching>>,
    is_in_use: Arc<AtomicBool>,
    /// Whether a step is likely to be short: the last ones were.
    is_short: bool,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.is_in_use.store(false, Ordering::Release);
    }
}

impl InUse {
    /// Never waits: nobody else uses it.
    fn state(&self) -> MutexGuard<'_, Matching> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A step in the grammar, and how long it took: at once where a short one is to be expected, else on another thread.
    pub(crate) async fn step<T: Send + 'static>(
        self,
        workers: &Workers,
        inferlet: &Arc<InferletState>,
        work: impl FnOnce(&mut Matching, Wanted<'_>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<(Result<T, ApiError>, Duration), ApiError> {
        if self.is_short {
            let start = Instant::now();
            let work = |state: &mut Matching| work(state, &|| true);
            let result = self.state().work(SHORT, &|| true, &inferlet.host_memory, work);
            return Ok((result, start.elapsed()));
        }
        let _waiting = Waiting { inferlet: inferlet.clone(), cancellation: self.state().cancellation() };
        let stepping = inferlet.clone();
        let step = move |asked: Wanted<'_>| {
            let start = Instant::now();
            // Not `asked`: a program that gave the call up may use the constraint again.
            let lives = || !stepping.has_failed();
            let work = |state: &mut Matching| work(state, asked);
            let result = self.state().work(LONG, &lives, &stepping.host_memory, work);
            Ok((result, start.elapsed()))
        };
        workers.run_while(inferlet, 0, step).await
    }
}

/// A call that waits for a step on another thread. When it is dropped by the end of its program, the step is told so, in
/// those loops of the library too that make no expressions.
struct Waiting {
    inferlet: Arc<InferletState>,
    cancellation: CancellationHandle,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.inferlet.has_failed() {
            self.cancellation.cancel();
        }
    }
}

impl Constraint {
    fn new(model: Arc<ServedModel>, state: Matching, held: Taken, long_steps: u32) -> Constraint {
        Constraint {
            model,
            state: Arc::new(Mutex::new(state)),
            is_in_use: Arc::default(),
            long_steps,
            _held: held,
        }
    }

    pub(crate) fn model(&self) -> &Arc<ServedModel> {
        &self.model
    }

    /// The state, for a step in it.
    pub(crate) fn begin(&mut self) -> Result<InUse, ApiError> {
        if self.is_in_use.swap(true, Ordering::Acquire) {
            return Err(invalid("another call computes with this constraint: await it first"));
        }
        let is_short = self.long_steps == 0;
        self.long_steps = self.long_steps.saturating_sub(1);
        Ok(InUse { state: self.state.clone(), is_in_use: self.is_in_use.clone(), is_short })
    }

    /// Notes how long a step took.
    pub(crate) fn took(&mut self, time: Duration) {
        if time > LONG_STEP {
            self.long_steps = LONG_STEPS;
        }
    }
}

impl HostState {
    /// A step in a grammar that accepts so many tokens.
    async fn step<T: Send + 'static>(
        &mut self,
        constraint: &Resource<Constraint>,
        tokens: usize,
        work: impl FnOnce(&mut Matching, Wanted<'_>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, Failure> {
        let mut state = self.table.get_mut(constraint)?.begin()?;
        state.is_short &= tokens <= SHORT_TOKENS;
        let (shared, inferlet) = (self.shared.clone(), self.inferlet.clone());
        let (result, time) = state.step(&shared.workers, &inferlet, work).await?;
        self.table.get_mut(constraint)?.took(time);
        Ok(result?)
    }

    /// The state of a constraint for something that takes no time.
    fn for_now(&mut self, constraint: &Resource<Constraint>) -> Result<InUse, Failure> {
        let constraint = self.table.get_mut(constraint)?;
        let state = constraint.begin()?;
        if !state.is_short {
            constraint.long_steps += 1;
        }
        Ok(state)
    }

    /// Something in a grammar that takes no time.
    fn at_once<T>(
        &mut self,
        constraint: &Resource<Constraint>,
        work: impl FnOnce(&mut Matching) -> Result<T, ApiError>,
    ) -> Result<T, Failure> {
        let state = self.for_now(constraint)?;
        let result = state.state().work(SHORT, &|| true, &self.inferlet.host_memory, work);
        Ok(result?)
    }
}

impl grammar::Host for HostState {}

impl grammar::HostConstraint for HostState {
    fn fork(&mut self, constraint: Resource<Constraint>) -> Result<Resource<Constraint>, Failure> {
        let state = self.for_now(&constraint)?;
        let memory = &self.inferlet.host_memory;
        let held = memory.take(state.state().bytes())?;
        let fork = state.state().fork(memory)?;
        let source = self.table.get(&constraint)?;
        let fork = Constraint::new(source.model.clone(), fork, held, source.long_steps);
        Ok(self.table.push(fork)?)
    }

    async fn advance(&mut self, constraint: Resource<Constraint>, tokens: Vec<u32>) -> Result<(), Failure> {
        let _call = self.call("grammar.advance", || vec![("tokens", tokens.len().into())]);
        let model = self.table.get(&constraint)?.model.clone();
        super::forward::check_tokens(&model, &tokens)?;
        self.step(&constraint, tokens.len(), move |state, wanted| state.advance(&tokens, wanted)).await
    }

    fn rollback(&mut self, constraint: Resource<Constraint>, tokens: u32) -> Result<(), Failure> {
        self.at_once(&constraint, |state| state.rollback(tokens as usize))
    }

    async fn allowed(&mut self, constraint: Resource<Constraint>) -> Result<Vec<u32>, Failure> {
        let _call = self.call("grammar.allowed", Vec::new);
        self.step(&constraint, 0, |state, _| Ok(state.mask()?.to_vec())).await
    }

    async fn forced(&mut self, constraint: Resource<Constraint>) -> Result<Vec<u32>, Failure> {
        let _call = self.call("grammar.forced", Vec::new);
        self.step(&constraint, 0, |state, _| Ok(state.forced())).await
    }

    fn complete(&mut self, constraint: Resource<Constraint>) -> Result<bool, Failure> {
        self.at_once(&constraint, |state| Ok(state.complete()))
    }

    fn finished(&mut self, constraint: Resource<Constraint>) -> Result<bool, Failure> {
        self.at_once(&constraint, |state| Ok(state.finished()))
    }

    fn drop(&mut self, constraint: Resource<Constraint>) -> wasmtime::Result<()> {
        self.table.delete(constraint)?;
        Ok(())
    }
}

impl<T: Send + 'static> grammar::HostConstraintWithStore<T> for HasSelf<HostState> {
    async fn compile(
        accessor: &Accessor<T, Self>,
        model: Resource<ModelHandle>,
        source: grammar::Source,
    ) -> Result<Resource<Constraint>, Failure> {
        let (model, shared, inferlet) = accessor.with(|mut access| {
            let state = access.get();
            let model = state.table.get(&model)?.0.clone();
            Ok::<_, Failure>((model, state.shared.clone(), state.inferlet.clone()))
        })?;
        let source = match source {
            grammar::Source::Json => Source::Json,
            grammar::Source::JsonSchema(text) => Source::JsonSchema(text),
            grammar::Source::Regex(text) => Source::Regex(text),
            grammar::Source::Lark(text) => Source::Lark(text),
            grammar::Source::Ebnf(text) => Source::Ebnf(text),
        };
        let bytes = source.text().len();
        let _call = call(accessor, "grammar.compile", || vec![("bytes", bytes.into())]);
        check_length("the grammar", bytes, SOURCE_BYTES)?;
        let (compiler, user) = (model.clone(), inferlet.user.clone());
        let memory = inferlet.host_memory.clone();
        let work = move |wanted: Wanted<'_>| compiler.grammars.compile(&user, &memory, source, wanted);
        let Compiled { matcher, bytes } = shared.workers.run_while(&inferlet, bytes, work).await?;
        let held = inferlet.host_memory.take(bytes)?;
        let state = Matching::new(model.clone(), matcher, bytes);
        let constraint = Constraint::new(model, state, held, 1);
        accessor.with(|mut access| Ok(access.get().table.push(constraint)?))
    }
}

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
use crate::grammars::{Compiled, LONG, Matching, SHORT, SOURCE_BYTES, Source, stoppable};
use crate::inferlet::InferletState;
use crate::work::Workers;

/// A step in a grammar that takes longer is work for other threads, and so are the next ones.
const LONG_STEP: Duration = Duration::from_millis(1);
/// Steps after a long one that go to other threads.
const LONG_STEPS: u32 = 64;

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
    /// Whether the last step in it was a short one, so that the next is likely to be.
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

    /// Does something in the grammar, on this thread. What was stopped in its middle is the constraint's last.
    fn work<T>(
        &self,
        limit: Duration,
        wanted: Wanted<'_>,
        work: impl FnOnce(&mut Matching, Wanted<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let mut state = self.state();
        state.check()?;
        stoppable(limit, wanted, || work(&mut state, wanted)).unwrap_or_else(|stopped| {
            state.break_off();
            Err(stopped.error("a step in the grammar"))
        })
    }

    /// A step in the grammar, and how long it took: at once where the last ones were short, else on another thread.
    pub(crate) async fn step<T: Send + 'static>(
        self,
        workers: &Workers,
        inferlet: &Arc<InferletState>,
        work: impl FnOnce(&mut Matching, Wanted<'_>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<(Result<T, ApiError>, Duration), ApiError> {
        if self.is_short {
            let start = Instant::now();
            let result = self.work(SHORT, &|| true, work);
            return Ok((result, start.elapsed()));
        }
        let has_begun = Arc::new(AtomicBool::new(false));
        let waiting =
            Waiting { has_begun: has_begun.clone(), cancellation: Some(self.state().cancellation()) };
        let step = move |wanted: Wanted<'_>| {
            has_begun.store(true, Ordering::Release);
            let start = Instant::now();
            let result = self.work(LONG, wanted, work);
            Ok((result, start.elapsed()))
        };
        let answer = workers.run_while(inferlet, 0, step).await;
        waiting.end();
        answer
    }
}

/// A call that waits for a step on another thread. When it is dropped, which the end of its program does, a step that has
/// begun is told so.
struct Waiting {
    has_begun: Arc<AtomicBool>,
    cancellation: Option<CancellationHandle>,
}

impl Waiting {
    fn end(mut self) {
        self.cancellation = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(cancellation) = &self.cancellation
            && self.has_begun.load(Ordering::Acquire)
        {
            cancellation.cancel();
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
    /// A step in a grammar.
    async fn step<T: Send + 'static>(
        &mut self,
        constraint: &Resource<Constraint>,
        work: impl FnOnce(&mut Matching, Wanted<'_>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, Failure> {
        let state = self.table.get_mut(constraint)?.begin()?;
        let (shared, inferlet) = (self.shared.clone(), self.inferlet.clone());
        let (result, time) = state.step(&shared.workers, &inferlet, work).await?;
        self.table.get_mut(constraint)?.took(time);
        Ok(result?)
    }

    /// The state of a constraint for something that takes no time.
    fn at_once(&mut self, constraint: &Resource<Constraint>) -> Result<InUse, Failure> {
        let constraint = self.table.get_mut(constraint)?;
        let state = constraint.begin()?;
        if !state.is_short {
            constraint.long_steps += 1;
        }
        Ok(state)
    }
}

impl grammar::Host for HostState {}

impl grammar::HostConstraint for HostState {
    fn fork(&mut self, constraint: Resource<Constraint>) -> Result<Resource<Constraint>, Failure> {
        let state = self.at_once(&constraint)?;
        state.state().check()?;
        let held = self.inferlet.host_memory.take(state.state().bytes())?;
        let source = self.table.get(&constraint)?;
        let (model, long_steps) = (source.model.clone(), source.long_steps);
        let fork = Constraint::new(model, state.state().fork(), held, long_steps);
        Ok(self.table.push(fork)?)
    }

    async fn advance(&mut self, constraint: Resource<Constraint>, tokens: Vec<u32>) -> Result<(), Failure> {
        let _call = self.call("grammar.advance", || vec![("tokens", tokens.len().into())]);
        let model = self.table.get(&constraint)?.model.clone();
        super::forward::check_tokens(&model, &tokens)?;
        self.step(&constraint, move |state, wanted| state.advance(&tokens, wanted)).await
    }

    fn rollback(&mut self, constraint: Resource<Constraint>, tokens: u32) -> Result<(), Failure> {
        Ok(self.at_once(&constraint)?.work(SHORT, &|| true, |state, _| state.rollback(tokens as usize))?)
    }

    async fn allowed(&mut self, constraint: Resource<Constraint>) -> Result<Vec<u32>, Failure> {
        let _call = self.call("grammar.allowed", Vec::new);
        self.step(&constraint, |state, _| Ok(state.mask()?.to_vec())).await
    }

    async fn forced(&mut self, constraint: Resource<Constraint>) -> Result<Vec<u32>, Failure> {
        let _call = self.call("grammar.forced", Vec::new);
        self.step(&constraint, |state, _| Ok(state.forced())).await
    }

    fn complete(&mut self, constraint: Resource<Constraint>) -> Result<bool, Failure> {
        Ok(self.at_once(&constraint)?.work(SHORT, &|| true, |state, _| Ok(state.complete()))?)
    }

    fn finished(&mut self, constraint: Resource<Constraint>) -> Result<bool, Failure> {
        Ok(self.at_once(&constraint)?.work(SHORT, &|| true, |state, _| Ok(state.finished()))?)
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
        let work = move |wanted: Wanted<'_>| compiler.grammars.compile(&user, source, wanted);
        let Compiled { matcher, bytes } = shared.workers.run_while(&inferlet, bytes, work).await?;
        let held = inferlet.host_memory.take(bytes)?;
        let state = Matching::new(model.clone(), matcher, bytes);
        let constraint = Constraint::new(model, state, held, 1);
        accessor.with(|mut access| Ok(access.get().table.push(constraint)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_ended_when_its_call_is_dropped_while_it_runs() {
        let ended = |begins: bool, ends: bool| {
            let (has_begun, cancellation) = (Arc::new(AtomicBool::new(false)), CancellationHandle::default());
            let waiting = Waiting { has_begun: has_begun.clone(), cancellation: Some(cancellation.clone()) };
            has_begun.store(begins, Ordering::Release);
            if ends {
                waiting.end()
            } else {
                drop(waiting)
            }
            cancellation.is_cancelled()
        };
        assert!(ended(true, false));
        assert!(!ended(true, true), "its state stays good after its end");
        assert!(!ended(false, false), "one that has not begun changed nothing");
    }
}

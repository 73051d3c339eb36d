//! `forward`: passes, from the program's records to the engine's request and back.

use std::collections::HashMap;
use std::sync::Arc;

use backend::{OutputKind, SamplingParams, TokenCounts, Value};
use futures::future::join_all;
use scheduler::{
    ContextId, ContextOp, EngineHandle, ForwardError, ForwardReply, ForwardRequest, Reply, RowRuns,
};
use trace::Call;
use wasmtime::component::{Accessor, HasSelf, Resource};

use super::bindings::WitError;
use super::bindings::api::forward;
use super::{Failure, HostState, call};
use crate::ServedModel;
use crate::error::{ApiError, engine_gone, invalid};
use crate::grant::Grant;
use crate::host::context::Context;
use crate::host::grammar::{Constraint, InUse};
use crate::passes::Observing;
use crate::tokens::AnsweredPass;

/// Outputs of one pass; the limit of one row is the backend's.
const OUTPUTS: usize = 16384;
/// Values that one pass may give back: 64 MiB of logits, or 500 rows of a vocabulary of 32k.
const OUTPUT_VALUES: usize = 16 << 20;
/// Constraints of one pass, and masks made of them and of lists of allowed tokens. A mask has a bit for each token of
/// the vocabulary, and outputs that say the same share one.
const MASKS: usize = 256;
/// Constraints of one output: each is looked up among those of the pass.
const OUTPUT_CONSTRAINTS: usize = 16;
/// Runs of the masks of one pass.
const MASK_RUNS: usize = 4 << 20;

impl forward::Host for HostState {}

/// A pass on its way. Dropping it before the answer was taken cancels it and leaves the context as before.
struct InFlight {
    engine: EngineHandle,
    ticket: scheduler::Ticket,
    context: ContextId,
    /// Tokens, and the next position, before the pass.
    length: u32,
    next_position: u32,
    /// While it is held, its context takes no other.
    _pass: Arc<()>,
    /// Who pays for its tokens, and how many.
    grant: Arc<Grant>,
    tokens: u32,
    /// `None` once the answer was taken.
    reply: Option<Reply<ForwardReply, ForwardError>>,
    /// Rows that the context keeps.
    rows: u32,
    /// Their positions, where the program gave them; else they continue, and the engine says where they ended.
    positions: Option<Vec<u32>>,
    /// Its call, in a recording.
    call: Call,
    /// Who wants to know of it.
    observing: Option<Observing>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.reply.take().is_some() {
            // Never refused.
            let _ = self.engine.apply(ContextOp::Abandon {
                ticket: self.ticket,
                context: self.context,
                length: self.length,
                next_position: self.next_position,
            });
        }
    }
}

impl InFlight {
    async fn answer(&mut self) -> Result<ForwardReply, ApiError> {
        let reply = self.reply.as_mut().expect("the answer is taken once").await;
        self.reply = None;
        let answer = reply.map_err(engine_gone)?;
        // One that failed was not computed.
        let free = answer.as_ref().map_or(self.tokens, |reply| reply.cached_tokens);
        self.grant.give_back(free);
        let answer = answer.map_err(ApiError::from);
        self.observing.iter().for_each(|observing| observing.ended(&answer));
        match &answer {
            Ok(reply) => self.call.answered(|| {
                vec![("computed", reply.computed_tokens.into()), ("cached", reply.cached_tokens.into())]
            }),
            Err(error) => self.call.ends_with(|| vec![("error", error.to_string().as_str().into())]),
        }
        answer
    }
}

impl<T: Send + 'static> forward::HostWithStore<T> for HasSelf<HostState> {
    async fn execute(
        accessor: &Accessor<T, Self>,
        context: Resource<Context>,
        pass: forward::Pass,
    ) -> Result<forward::Outputs, Failure> {
        let prepared = accessor.with(|mut access| access.get().prepare(&context, pass))?;
        let prepared = prepared.mask(accessor).await?;
        finish(accessor, &context, prepared.start()).await
    }

    async fn execute_many(
        accessor: &Accessor<T, Self>,
        passes: Vec<(Resource<Context>, forward::Pass)>,
    ) -> wasmtime::Result<Vec<Result<forward::Outputs, WitError>>> {
        let _call = call(accessor, "forward.execute-many", || vec![("passes", passes.len().into())]);
        let prepare = |(context, pass): (Resource<Context>, forward::Pass)| {
            let prepared = accessor.with(|mut access| access.get().prepare(&context, pass));
            async move {
                match prepared {
                    Ok(prepared) => (context, prepared.mask(accessor).await),
                    Err(error) => (context, Err(error)),
                }
            }
        };
        let prepared: Vec<_> = passes.into_iter().map(prepare).collect();
        let start = |(context, prepared): (Resource<Context>, Result<Prepared, Failure>)| {
            let flight = prepared.map(Prepared::start);
            async move { finish(accessor, &context, flight?).await }
        };
        // All are started before the first is awaited, so they share a batch.
        let passes: Vec<_> = join_all(prepared).await.into_iter().map(start).collect();
        let guest_error = |answer: Result<_, Failure>| match answer {
            Ok(outputs) => Ok(Ok(outputs)),
            Err(Failure::Guest(error)) => Ok(Err(error.into())),
            Err(Failure::Host(error)) => Err(error),
        };
        join_all(passes).await.into_iter().map(guest_error).collect()
    }
}

/// A pass that was checked and whose context is busy, but whose outputs have no masks yet.
struct Prepared {
    request: ForwardRequest,
    flight: InFlight,
    masking: Masking,
}

/// What the masks of a pass are made of.
#[derive(Default)]
struct Masking {
    constraints: Vec<Constrained>,
    /// For each mask, the outputs that have it.
    masks: HashMap<MaskParts, Vec<usize>>,
}

/// A constraint of a pass.
struct Constrained {
    constraint: Resource<Constraint>,
    state: InUse,
}

/// A mask: the tokens that all of it allow.
#[derive(PartialEq, Eq, Hash)]
struct MaskParts {
    /// Indices of constraints, sorted.
    constraints: Vec<usize>,
    /// Tokens of the vocabulary.
    tokens: Option<Vec<u32>>,
}

impl MaskParts {
    /// The bits of the mask, from those of all constraints.
    fn combine(&self, constraints: &[Arc<[u32]>], vocabulary: usize) -> Arc<[u32]> {
        if let (&[one], None) = (&self.constraints[..], &self.tokens) {
            return constraints[one].clone();
        }
        let mut mask = vec![u32::MAX; vocabulary.div_ceil(32)];
        if let Some(tokens) = &self.tokens {
            mask.fill(0);
            tokens.iter().for_each(|token| mask[*token as usize / 32] |= 1 << (token % 32));
        }
        for constraint in &self.constraints {
            mask.iter_mut().zip(constraints[*constraint].iter()).for_each(|(word, other)| *word &= other);
        }
        mask.into()
    }
}

impl Prepared {
    fn start(self) -> InFlight {
        let Prepared { request, mut flight, .. } = self;
        flight.tokens = request.tokens.len() as u32;
        flight.grant.begin_pass(flight.tokens);
        flight.reply = Some(flight.engine.forward(request));
        flight
    }

    /// Computes the masks of the outputs. The constraints take their turns, so that no number of them holds up a thread.
    async fn mask<T: Send + 'static>(
        mut self,
        accessor: &Accessor<T, HasSelf<HostState>>,
    ) -> Result<Prepared, Failure> {
        let Masking { constraints, masks } = std::mem::take(&mut self.masking);
        let mut allowed = Vec::with_capacity(constraints.len());
        for constrained in constraints {
            if !allowed.is_empty() {
                tokio::task::yield_now().await;
            }
            allowed.push(constrained.mask(accessor).await?);
        }
        let vocabulary = self.flight.engine.limits().vocabulary as usize;
        for (parts, outputs) in masks {
            let mask = parts.combine(&allowed, vocabulary);
            for output in outputs {
                if let (_, OutputKind::Token(sampling)) = &mut self.request.outputs[output] {
                    sampling.allowed = Some(mask.clone());
                }
            }
        }
        Ok(self)
    }
}

impl Constrained {
    /// Bits of the tokens that it allows.
    async fn mask<T: Send + 'static>(
        self,
        accessor: &Accessor<T, HasSelf<HostState>>,
    ) -> Result<Arc<[u32]>, Failure> {
        let Constrained { constraint, state } = self;
        let (shared, inferlet) = accessor.with(|mut access| {
            let state = access.get();
            (state.shared.clone(), state.inferlet.clone())
        });
        let (mask, time) = state.step(&shared.workers, &inferlet, |state, _| state.mask()).await?;
        accessor.with(|mut access| access.get().table.get_mut(&constraint).map(|c| c.took(time)))?;
        Ok(mask?)
    }
}

async fn finish<T: Send + 'static>(
    accessor: &Accessor<T, HasSelf<HostState>>,
    context: &Resource<Context>,
    mut flight: InFlight,
) -> Result<forward::Outputs, Failure> {
    let reply = flight.answer().await?;
    let is_drawn = |value: &&Value| matches!(value, Value::Token(_));
    let pass = AnsweredPass {
        rows: reply.computed_tokens + reply.cached_tokens,
        drawn: reply.values.iter().filter(is_drawn).count() as u32,
        keep: flight.rows > 0,
    };
    let values = reply.values.into_iter().map(output).collect();
    accessor.with(|mut access| {
        let HostState { table, inferlet, .. } = access.get();
        let context = table.get_mut(context)?;
        context.drawn.count(&context.model, inferlet, &pass);
        if let Some(span) = inferlet.span.get() {
            span.pass(&context.model.name, reply.computed_tokens, reply.cached_tokens);
        }
        let continued = || (reply.next_position.saturating_sub(flight.rows)..reply.next_position).collect();
        let positions: Vec<u32> = flight.positions.take().unwrap_or_else(continued);
        for position in positions.iter().take(flight.rows as usize) {
            context.positions.push(*position);
        }
        context.positions.set_next(reply.next_position);
        debug_assert_eq!(context.positions.length(), reply.length);
        Ok::<_, Failure>(())
    })?;
    Ok(forward::Outputs {
        values,
        computed: reply.computed_tokens,
        compute_ns: reply.compute.as_nanos() as u64,
        compute_share_ns: reply.compute_share.as_nanos() as u64,
    })
}

fn output(value: Value) -> forward::Output {
    let token = |t: backend::TokenLogProb| forward::TokenLogProb { token: t.token, log_prob: t.log_prob };
    match value {
        Value::Token(sampled) => forward::Output::Token(token(sampled)),
        Value::TopK(top) => forward::Output::TopK(top.into_iter().map(token).collect()),
        Value::LogProbs(values) => forward::Output::LogProbs(values),
        Value::Logits(values) => forward::Output::Logits(values),
        Value::Entropy(value) => forward::Output::Entropy(value),
        Value::Hidden(values) => forward::Output::Hidden(values),
        Value::NoTokenAllowed => forward::Output::NoTokenAllowed,
    }
}

impl HostState {
    /// Checks a pass and marks its context as busy.
    fn prepare(&mut self, context: &Resource<Context>, pass: forward::Pass) -> Result<Prepared, Failure> {
        let (id, model, length, next) = {
            let context = self.idle_context(context)?;
            (context.id, context.model.clone(), context.positions.length(), context.positions.next())
        };
        let mut request = ForwardRequest::new(self.shared.next_ticket(), id, Vec::new());
        match pass.input {
            forward::Input::Tokens(tokens) => request.tokens = tokens,
            forward::Input::Embeddings(embeddings) => {
                let embeddings = self.table.get(&embeddings)?;
                if !Arc::ptr_eq(&embeddings.model, &model) {
                    return Err(invalid("the embeddings belong to another model").into());
                }
                request.embeddings = embeddings.rows.iter().cloned().enumerate().collect();
                request.tokens = vec![0; embeddings.rows.len()];
            }
        }
        request.positions = pass.positions;
        request.masks = masks(pass.masks)?;
        request.adapter = pass.adapter.map(|a| self.adapter_id(&a, &model)).transpose()?;
        request.keep_kv = pass.keep;
        let mut masking = Masking::default();
        request.outputs = self.output_requests(&model, pass.outputs, &mut masking)?;
        // The engine checks as well, but only once the pass has made its context busy.
        request.check(length, next, model.engine.limits()).map_err(ApiError::from)?;

        let (owner, rows) = (self.inferlet.owner.0, request.tokens.len());
        let call = self.shared.recorder.pass(owner, "forward.execute", request.ticket.0, || {
            let name = model.name.as_str();
            vec![("model", name.into()), ("rows", rows.into()), ("context", length.into())]
        });
        let observing = self.shared.config.passes.as_ref().map(|observer| {
            let input = (&request.tokens[..], request.keep_kv);
            Observing::new(observer, &self.inferlet, &model, id.0, length, input)
        });
        let context = self.table.get_mut(context)?;
        let pass = Arc::default();
        context.pass = Arc::downgrade(&pass);
        let flight = InFlight {
            engine: context.engine.clone(),
            ticket: request.ticket,
            context: id,
            length,
            next_position: next,
            _pass: pass,
            grant: self.inferlet.grant.clone(),
            tokens: 0,
            rows: if request.keep_kv { request.tokens.len() as u32 } else { 0 },
            positions: request.positions.clone(),
            reply: None,
            call,
            observing,
        };
        Ok(Prepared { request, flight, masking })
    }

    fn output_requests(
        &mut self,
        model: &ServedModel,
        requests: Vec<forward::OutputRequest>,
        masking: &mut Masking,
    ) -> Result<Vec<(usize, OutputKind)>, Failure> {
        let vocabulary = model.facts.vocabulary_size as usize;
        // Before anything is made of them: a mask of a constraint is as large as the vocabulary.
        if requests.len() > OUTPUTS {
            let reason =
                format!("{} outputs are requested, the limit of a pass is {OUTPUTS}", requests.len());
            return Err(ApiError::LimitExceeded(reason).into());
        }
        let mut values = 0usize;
        let mut outputs = Vec::with_capacity(requests.len());
        for request in requests {
            let (kind, size) = match request.kind {
                forward::OutputKind::Token(mut sampling) => {
                    let constraints = std::mem::take(&mut sampling.constraints);
                    self.masked(model, constraints, sampling.allowed_tokens.take(), outputs.len(), masking)?;
                    let counts = match sampling.counts.take() {
                        Some(counts) => Some(self.table.get(&counts)?.of(model)?),
                        None => None,
                    };
                    (OutputKind::Token(sampling_params(sampling, counts)?), 2)
                }
                forward::OutputKind::TopK(k) => (OutputKind::TopK(k), vocabulary.min(k as usize) * 2),
                forward::OutputKind::LogProbs(tokens) => {
                    let size = tokens.len();
                    (OutputKind::LogProbs(tokens), size)
                }
                forward::OutputKind::Logits => (OutputKind::Logits, vocabulary),
                forward::OutputKind::Entropy => (OutputKind::Entropy, 1),
                forward::OutputKind::Hidden => (OutputKind::Hidden, model.facts.hidden_size as usize),
            };
            values += size;
            if values > OUTPUT_VALUES {
                let reason =
                    format!("the outputs of the pass exceed {OUTPUT_VALUES} values: ask for fewer rows");
                return Err(ApiError::LimitExceeded(reason).into());
            }
            outputs.push((request.row as usize, kind));
        }
        Ok(outputs)
    }

    /// Notes of what the mask of an output is made.
    fn masked(
        &mut self,
        model: &ServedModel,
        constraints: Vec<Resource<Constraint>>,
        tokens: Option<Vec<u32>>,
        output: usize,
        masking: &mut Masking,
    ) -> Result<(), Failure> {
        if constraints.is_empty() && tokens.is_none() {
            return Ok(());
        }
        check_masks("constraints of one output", constraints.len(), OUTPUT_CONSTRAINTS)?;
        let indices = constraints.into_iter().map(|c| self.constrained(model, c, &mut masking.constraints));
        let mut indices = indices.collect::<Result<Vec<usize>, Failure>>()?;
        indices.sort_unstable();
        indices.dedup();
        check_tokens(model, tokens.as_deref().unwrap_or_default())?;
        masking.masks.entry(MaskParts { constraints: indices, tokens }).or_default().push(output);
        check_masks("different sets of constraints and allowed tokens", masking.masks.len(), MASKS)
    }

    /// The index of a constraint among those of the pass.
    fn constrained(
        &mut self,
        model: &ServedModel,
        constraint: Resource<Constraint>,
        constraints: &mut Vec<Constrained>,
    ) -> Result<usize, Failure> {
        if let Some(known) = constraints.iter().position(|c| c.constraint.rep() == constraint.rep()) {
            return Ok(known);
        }
        check_masks("constraints", constraints.len() + 1, MASKS)?;
        let found = self.table.get_mut(&constraint)?;
        if found.model().name != model.name {
            let reason = format!("the constraint was compiled for model `{}`", found.model().name);
            return Err(invalid(reason).into());
        }
        let state = found.begin()?;
        constraints.push(Constrained { constraint, state });
        Ok(constraints.len() - 1)
    }
}

fn check_masks(what: &str, number: usize, limit: usize) -> Result<(), Failure> {
    match number > limit {
        true => Err(ApiError::LimitExceeded(format!("more than {limit} {what} in one pass")).into()),
        false => Ok(()),
    }
}

/// What `sampling` says with these counts, but for its mask.
fn sampling_params(
    sampling: forward::Sampling,
    counts: Option<Arc<TokenCounts>>,
) -> Result<SamplingParams, Failure> {
    // Tighter than the contract: beyond these, a float carries no meaning.
    let ranges = [
        ("temperature", sampling.temperature, 0.0..=100.0),
        ("top-p", sampling.top_p, f32::MIN_POSITIVE..=1.0),
        ("min-p", sampling.min_p, 0.0..=1.0),
        ("repetition-penalty", sampling.repetition_penalty, 0.01..=100.0),
        ("presence-penalty", sampling.presence_penalty, -100.0..=100.0),
        ("frequency-penalty", sampling.frequency_penalty, -100.0..=100.0),
    ];
    for (name, value, range) in ranges {
        if !range.contains(&value) {
            let (low, high) = (range.start(), range.end());
            return Err(invalid(format!("{name} is {value}: expected {low} to {high}")).into());
        }
    }
    Ok(SamplingParams {
        temperature: sampling.temperature,
        top_k: sampling.top_k,
        top_p: sampling.top_p,
        min_p: sampling.min_p,
        repetition_penalty: sampling.repetition_penalty,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        counts,
        logit_bias: sampling.logit_bias,
        seed: sampling.seed,
        allowed: None,
    })
}

/// Refuses token ids outside the vocabulary.
pub(crate) fn check_tokens(model: &ServedModel, tokens: &[u32]) -> Result<(), ApiError> {
    let vocabulary = model.facts.vocabulary_size;
    match tokens.iter().find(|token| **token >= vocabulary) {
        Some(token) => Err(invalid(format!("token {token} is outside the vocabulary of {vocabulary}"))),
        None => Ok(()),
    }
}

fn masks(masks: Option<Vec<forward::RowMask>>) -> Result<Option<Vec<RowRuns>>, ApiError> {
    let Some(masks) = masks else { return Ok(None) };
    let runs: usize = masks.iter().map(Vec::len).sum();
    if runs > MASK_RUNS {
        return Err(ApiError::LimitExceeded(format!("the masks have {runs} runs, the limit is {MASK_RUNS}")));
    }
    Ok(Some(masks.into_iter().map(RowRuns).collect()))
}

//! Every function of `wit/`, and how a random call of it is made.
//!
//! A call that returns at once is made and noted here; a call that takes time becomes a future, to be awaited or
//! dropped. One that may wait for ever waits for some milliseconds.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use inferlet::bindings::pie::inferlet::adapter::{self, Adapter};
use inferlet::bindings::pie::inferlet::context::{self, Context, Priority};
use inferlet::bindings::pie::inferlet::embeds::Embeddings;
use inferlet::bindings::pie::inferlet::forward::{
    self, Input, OutputKind, OutputRequest, Pass, Sampling, TokenCounts, TokenOrigin,
};
use inferlet::bindings::pie::inferlet::grammar::{Constraint, Source};
use inferlet::bindings::pie::inferlet::model::{self, ChatOptions, Message, Model};
use inferlet::bindings::pie::inferlet::{clock, mcp, messaging, runtime, session, store};
use inferlet::futures::FutureExt;
use inferlet::futures::future::{Either, LocalBoxFuture, select};
use inferlet::{Error, sleep};

use super::draw::Random;
use super::{Done, New, Program, lora};

/// The functions and how often they are drawn.
pub(super) const CALLS: [(&str, u32); 80] = [
    ("adapter.load", 4),
    ("adapter.rank", 1),
    ("adapter.tensors", 1),
    ("adapter.available", 1),
    ("answer.opens-reasoning", 1),
    ("answer.call-grammar", 2),
    ("answer.call-triggers", 1),
    ("answer.create", 2),
    ("answer.read", 4),
    ("answer.finish", 1),
    ("clock.sleep", 2),
    ("clock.elapsed", 1),
    ("context.create", 6),
    ("context.fork", 6),
    ("context.length", 1),
    ("context.next-position", 1),
    ("context.truncate", 5),
    ("context.remove", 4),
    ("context.slice", 4),
    ("context.append", 4),
    ("context.set-priority", 3),
    ("context.save", 6),
    ("context.open", 6),
    ("context.delete", 3),
    ("context.snapshots", 2),
    ("context.set-cache-salt", 1),
    ("embeds.from-tokens", 4),
    ("embeds.from-values", 2),
    ("embeds.rows", 1),
    ("embeds.values", 1),
    ("forward.execute", 30),
    ("forward.execute-many", 8),
    ("forward.create", 2),
    ("forward.add", 3),
    ("forward.remove", 2),
    ("forward.fork", 1),
    ("grammar.compile", 4),
    ("grammar.fork", 2),
    ("grammar.advance", 3),
    ("grammar.rollback", 2),
    ("grammar.allowed", 2),
    ("grammar.forced", 1),
    ("grammar.complete", 1),
    ("grammar.finished", 1),
    ("mcp.servers", 1),
    ("mcp.find", 1),
    ("mcp.tools", 2),
    ("mcp.call", 4),
    ("messaging.next", 3),
    ("messaging.broadcast", 3),
    ("messaging.subscribe", 3),
    ("messaging.forget", 2),
    ("messaging.push", 3),
    ("messaging.pull", 3),
    ("model.models", 1),
    ("model.open", 1),
    ("model.facts", 1),
    ("model.tokenize", 2),
    ("model.detokenize", 1),
    ("model.vocabulary", 1),
    ("model.encode-chat", 1),
    ("model.format-chat", 1),
    ("runtime.arguments", 1),
    ("runtime.instance-id", 1),
    ("runtime.user", 1),
    ("runtime.version", 1),
    ("runtime.detach", 1),
    ("runtime.usage", 2),
    ("runtime.id", 1),
    ("runtime.wait", 3),
    ("runtime.cancel", 1),
    ("runtime.launch", 2),
    ("session.send", 3),
    ("session.send-blob", 2),
    ("session.receive", 2),
    ("session.receive-blob", 2),
    ("store.get", 2),
    ("store.set", 2),
    ("store.delete", 1),
    ("store.keys", 1),
];

/// A context that the program holds, and what is known of it.
pub(super) struct Held {
    context: Context,
    model: Rc<Model>,
    /// Passes of it that are awaited. While there are any, its length may change between two calls.
    flying: Cell<u32>,
    /// Calls that changed it while passes were awaited.
    changes: Cell<u32>,
}

impl Held {
    fn new(context: Context, model: Rc<Model>) -> Held {
        Held { context, model, flying: Cell::new(0), changes: Cell::new(0) }
    }

    /// A call that changes the length, by the change.
    fn change(&self, by: i64, call: impl FnOnce(&Context) -> Result<(), Error>) -> Result<New, Error> {
        let before = self.context.length();
        let answer = call(&self.context);
        if self.flying.get() > 0 {
            self.changes.set(self.changes.get() + u32::from(answer.is_ok()));
        } else {
            let expected = i64::from(before) + if answer.is_ok() { by } else { 0 };
            assert_eq!(i64::from(self.context.length()), expected, "{answer:?} of {before} tokens by {by}");
        }
        answer.map(|()| New::Nothing)
    }
}

/// A context while a pass of it is awaited. Dropped with the pass, it knows two lengths that are right: the pass may be
/// done by then, and its answer on the way.
struct Flight {
    held: Rc<Held>,
    before: u32,
    /// The only pass of the context, and nothing else changes it.
    alone: bool,
    changes: u32,
    /// Rows that it adds. None once its answer was looked at.
    rows: Option<u32>,
}

impl Flight {
    fn new(held: &Rc<Held>, pass_rows: u32, keep: bool) -> Flight {
        held.flying.set(held.flying.get() + 1);
        let (before, alone) = (held.context.length(), held.flying.get() == 1);
        // Those that are awaited already are no longer alone.
        held.changes.set(held.changes.get() + u32::from(!alone));
        let rows = if keep { pass_rows } else { 0 };
        Flight { held: held.clone(), before, alone, changes: held.changes.get(), rows: Some(rows) }
    }

    fn check(&self, right: &[u32]) {
        if self.alone && self.changes == self.held.changes.get() {
            let length = self.held.context.length();
            assert!(right.contains(&length), "{length} tokens after a pass, expected one of {right:?}");
        } else {
            // Another pass that goes on cannot know its length either.
            self.held.changes.set(self.held.changes.get() + 1);
        }
    }

    fn answered(mut self, succeeded: bool) {
        let rows = self.rows.take().expect("answered once");
        self.check(&[self.before + if succeeded { rows } else { 0 }]);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(rows) = self.rows.take() {
            self.check(&[self.before, self.before + rows]);
        }
        self.held.flying.set(self.held.flying.get() - 1);
    }
}

/// What a pass borrows, kept alive as long as the pass.
struct PassParts {
    input: PassInput,
    positions: Option<Vec<u32>>,
    masks: Option<Vec<Vec<u32>>>,
    adapter: Option<Rc<Adapter>>,
    keep: bool,
    constraints: Vec<Rc<Constraint>>,
    counts: Option<Rc<TokenCounts>>,
    outputs: Vec<OutputSeed>,
}

enum PassInput {
    Tokens(Vec<u32>),
    Embeddings(Rc<Embeddings>),
}

/// An output request without its borrows.
struct OutputSeed {
    row: u32,
    kind: u64,
    sampling: Box<Sampling<'static>>,
    constrained: bool,
    tokens: Vec<u32>,
    k: u32,
}

impl PassParts {
    fn rows(&self) -> u32 {
        match &self.input {
            PassInput::Tokens(tokens) => tokens.len() as u32,
            PassInput::Embeddings(embeddings) => embeddings.rows(),
        }
    }

    fn pass(&self) -> Pass<'_> {
        let input = match &self.input {
            PassInput::Tokens(tokens) => Input::Tokens(tokens.clone()),
            PassInput::Embeddings(embeddings) => Input::Embeddings(embeddings),
        };
        let kind = |output: &OutputSeed| match output.kind {
            0 => OutputKind::TopK(output.k),
            1 => OutputKind::LogProbs(output.tokens.clone()),
            2 => OutputKind::Logits,
            3 => OutputKind::Entropy,
            4 => OutputKind::Hidden,
            _ => {
                let constraints =
                    self.constraints.iter().filter(|_| output.constrained).map(Rc::as_ref).collect();
                let sampling: Sampling<'static> = (*output.sampling).clone();
                OutputKind::Token(Sampling { constraints, counts: self.counts.as_deref(), ..sampling })
            }
        };
        Pass {
            input,
            positions: self.positions.clone(),
            masks: self.masks.clone(),
            adapter: self.adapter.as_deref(),
            keep: self.keep,
            outputs: self.outputs.iter().map(|o| OutputRequest { row: o.row, kind: kind(o) }).collect(),
        }
    }
}

/// A future as a call in flight.
fn call(
    name: &'static str,
    work: impl Future<Output = Result<New, Error>> + 'static,
) -> LocalBoxFuture<'static, Done> {
    async move { (name, work.await) }.boxed_local()
}

/// As [`call`], for what may wait for ever; then it counts as cancelled.
fn patient(
    name: &'static str,
    limit_ms: u64,
    work: impl Future<Output = Result<New, Error>> + 'static,
) -> LocalBoxFuture<'static, Done> {
    let limited = async move {
        match select(Box::pin(work), Box::pin(sleep(Duration::from_millis(limit_ms)))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(Error::Cancelled),
        }
    };
    call(name, limited)
}

fn nothing<T>(_: T) -> New {
    New::Nothing
}

impl Program {
    /// Makes a call. `None` when it was made and noted, or when there is no handle to make it with.
    pub(super) fn call(&mut self, name: &'static str) -> Option<LocalBoxFuture<'static, Done>> {
        let model = self.random.pick(&self.models).expect("there is a model");
        match name.split_once('.').expect("interface and function").0 {
            "context" => self.context_call(name, model),
            "forward" => self.forward_call(name, &model),
            "grammar" => self.grammar_call(name, model),
            "model" => {
                let result = self.model_call(name, &model);
                self.keep((name, result));
                None
            }
            "answer" => {
                if let Some(result) = self.answer_call(name, &model) {
                    self.keep((name, result));
                }
                None
            }
            "mcp" => self.mcp_call(name),
            "messaging" => self.messaging_call(name),
            "adapter" => self.adapter_call(name, model),
            "embeds" => self.embeds_call(name, model),
            "runtime" => self.runtime_call(name),
            "session" => Some(self.session_call(name)),
            "store" => self.store_call(name),
            "clock" => self.clock_call(name),
            _ => panic!("`{name}` has no call"),
        }
    }

    fn clock_call(&mut self, name: &'static str) -> Option<LocalBoxFuture<'static, Done>> {
        if name == "clock.elapsed" {
            clock::elapsed();
            self.keep((name, Ok(New::Nothing)));
            return None;
        }
        let long = [0, 1, 3, u64::MAX, u64::MAX / 2, 1 << 40];
        let (time, limit) = (long[self.random.index(long.len())], self.random.below(5));
        let sleep = async move {
            clock::sleep(time).await;
            Ok(New::Nothing)
        };
        Some(patient(name, limit, sleep))
    }

    fn context_call(
        &mut self,
        name: &'static str,
        model: Rc<Model>,
    ) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        let on_a_context = !matches!(
            name,
            "context.create"
                | "context.set-cache-salt"
                | "context.open"
                | "context.delete"
                | "context.snapshots"
        );
        let held = if on_a_context { Some(random.pick(&self.contexts)?) } else { None };
        let held = || held.clone().expect("picked above");
        let result = match name {
            "context.create" => Context::create(&model).map(|c| New::Context(Held::new(c, model))),
            "context.set-cache-salt" => context::set_cache_salt(&random.name()).map(nothing),
            "context.fork" => {
                let held = held();
                let (before, quiet) = (held.context.length(), held.flying.get() == 0);
                held.context.fork().map(|fork| {
                    assert!(!quiet || fork.length() == before, "a fork has the tokens of its context");
                    New::Context(Held::new(fork, held.model.clone()))
                })
            }
            "context.length" => Ok(nothing(held().context.length())),
            "context.next-position" => Ok(nothing(held().context.next_position())),
            "context.truncate" => {
                let held = held();
                let before = held.context.length();
                let length = random.number(before);
                held.change(i64::from(length) - i64::from(before), |context| context.truncate(length))
            }
            "context.remove" => {
                let held = held();
                let length = held.context.length();
                let (start, end) = (random.number(length), random.number(length));
                let (start, end) =
                    if random.chance(80) { (start.min(end), start.max(end)) } else { (start, end) };
                held.change(i64::from(start) - i64::from(end), |context| context.remove(start, end))
            }
            "context.slice" => {
                let held = held();
                let length = held.context.length();
                let (one, two) = (random.number(length), random.number(length));
                let (start, end) = if random.chance(80) { (one.min(two), one.max(two)) } else { (one, two) };
                held.context.slice(start, end).map(|slice| {
                    assert_eq!(slice.length(), end - start, "a slice has the tokens of its range");
                    New::Context(Held::new(slice, held.model.clone()))
                })
            }
            "context.append" => {
                let (held, other) = (held(), random.pick(&self.contexts)?);
                let by = i64::from(other.context.length());
                held.change(by, |context| context.append(&other.context))
            }
            "context.set-priority" => {
                let priorities = [Priority::Low, Priority::Normal, Priority::High];
                held().context.set_priority(priorities[random.index(3)]);
                Ok(New::Nothing)
            }
            "context.save" => {
                let (held, key, persistent) = (held(), random.name(), random.chance(50));
                let work = async move { held.context.save(key, persistent).await.map(nothing) };
                return Some(call(name, work));
            }
            "context.open" => {
                let key = random.name();
                let work = async move {
                    let opened = context::open(&model, key).await?;
                    Ok(New::Context(Held::new(opened, model)))
                };
                return Some(call(name, work));
            }
            "context.delete" => {
                let key = random.name();
                return Some(call(name, async move { context::delete(&model, key).await.map(nothing) }));
            }
            "context.snapshots" => {
                let work = async move {
                    let snapshots = context::snapshots(&model).await?;
                    let mut names: Vec<_> = snapshots.into_iter().map(|snapshot| snapshot.name).collect();
                    let sorted = names.is_sorted();
                    names.dedup();
                    assert!(sorted, "snapshots come by name, each once: {names:?}");
                    Ok(New::Nothing)
                };
                return Some(call(name, work));
            }
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }

    fn counts_call(&mut self, name: &'static str, model: &Model) {
        let random = &mut self.random;
        let counts = random.pick(&self.token_counts);
        let (tokens, prompt) = (random.tokens(288), random.chance(50));
        let origin = if prompt { TokenOrigin::Prompt } else { TokenOrigin::Generated };
        let result = match (name, counts) {
            ("forward.add", Some(counts)) => counts.add(&tokens, origin).map(nothing),
            ("forward.remove", Some(counts)) => counts.remove(&tokens, origin).map(nothing),
            ("forward.fork", Some(counts)) => counts.fork().map(New::Counts),
            // Without one, the others make one.
            _ => TokenCounts::create(model).map(New::Counts),
        };
        self.keep((if self.token_counts.is_empty() { "forward.create" } else { name }, result));
    }

    fn forward_call(&mut self, name: &'static str, model: &Model) -> Option<LocalBoxFuture<'static, Done>> {
        if !name.starts_with("forward.execute") {
            self.counts_call(name, model);
            return None;
        }
        let count = match name {
            "forward.execute" => 1,
            "forward.execute-many" => self.random.below(6),
            _ => panic!("`{name}` has no call"),
        };
        let mut passes = Vec::new();
        for _ in 0..count {
            let held = self.random.pick(&self.contexts)?;
            let parts = self.pass_parts(&held);
            passes.push((held, parts));
        }
        let work = async move {
            // Dropped after the call, whose passes they count.
            let flights: Vec<Flight> =
                passes.iter().map(|(held, parts)| Flight::new(held, parts.rows(), parts.keep)).collect();
            if name == "forward.execute" {
                let (held, parts) = &passes[0];
                let answer = forward::execute(&held.context, parts.pass()).await;
                flights.into_iter().for_each(|flight| flight.answered(answer.is_ok()));
                return answer.map(nothing);
            }
            let many = passes.iter().map(|(held, parts)| (&held.context, parts.pass())).collect();
            let answers = forward::execute_many(many).await;
            assert_eq!(answers.len(), flights.len(), "each pass has an answer");
            let refused = answers.iter().find_map(|answer| answer.as_ref().err().cloned());
            for (flight, answer) in flights.into_iter().zip(answers) {
                flight.answered(answer.is_ok());
            }
            refused.map_or(Ok(New::Nothing), Err)
        };
        Some(call(name, work))
    }

    fn pass_parts(&mut self, held: &Held) -> PassParts {
        let random = &mut self.random;
        let facts = held.model.facts();
        let embeddings = if random.chance(15) { random.pick(&self.embeddings) } else { None };
        let (input, rows) = match embeddings {
            Some(embeddings) => {
                let rows = embeddings.rows();
                (PassInput::Embeddings(embeddings), rows)
            }
            None => {
                let tokens = random.tokens(facts.vocabulary_size);
                let rows = tokens.len() as u32;
                (PassInput::Tokens(tokens), rows)
            }
        };
        let positions = random.chance(10).then(|| {
            let length = if random.chance(90) { rows } else { random.number(rows) };
            let next = held.context.next_position();
            (0..length.min(9000))
                .map(|row| if random.chance(97) { next + row } else { random.number(4096) })
                .collect()
        });
        let masks = random.chance(15).then(|| {
            let length = if random.chance(90) { rows } else { random.number(rows) };
            let reach = held.context.length() + rows;
            (0..length.min(9000))
                .map(|_| (0..random.below(4)).map(|_| random.number(reach)).collect())
                .collect()
        });
        let outputs = match random.below(30) {
            0 => 300,
            1..6 => 0,
            _ => 1 + random.below(3),
        };
        let outputs = (0..outputs).map(|_| output(random, rows, facts.vocabulary_size)).collect();
        let adapter = if random.chance(20) { random.pick(&self.adapters) } else { None };
        let constraints = if random.chance(40) { random.below(3) } else { 0 };
        let constraints = (0..constraints).filter_map(|_| random.pick(&self.constraints)).collect();
        let counts = if random.chance(40) { random.pick(&self.token_counts) } else { None };
        PassParts { input, positions, masks, adapter, keep: random.chance(80), constraints, counts, outputs }
    }

    fn grammar_call(
        &mut self,
        name: &'static str,
        model: Rc<Model>,
    ) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        if name == "grammar.compile" {
            let source = grammar(random);
            let work = async move { Constraint::compile(&model, source).await.map(New::Constraint) };
            return Some(call(name, work));
        }
        let constraint = random.pick(&self.constraints)?;
        let result = match name {
            "grammar.fork" => constraint.fork().map(New::Constraint),
            "grammar.advance" => {
                let forced = constraint.forced().unwrap_or_default();
                let allowed = constraint.allowed().unwrap_or_default();
                let first = allowed.iter().position(|word| *word != 0);
                let first = first.map(|at| at as u32 * 32 + allowed[at].trailing_zeros());
                let tokens = match random.below(4) {
                    0 if !forced.is_empty() => forced,
                    1 => random.tokens(288),
                    _ => first.into_iter().collect(),
                };
                constraint.advance(&tokens).map(nothing)
            }
            "grammar.rollback" => constraint.rollback(random.number(3)).map(nothing),
            "grammar.allowed" => constraint.allowed().map(nothing),
            "grammar.forced" => constraint.forced().map(nothing),
            "grammar.complete" => constraint.complete().map(nothing),
            "grammar.finished" => constraint.finished().map(nothing),
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }

    fn model_call(&mut self, name: &'static str, model: &Model) -> Result<New, Error> {
        let random = &mut self.random;
        match name {
            "model.models" => Ok(nothing(model::models())),
            "model.open" => {
                let names = [None, Some("tiny"), Some("other"), Some(""), Some("no such model")];
                model::open(names[random.index(names.len())]).map(nothing)
            }
            "model.facts" => Ok(nothing(model.facts())),
            "model.tokenize" => model.tokenize(&random.text(), random.chance(50)).map(nothing),
            "model.detokenize" => model.detokenize(&random.tokens(288)).map(nothing),
            "model.vocabulary" => model.vocabulary().map(nothing),
            "model.encode-chat" | "model.format-chat" => {
                let (messages, options) = chat(random);
                match name {
                    "model.encode-chat" => model.encode_chat(&messages, &options).map(nothing),
                    _ => model.format_chat(&messages, &options).map(nothing),
                }
            }
            _ => panic!("`{name}` has no call"),
        }
    }

    fn messaging_call(&mut self, name: &'static str) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        let limit = random.below(8);
        let result = match name {
            "messaging.broadcast" => {
                messaging::broadcast(&random.name(), &random.text(), random.chance(30)).map(nothing)
            }
            "messaging.forget" => messaging::forget(&random.name()).map(nothing),
            "messaging.subscribe" => {
                messaging::subscribe(&random.name(), random.chance(50)).map(New::Subscription)
            }
            "messaging.next" => {
                let subscription = random.pick(&self.subscriptions)?;
                let next = async move { subscription.next().await.map(nothing) };
                return Some(patient(name, limit, next));
            }
            "messaging.push" => {
                let push = messaging::push(random.name(), random.text());
                return Some(patient(name, limit, async move { push.await.map(nothing) }));
            }
            "messaging.pull" => {
                let pull = messaging::pull(random.name());
                return Some(patient(name, limit, async move { pull.await.map(nothing) }));
            }
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }

    /// A call that is never answered counts as cancelled.
    fn mcp_call(&mut self, name: &'static str) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        let server = if random.chance(85) { "test".to_string() } else { random.name() };
        let limit = random.below(4);
        let result = match name {
            "mcp.servers" => {
                assert_eq!(mcp::servers(), ["test", "nobody"]);
                Ok(New::Nothing)
            }
            "mcp.find" if random.chance(50) => mcp::find("http://127.0.0.1:9/mcp").map(nothing),
            "mcp.find" => mcp::find(&random.name()).map(nothing),
            "mcp.tools" => {
                let tools = async move { mcp::tools(server).await.map(nothing) };
                return Some(patient(name, limit, tools));
            }
            "mcp.call" => {
                let tool = ["echo", "fail", "slow", "broken", "die"][random.index(5)];
                let arguments = match random.below(4) {
                    0 => random.text(),
                    1 => "[1]".to_string(),
                    _ => "{\"a\": 1}".to_string(),
                };
                let call = mcp::call(server, tool.to_string(), arguments);
                return Some(patient(name, limit, async move { call.await.map(nothing) }));
            }
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }

    fn adapter_call(
        &mut self,
        name: &'static str,
        model: Rc<Model>,
    ) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        let result = match name {
            "adapter.available" => adapter::available().map(nothing),
            "adapter.load" => {
                let source = adapter_source(random);
                let load = async move { Adapter::load(&model, source).await.map(New::Adapter) };
                return Some(call(name, load));
            }
            "adapter.rank" => Ok(nothing(random.pick(&self.adapters)?.rank())),
            "adapter.tensors" => Ok(nothing(random.pick(&self.adapters)?.tensors())),
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }

    fn embeds_call(&mut self, name: &'static str, model: Rc<Model>) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        let facts = model.facts();
        let result = match name {
            "embeds.from-tokens" => {
                let tokens = random.tokens(facts.vocabulary_size);
                let make = async move { Embeddings::from_tokens(&model, tokens).await.map(New::Embeddings) };
                return Some(call(name, make));
            }
            "embeds.from-values" => {
                let length = random.number(4) * facts.hidden_size + u32::from(random.chance(10));
                let wrong = random.chance(3).then_some(f32::NAN);
                let mut values = vec![0.5; length.min(1 << 16) as usize];
                values.extend(wrong);
                Embeddings::from_values(&model, &values).map(New::Embeddings)
            }
            "embeds.rows" => Ok(nothing(random.pick(&self.embeddings)?.rows())),
            "embeds.values" => Ok(nothing(random.pick(&self.embeddings)?.values())),
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }

    fn runtime_call(&mut self, name: &'static str) -> Option<LocalBoxFuture<'static, Done>> {
        let random = &mut self.random;
        match name {
            "runtime.arguments" => drop(runtime::arguments()),
            "runtime.instance-id" => drop(runtime::instance_id()),
            "runtime.user" => drop(runtime::user()),
            "runtime.version" => drop(runtime::version()),
            "runtime.detach" => runtime::detach(),
            "runtime.usage" => {
                return Some(call(name, async { runtime::usage().await.map(nothing) }));
            }
            "runtime.id" => drop(random.pick(&self.children)?.id()),
            "runtime.cancel" => random.pick(&self.children)?.cancel(),
            "runtime.wait" => {
                let (child, limit) = (random.pick(&self.children)?, random.below(40));
                return Some(patient(name, limit, async move { child.wait().await.map(nothing) }));
            }
            "runtime.launch" => {
                let (program, arguments) = match random.below(8) {
                    0 => ("no such program".to_string(), Vec::new()),
                    1 => ("test-programs".to_string(), vec!["x".repeat((1 << 20) + 1)]),
                    _ if self.depth == 0 => return None,
                    _ => {
                        let steps = self.steps_of_child;
                        let value = format!("{}/{}/{steps}", random.next(), self.depth - 1);
                        ("test-programs".to_string(), vec!["random".to_string(), value])
                    }
                };
                let launch = async move { runtime::launch(program, arguments).await.map(New::Child) };
                return Some(call(name, launch));
            }
            _ => panic!("`{name}` has no call"),
        }
        self.keep((name, Ok(New::Nothing)));
        None
    }

    fn session_call(&mut self, name: &'static str) -> LocalBoxFuture<'static, Done> {
        let (random, limit) = (&mut self.random, 4);
        match name {
            "session.send" => {
                let send = session::send(random.text());
                patient(name, limit, async move { send.await.map(nothing) })
            }
            "session.send-blob" => {
                let send = session::send_blob(random.bytes());
                patient(name, limit, async move { send.await.map(nothing) })
            }
            "session.receive" => patient(name, limit, async { session::receive().await.map(nothing) }),
            "session.receive-blob" => {
                patient(name, limit, async { session::receive_blob().await.map(nothing) })
            }
            _ => panic!("`{name}` has no call"),
        }
    }

    fn store_call(&mut self, name: &'static str) -> Option<LocalBoxFuture<'static, Done>> {
        let key = self.random.name();
        let result = match name {
            "store.get" => store::get(&key).map(nothing),
            "store.keys" => store::keys(&key).map(|keys| {
                assert!(keys.iter().all(|k| k.starts_with(&key)) && keys.is_sorted(), "{keys:?}");
                New::Nothing
            }),
            "store.set" => {
                let value = self.random.bytes();
                return Some(call(name, async move { store::set(key, value).await.map(nothing) }));
            }
            "store.delete" => {
                return Some(call(name, async move { store::delete(key).await.map(nothing) }));
            }
            _ => panic!("`{name}` has no call"),
        };
        self.keep((name, result));
        None
    }
}

fn output(random: &mut Random, rows: u32, vocabulary: u32) -> OutputSeed {
    let row =
        if random.chance(96) { rows.saturating_sub(1).min(random.number(rows)) } else { random.number(rows) };
    let sampling = Sampling {
        logit_bias: (0..random.below(3))
            .map(|_| {
                (
                    random.number(vocabulary - 1),
                    if random.chance(10) { f32::NEG_INFINITY } else { random.float(-9.0, 9.0) },
                )
            })
            .collect(),
        counts: None,
        repetition_penalty: random.float(0.01, 100.0),
        presence_penalty: random.float(-100.0, 100.0),
        frequency_penalty: random.float(-100.0, 100.0),
        constraints: Vec::new(),
        allowed_tokens: if random.chance(30) { Some(random.tokens(vocabulary)) } else { None },
        temperature: random.float(0.0, 100.0),
        top_k: random.number(vocabulary),
        min_p: random.float(0.0, 1.0),
        top_p: random.float(0.001, 1.0),
        seed: random.next(),
    };
    OutputSeed {
        row,
        kind: random.below(10),
        sampling: Box::new(sampling),
        constrained: random.chance(70),
        tokens: random.tokens(vocabulary),
        k: random.number(vocabulary),
    }
}

fn grammar(random: &mut Random) -> Source {
    match random.below(10) {
        0 | 1 => Source::Json,
        2 => Source::JsonSchema(
            r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#.into(),
        ),
        3 => Source::JsonSchema(random.text()),
        4 => Source::Regex(format!("[a-z]{{1,{}}} (yes|no)", 1 + random.below(30))),
        5 => Source::Regex("((a|b)*c){1000}{1000}".into()),
        6 => Source::Lark("start: \"a\" start | \"!\"".into()),
        7 => Source::Lark("start: start\n%ignore".into()),
        8 => Source::Ebnf("root ::= \"a\"+ \"!\"".into()),
        _ => Source::Ebnf(random.text()),
    }
}

fn adapter_source(random: &mut Random) -> adapter::Source {
    match random.below(12) {
        0 => adapter::Source::Name("whole.gguf".into()),
        1 => adapter::Source::Name("damaged.gguf".into()),
        2 => adapter::Source::Name(random.name()),
        3 => adapter::Source::Gguf(random.bytes()),
        4 | 5 => {
            let mut file = lora::gguf(random.next());
            lora::damage(random, &mut file);
            adapter::Source::Gguf(file)
        }
        6 => {
            let (config, mut tensors) = lora::peft(random.next());
            lora::damage(random, &mut tensors);
            adapter::Source::Peft((config, tensors))
        }
        7 => adapter::Source::Peft((random.text(), random.bytes())),
        8 | 9 => {
            let (config, tensors) = lora::peft(random.next());
            adapter::Source::Peft((config, tensors))
        }
        _ => adapter::Source::Gguf(lora::gguf(random.next())),
    }
}

fn chat(random: &mut Random) -> (Vec<Message>, ChatOptions) {
    let json = |random: &mut Random| {
        let texts = [None, None, None, Some("[]"), Some("{}"), Some("["), Some("")];
        texts[random.index(texts.len())].map(str::to_string)
    };
    let roles = ["system", "user", "assistant", "tool", "", "other"];
    let message = |random: &mut Random| Message {
        role: roles[random.index(roles.len())].into(),
        content: random.text(),
        tool_calls: json(random),
        tool_call_id: json(random),
        name: json(random),
        reasoning_content: json(random),
        trusted: random.chance(30),
    };
    let messages = (0..random.below(4)).map(|_| message(random)).collect();
    let options = ChatOptions {
        add_generation_prompt: random.chance(50),
        continue_final_message: random.chance(20),
        tools: json(random),
        variables: json(random),
    };
    (messages, options)
}

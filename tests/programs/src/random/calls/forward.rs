//! Calls of `forward`: passes with random parts, and what is right of a context while they are awaited.

use std::rc::Rc;

use inferlet::bindings::pie::inferlet::adapter::Adapter;
use inferlet::bindings::pie::inferlet::embeds::Embeddings;
use inferlet::bindings::pie::inferlet::forward::{
    self, Input, OutputKind, OutputRequest, Pass, Sampling, TokenCounts, TokenOrigin,
};
use inferlet::bindings::pie::inferlet::grammar::Constraint;
use inferlet::bindings::pie::inferlet::model::Model;
use inferlet::futures::future::LocalBoxFuture;

use super::context::Held;
use super::{call, nothing};
use crate::random::draw::Random;
use crate::random::{Done, New, Program};

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

impl Program {
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

    pub(super) fn forward_call(
        &mut self,
        name: &'static str,
        model: &Model,
    ) -> Option<LocalBoxFuture<'static, Done>> {
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

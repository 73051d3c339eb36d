use std::cell::RefCell;

use super::adapter::Adapter;
use super::context::Context;
use super::embeds::Embeddings;
use super::grammar::Constraint;
use super::model::Model;
use super::{Error, invalid};
use crate::testing::{Row, Slot, draw, host, log_softmax, pause};

#[derive(Clone, Debug)]
pub enum Input<'a> {
    Tokens(Vec<u32>),
    Embeddings(&'a Embeddings),
}

pub type RowMask = Vec<u32>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOrigin {
    Prompt,
    Generated,
}

/// For each token, how often it came in the prompt and how often it was generated.
pub(crate) type Counted = std::collections::BTreeMap<u32, [u32; 2]>;

#[derive(Debug)]
pub struct TokenCounts {
    counts: RefCell<Counted>,
}

impl TokenCounts {
    pub fn create(_model: &Model) -> Result<TokenCounts, Error> {
        Ok(TokenCounts { counts: RefCell::default() })
    }

    pub fn add(&self, tokens: &[u32], origin: TokenOrigin) -> Result<(), Error> {
        let mut counts = self.counts.borrow_mut();
        tokens.iter().for_each(|token| counts.entry(*token).or_default()[origin as usize] += 1);
        Ok(())
    }

    pub fn remove(&self, tokens: &[u32], origin: TokenOrigin) -> Result<(), Error> {
        let mut counts = self.counts.borrow().clone();
        for token in tokens {
            match counts.get_mut(token).map(|count| &mut count[origin as usize]).filter(|count| **count > 0) {
                Some(count) => *count -= 1,
                None => return Err(invalid(format!("token {token} is taken back more often than it came"))),
            }
        }
        counts.retain(|_, count| *count != [0, 0]);
        *self.counts.borrow_mut() = counts;
        Ok(())
    }

    pub fn fork(&self) -> Result<TokenCounts, Error> {
        Ok(TokenCounts { counts: self.counts.clone() })
    }

    pub(crate) fn counted(&self) -> Counted {
        self.counts.borrow().clone()
    }
}

#[derive(Clone, Debug)]
pub struct Sampling<'a> {
    pub logit_bias: Vec<(u32, f32)>,
    pub counts: Option<&'a TokenCounts>,
    pub repetition_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub constraints: Vec<&'a Constraint>,
    pub allowed_tokens: Option<Vec<u32>>,
    pub temperature: f32,
    pub top_k: u32,
    pub min_p: f32,
    pub top_p: f32,
    pub seed: u64,
}

#[derive(Clone, Debug)]
pub enum OutputKind<'a> {
    Token(Sampling<'a>),
    TopK(u32),
    LogProbs(Vec<u32>),
    Logits,
    Entropy,
    Hidden,
}

#[derive(Clone, Debug)]
pub struct OutputRequest<'a> {
    pub row: u32,
    pub kind: OutputKind<'a>,
}

#[derive(Clone, Debug)]
pub struct Pass<'a> {
    pub input: Input<'a>,
    pub positions: Option<Vec<u32>>,
    pub masks: Option<Vec<RowMask>>,
    pub adapter: Option<&'a Adapter>,
    pub keep: bool,
    pub outputs: Vec<OutputRequest<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub struct TokenLogProb {
    pub token: u32,
    pub log_prob: f32,
}

#[derive(Clone, Debug)]
pub enum Output {
    Token(TokenLogProb),
    TopK(Vec<TokenLogProb>),
    LogProbs(Vec<f32>),
    Logits(Vec<f32>),
    Entropy(f32),
    Hidden(Vec<f32>),
    NoTokenAllowed,
}

#[derive(Clone, Debug)]
pub struct Outputs {
    pub values: Vec<Output>,
    pub computed: u32,
    pub compute_ns: u64,
    pub compute_share_ns: u64,
}

pub async fn execute(context: &Context, pass: Pass<'_>) -> Result<Outputs, Error> {
    pause().await;
    let host = host();
    let number = host.passes.replace(host.passes.get() + 1);
    if let Some(error) = host.failures.borrow_mut().remove(&number) {
        return Err(error);
    }
    let tokens = match pass.input {
        Input::Tokens(tokens) => tokens,
        Input::Embeddings(rows) => rows.tokens(),
    };
    let (model, rows) = (&context.model, tokens.len());
    let next = context.next.get();
    let positions = pass.positions.unwrap_or_else(|| (next..next + rows as u32).collect());
    let has_masks = pass.masks.is_some();
    let masks = pass.masks.unwrap_or_else(|| vec![Vec::new(); rows]);
    if rows == 0 || positions.len() != rows || masks.len() != rows {
        let (positions, masks) = (positions.len(), masks.len());
        return Err(invalid(format!("{rows} rows with {positions} positions and {masks} masks")));
    }
    if let Some(token) = tokens.iter().find(|token| **token as usize >= model.words.len()) {
        return Err(invalid(format!("token {token} is outside the vocabulary")));
    }
    if let Some(position) = positions.iter().find(|position| **position >= model.facts.context_length) {
        let limit = model.facts.context_length;
        return Err(invalid(format!("position {position}: the model's context has {limit}")));
    }
    if let Some(request) = pass.outputs.iter().find(|request| request.row as usize >= rows) {
        return Err(invalid(format!("an output of row {}: the pass has {rows}", request.row)));
    }
    if let Some(hidden) = model.rows() {
        let length = context.slots.borrow().len();
        if pass.keep || has_masks || length > 0 {
            return Err(invalid(
                "the model is an encoder: a pass is a whole text, is not kept and has no masks",
            ));
        }
        let values = pass.outputs.iter().map(|request| match request.kind {
            OutputKind::Hidden => Ok(Output::Hidden(hidden(&tokens, request.row as usize))),
            _ => Err(invalid("the model is an encoder: its rows have hidden outputs only")),
        });
        let values = values.collect::<Result<_, Error>>()?;
        host.rows.set(host.rows.get() + rows);
        return Ok(Outputs { values, computed: rows as u32, compute_ns: 0, compute_share_ns: 0 });
    }
    let mut slots = context.slots.borrow().clone();
    let mut seen = Vec::with_capacity(rows);
    for ((token, position), mask) in tokens.into_iter().zip(&positions).zip(&masks) {
        let mut visible: Vec<Slot> = attended(mask, slots.len()).map(|index| slots[index]).collect();
        let slot = Slot::new(token, *position, pass.adapter.map(|adapter| adapter.name.as_str()), &visible);
        visible.push(slot);
        slots.push(slot);
        seen.push(visible);
    }
    let mut values = Vec::with_capacity(pass.outputs.len());
    for request in pass.outputs {
        let visible = &seen[request.row as usize];
        values.push(output(&Row { model, seen: visible }, request.kind)?);
    }
    host.rows.set(host.rows.get() + rows);
    if pass.keep {
        context.next.set(positions.iter().fold(next, |next, position| next.max(position + 1)));
        *context.slots.borrow_mut() = slots;
    }
    Ok(Outputs { values, computed: rows as u32, compute_ns: 0, compute_share_ns: 0 })
}

pub async fn execute_many(passes: Vec<(&Context, Pass<'_>)>) -> Vec<Result<Outputs, Error>> {
    let mut answers = Vec::with_capacity(passes.len());
    for (context, pass) in passes {
        answers.push(execute(context, pass).await);
    }
    answers
}

/// The tokens that a mask shows, of so many before the row.
fn attended(mask: &[u32], before: usize) -> impl Iterator<Item = usize> {
    let mut ends = mask.iter().scan(0, |end, run| {
        *end += *run as usize;
        Some(*end)
    });
    let ends: Vec<usize> = ends.by_ref().collect();
    (0..before).filter(move |index| {
        // Behind the last run all is shown.
        ends.iter().position(|end| index < end).is_none_or(|run| run % 2 == 1)
    })
}

fn output(row: &Row<'_>, kind: OutputKind<'_>) -> Result<Output, Error> {
    let logits = row.logits();
    let logprobs = log_softmax(&logits);
    let of = |token: u32| TokenLogProb { token, log_prob: logprobs[token as usize] };
    Ok(match kind {
        OutputKind::Token(sampling) => match draw(logits, &sampling, row.position())? {
            Some(token) => Output::Token(of(token)),
            None => Output::NoTokenAllowed,
        },
        OutputKind::TopK(k) => {
            let mut order: Vec<u32> = (0..logits.len() as u32).collect();
            order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
            Output::TopK(order.into_iter().take(k as usize).map(of).collect())
        }
        OutputKind::LogProbs(tokens) => match tokens.iter().all(|token| (*token as usize) < logits.len()) {
            true => Output::LogProbs(tokens.into_iter().map(|token| of(token).log_prob).collect()),
            false => return Err(invalid("a token outside the vocabulary")),
        },
        OutputKind::Entropy => Output::Entropy(logprobs.iter().map(|log| -log * log.exp()).sum()),
        OutputKind::Logits => Output::Logits(logits),
        OutputKind::Hidden => Output::Hidden(row.hidden()),
    })
}

//! Answers to output requests: from one row of logits to a token, a distribution, a number.
//!
//! The whole vocabulary takes part, ties go to the lowest id, and a draw depends on (seed, position) and the
//! logits alone: one uniform number, compared with the running sum of the kept probabilities in the order of
//! ids.

use backend::{OutputKind, Sampled, SamplingParams, TokenLogProb, Value};
use kernels::{Isa, ops};

/// Memory that answering reuses from row to row.
#[derive(Default)]
pub(crate) struct Scratch {
    logits: Vec<f32>,
    /// Unnormalized probabilities after the temperature: the most probable token weighs 1.
    weights: Vec<f32>,
    order: Vec<(f32, u32)>,
    /// The tokens that a mask allows, when they are few, and their logits.
    tokens: Vec<u32>,
    few: Vec<f32>,
}

/// One row of logits with the logarithm of the sum of their exponentials.
pub(crate) struct Distribution<'a> {
    isa: Isa,
    logits: &'a [f32],
    log_sum: f32,
}

impl<'a> Distribution<'a> {
    pub(crate) fn new(isa: Isa, logits: &'a [f32]) -> Distribution<'a> {
        Distribution { isa, logits, log_sum: ops::log_sum_exp(isa, logits) }
    }

    /// Answers one request. `position` is the row's; [`OutputKind::Hidden`] is answered elsewhere.
    pub(crate) fn answer(&self, kind: &OutputKind, position: u32, scratch: &mut Scratch) -> Value {
        match kind {
            OutputKind::Token(params) => match draw(self.isa, self.logits, params, position, scratch) {
                Some(token) => Value::Token(self.with_log_prob(token)),
                None => Value::NoTokenAllowed,
            },
            OutputKind::TopK(k) => {
                let order = &mut scratch.order;
                order.clear();
                let floor = floor_of(self.logits, *k as usize);
                let kept = |(logit, _): &(f32, u32)| floor.is_none_or(|floor| *logit >= floor);
                order.extend(self.logits.iter().zip(0..).map(|(logit, token)| (*logit, token)).filter(kept));
                keep_most_probable(order, *k as usize);
                order.sort_unstable_by(most_probable_first);
                Value::TopK(order.iter().map(|(_, token)| self.with_log_prob(*token)).collect())
            }
            OutputKind::LogProbs(tokens) => {
                Value::LogProbs(tokens.iter().map(|token| self.with_log_prob(*token).log_prob).collect())
            }
            OutputKind::Logits => Value::Logits(self.logits.to_vec()),
            OutputKind::Entropy => Value::Entropy(self.entropy()),
            OutputKind::Hidden => unreachable!("hidden rows are answered before the output matrix"),
        }
    }

    fn with_log_prob(&self, token: u32) -> Sampled {
        TokenLogProb { token, log_prob: self.logits[token as usize] - self.log_sum }
    }

    fn entropy(&self) -> f32 {
        let term = |logit: &f32| {
            let log_prob = f64::from(logit - self.log_sum);
            // A token without probability adds nothing: the limit of `-p ln p` at 0.
            if log_prob.is_finite() { -log_prob * log_prob.exp() } else { 0.0 }
        };
        self.logits.iter().map(term).sum::<f64>() as f32
    }
}

/// [`draw`] where a mask alone decides and allows few tokens, as most states of a grammar do: among those, as
/// if the vocabulary had no others. `None` where that is not so.
fn draw_of_few(
    isa: Isa,
    logits: &[f32],
    params: &SamplingParams,
    position: u32,
    scratch: &mut Scratch,
) -> Option<Option<u32>> {
    let allowed = params.allowed.as_ref()?;
    let count = || allowed.iter().map(|word| word.count_ones() as usize).sum::<usize>();
    if !params.logit_bias.is_empty() || params.penalized().is_some() || count() > logits.len() / 8 {
        return None;
    }
    // What is left out has no effect here.
    let others = SamplingParams { allowed: None, logit_bias: Vec::new(), counts: None, ..*params };
    let mut tokens = std::mem::take(&mut scratch.tokens);
    let mut few = std::mem::take(&mut scratch.few);
    tokens.clear();
    for (first, word) in (0..).step_by(32).zip(allowed.iter()) {
        tokens.extend(ones(*word).map(|bit| first + bit as u32).filter(|t| (*t as usize) < logits.len()));
    }
    few.clear();
    few.extend(tokens.iter().map(|token| logits[*token as usize]));
    let drawn = match few.is_empty() {
        true => None,
        false => draw(isa, &few, &others, position, scratch).map(|index| tokens[index as usize]),
    };
    (scratch.tokens, scratch.few) = (tokens, few);
    Some(drawn)
}

/// Draws a token, or `None` when none is allowed.
fn draw(
    isa: Isa,
    logits: &[f32],
    params: &SamplingParams,
    position: u32,
    scratch: &mut Scratch,
) -> Option<u32> {
    if let Some(token) = draw_of_few(isa, logits, params, position, scratch) {
        return token;
    }
    let Scratch { logits: adjusted, weights, order, .. } = scratch;
    let logits = if is_plain(params) {
        logits
    } else {
        adjusted.clear();
        adjusted.extend_from_slice(logits);
        adjust(adjusted, params);
        adjusted
    };
    let (best, max) = most_probable(isa, logits)?;
    if params.temperature == 0.0 {
        return Some(best);
    }
    weights.clear();
    weights.extend_from_slice(logits);
    ops::exp_scaled(isa, weights, max, params.temperature);
    let part = uniform(params.seed, position);
    if params.top_k == 0 && params.min_p == 0.0 && params.top_p == 1.0 {
        return Some(draw_of_all(weights, part).unwrap_or(best));
    }
    truncate(logits, weights, params, order);
    order.sort_unstable_by_key(|(_, token)| *token);
    let weight = |entry: &(f32, u32)| f64::from(weights[entry.1 as usize]);
    let mut left = part * order.iter().map(weight).sum::<f64>();
    let mut last = best;
    for entry in order.iter().filter(|entry| weight(entry) > 0.0) {
        left -= weight(entry);
        last = entry.1;
        if left < 0.0 {
            break;
        }
    }
    Some(last)
}

/// Tokens that a draw passes over at once.
const STRIDE: usize = 64;

/// The token in which the running sum of all weights passes `part` of the whole; `None` when all weights are
/// 0.
fn draw_of_all(weights: &[f32], part: f64) -> Option<u32> {
    let mut left = part * total(weights);
    for (stride, weights) in weights.chunks(STRIDE).enumerate() {
        let all = sum(weights);
        if all <= left {
            left -= all;
            continue;
        }
        for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            left -= f64::from(*weight);
            if left < 0.0 {
                return Some((stride * STRIDE + index) as u32);
            }
        }
    }
    // Rounding left a little over.
    weights.iter().rposition(|weight| *weight > 0.0).map(|token| token as u32)
}

/// The sum of all weights, stride by stride.
fn total(weights: &[f32]) -> f64 {
    weights.chunks(STRIDE).map(sum).sum()
}

/// The sum of a stride, in eight chains that the compiler can keep in one vector.
fn sum(weights: &[f32]) -> f64 {
    let mut chains = [0.0; 8];
    for eight in weights.chunks(8) {
        chains.iter_mut().zip(eight).for_each(|(chain, weight)| *chain += f64::from(*weight));
    }
    chains.iter().sum()
}

/// Whether the logits are taken as they are.
fn is_plain(params: &SamplingParams) -> bool {
    params.logit_bias.is_empty() && params.allowed.is_none() && params.penalized().is_none()
}

/// The positions of the ones, lowest first.
fn ones(mut bits: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let position = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (position < 32).then_some(position)
    })
}

/// Logit bias, penalties, allowed set. What may not be drawn becomes negative infinity.
fn adjust(logits: &mut [f32], params: &SamplingParams) {
    for (token, bias) in &params.logit_bias {
        // Several large biases of one token may add up to infinity; a finite logit keeps the arithmetic
        // sound.
        logits[*token as usize] = (logits[*token as usize] + bias).min(f32::MAX);
    }
    for (token, count) in params.penalized().into_iter().flat_map(|counts| counts.iter()) {
        let logit = &mut logits[token as usize];
        *logit = params.penalize(*logit, count);
    }
    if let Some(allowed) = &params.allowed {
        for (word, logits) in logits.chunks_mut(32).enumerate() {
            let bits = allowed.get(word).copied().unwrap_or(0) & (u32::MAX >> (32 - logits.len()));
            keep_allowed(logits, bits);
        }
    }
}

/// Forbids the tokens of a word of the mask whose bits are 0. A grammar allows almost all of a word, or
/// almost none.
fn keep_allowed(logits: &mut [f32], bits: u32) {
    if bits.count_ones() as usize * 2 > logits.len() {
        let forbidden = !bits & (u32::MAX >> (32 - logits.len()));
        ones(forbidden).for_each(|position| logits[position] = f32::NEG_INFINITY);
    } else {
        let mut kept = [f32::NEG_INFINITY; 32];
        ones(bits).for_each(|position| kept[position] = logits[position]);
        logits.copy_from_slice(&kept[..logits.len()]);
    }
}

/// The most probable token and its logit; `None` when every logit is negative infinity (or not a number).
fn most_probable(isa: Isa, logits: &[f32]) -> Option<(u32, f32)> {
    let token = ops::argmax(isa, logits);
    let max = logits[token];
    (max > f32::NEG_INFINITY).then_some((token as u32, max))
}

/// Puts the tokens that top-k, min-p and top-p keep into `order`.
fn truncate(logits: &[f32], weights: &[f32], params: &SamplingParams, order: &mut Vec<(f32, u32)>) {
    let (top_k, top_p, min_p) = (params.top_k as usize, f64::from(params.top_p), params.min_p);
    if top_k == 0 && min_p == 0.0 && top_p < 1.0 {
        return truncate_top_p(logits, weights, top_p, order);
    }
    gather(logits, weights, min_p, floor_of(logits, top_k), order);
    if top_k > 0 {
        keep_most_probable(order, top_k);
    }
    if top_p < 1.0 {
        let whole: f64 = order.iter().map(|(_, token)| f64::from(weights[*token as usize])).sum();
        keep_top_p(order, weights, top_p * whole);
    }
}

/// [`truncate`] for top-p alone: mostly few tokens hold almost everything, so those that weigh little beside the most
/// probable one, which weighs 1, are looked at only where the others are not enough.
fn truncate_top_p(logits: &[f32], weights: &[f32], top_p: f64, order: &mut Vec<(f32, u32)>) {
    let whole = total(weights);
    // What top-p leaves out weighs `1 - top_p` of all at most, so a token that weighs less than an even share
    // of that is among it. Half, so that rounding does not matter.
    let least = (0.5 * (1.0 - top_p) * whole / weights.len() as f64) as f32;
    for least in [1.0 / 64.0, 1.0 / 4096.0].into_iter().filter(|more| *more > least).chain([least]) {
        gather(logits, weights, least, None, order);
        if keep_top_p(order, weights, top_p * whole) {
            return;
        }
    }
}

/// Puts the tokens into `order` that weigh `least` and whose logit is `floor`, or more.
fn gather(logits: &[f32], weights: &[f32], least: f32, floor: Option<f32>, order: &mut Vec<(f32, u32)>) {
    let floor = floor.unwrap_or(f32::MIN);
    order.clear();
    let strides = logits.chunks(STRIDE).zip(weights.chunks(STRIDE));
    for (first, (logits, weights)) in (0..).step_by(STRIDE).zip(strides) {
        // Most have none.
        if largest(weights) < least || largest(logits) < floor {
            continue;
        }
        let tokens = (first..).zip(logits.iter().zip(weights));
        let kept =
            tokens.filter(|(_, (logit, weight))| **weight >= least && **logit >= floor && logit.is_finite());
        order.extend(kept.map(|(token, (logit, _))| (*logit, token)));
    }
}

/// Keeps the most probable tokens whose sum reaches `goal`; false where that of all does not.
fn keep_top_p(order: &mut Vec<(f32, u32)>, weights: &[f32], goal: f64) -> bool {
    // Few tokens usually hold almost everything, so sort a growing head instead of the whole vocabulary.
    let (mut sorted, mut sum) = (0, 0.0);
    while sorted < order.len() {
        let head = (sorted * 8).clamp(64, order.len().max(64)).min(order.len());
        if head < order.len() {
            order[sorted..].select_nth_unstable_by(head - sorted, most_probable_first);
        }
        order[sorted..head].sort_unstable_by(most_probable_first);
        for index in sorted..head {
            sum += f64::from(weights[order[index].1 as usize]);
            if sum >= goal {
                order.truncate(index + 1);
                return true;
            }
        }
        sorted = head;
    }
    false
}

/// A logit that at least `k` tokens reach, so that few others need to be looked at; `None` when that is not
/// known.
///
/// It is the `k`-th largest of the largest logits of each stride: in each of those strides one token reaches
/// it.
fn floor_of(logits: &[f32], k: usize) -> Option<f32> {
    if k == 0 || k > logits.len() / STRIDE {
        return None;
    }
    let mut largest: Vec<f32> = logits.chunks(STRIDE).map(largest).collect();
    let (_, floor, _) = largest.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    (*floor > f32::NEG_INFINITY).then_some(*floor)
}

/// The largest number of a stride, in eight chains that the compiler can keep in one vector.
fn largest(stride: &[f32]) -> f32 {
    let mut chains = [f32::NEG_INFINITY; 8];
    for eight in stride.chunks(8) {
        let larger =
            |(chain, number): (&mut f32, &f32)| *chain = if number > chain { *number } else { *chain };
        chains.iter_mut().zip(eight).for_each(larger);
    }
    chains.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Keeps the `k` most probable entries, in any order.
fn keep_most_probable(order: &mut Vec<(f32, u32)>, k: usize) {
    if k < order.len() {
        if k > 0 {
            order.select_nth_unstable_by(k - 1, most_probable_first);
        }
        order.truncate(k);
    }
}

fn most_probable_first(a: &(f32, u32), b: &(f32, u32)) -> std::cmp::Ordering {
    // Not `total_cmp`: it would put -0 below 0, and those two are a tie.
    b.0.partial_cmp(&a.0).unwrap_or_else(|| b.0.total_cmp(&a.0)).then(a.1.cmp(&b.1))
}

/// A number in [0, 1) from 53 bits of a hash of both arguments: two rounds of splitmix64's finalizer. So two
/// sequences with one seed draw equal numbers at equal positions: from equal logits they take equal tokens,
/// and samples that are to differ need seeds that do.
fn uniform(seed: u64, position: u32) -> f64 {
    let hash = mix(mix(seed) ^ u64::from(position));
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;

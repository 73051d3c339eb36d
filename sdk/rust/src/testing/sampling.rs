//! A draw, by the rules of `wit/forward.wit`: the same parameters in the same order, though not the same numbers as
//! the server's.

use super::api::Error;
use super::api::forward::Sampling;
use super::model::mix;

/// The token drawn from logits; none when nothing is allowed.
pub(crate) fn draw(
    mut logits: Vec<f32>,
    sampling: &Sampling<'_>,
    position: u32,
) -> Result<Option<u32>, Error> {
    for (token, bias) in &sampling.logit_bias {
        logits[*token as usize] += bias;
    }
    for (token, [prompt, generated]) in sampling.counts.map(|counts| counts.counted()).unwrap_or_default() {
        let logit = &mut logits[token as usize];
        if prompt + generated > 0 {
            *logit *=
                if *logit > 0.0 { 1.0 / sampling.repetition_penalty } else { sampling.repetition_penalty };
        }
        if generated > 0 {
            *logit -= sampling.presence_penalty + sampling.frequency_penalty * generated as f32;
        }
    }
    for constraint in &sampling.constraints {
        let allowed = constraint.allowed()?;
        let forbidden = |token: usize| allowed[token / 32] >> (token % 32) & 1 == 0;
        let tokens = logits.iter_mut().enumerate().filter(|(token, _)| forbidden(*token));
        tokens.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
    }
    if let Some(allowed) = &sampling.allowed_tokens {
        let tokens = logits.iter_mut().zip(0..).filter(|(_, token)| !allowed.contains(token));
        tokens.for_each(|(logit, _)| *logit = f32::NEG_INFINITY);
    }
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.retain(|token| logits[*token as usize] > f32::NEG_INFINITY);
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    let Some(best) = order.first().copied() else { return Ok(None) };
    if sampling.temperature == 0.0 {
        return Ok(Some(best));
    }
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k as usize);
    }
    let weight =
        |token: u32| f64::from((logits[token as usize] - logits[best as usize]) / sampling.temperature).exp();
    order.retain(|token| weight(*token) >= f64::from(sampling.min_p));
    let whole: f64 = order.iter().map(|token| weight(*token)).sum();
    let (mut sum, mut kept) = (0.0, 0);
    while kept < order.len() && (kept == 0 || sum < whole * f64::from(sampling.top_p)) {
        sum += weight(order[kept]);
        kept += 1;
    }
    let random = mix(sampling.seed ^ u64::from(position).rotate_left(32)) >> 11;
    let mut left = random as f64 / (1u64 << 53) as f64 * sum;
    let drawn = order[..kept].iter().find(|token| {
        left -= weight(**token);
        left < 0.0
    });
    Ok(Some(*drawn.unwrap_or(&order[kept - 1])))
}

pub(crate) fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
    logits.iter().map(|logit| logit - most - sum.ln()).collect()
}

use std::sync::Arc;

use backend::{TokenCounts, TokenOrigin};

use super::*;

fn params() -> SamplingParams {
    SamplingParams { temperature: 1.0, ..SamplingParams::greedy() }
}

fn draw_at(logits: &[f32], params: &SamplingParams, position: u32) -> Option<u32> {
    params.check(logits.len() as u32).unwrap();
    draw(Isa::detect(), logits, params, position, &mut Scratch::default())
}

/// Every token that 2000 draws give, with its share.
fn shares(logits: &[f32], params: &SamplingParams) -> Vec<f64> {
    let mut counts = vec![0.0; logits.len()];
    (0..2000).for_each(|p| counts[draw_at(logits, params, p).unwrap() as usize] += 1.0 / 2000.0);
    counts
}

fn drawn(logits: &[f32], params: &SamplingParams) -> Vec<usize> {
    shares(logits, params).iter().enumerate().filter(|(_, s)| **s > 0.0).map(|(t, _)| t).collect()
}

/// Probabilities 0.1, 0.4, 0.2, 0.3.
fn four() -> Vec<f32> {
    [0.1_f32, 0.4, 0.2, 0.3].iter().map(|p| p.ln() + 3.0).collect()
}

#[test]
fn draws_follow_the_distribution_and_repeat_by_seed_and_position() {
    let logits = four();
    for (share, expected) in shares(&logits, &params()).iter().zip([0.1, 0.4, 0.2, 0.3]) {
        assert!((share - expected).abs() < 0.04, "{share} {expected}");
    }
    let seeded = SamplingParams { seed: 7, ..params() };
    let run = |p: &SamplingParams| (0..50).map(|i| draw_at(&logits, p, i)).collect::<Vec<_>>();
    assert_eq!(run(&seeded), run(&seeded));
    assert_ne!(run(&seeded), run(&params()));
}

#[test]
fn temperature_sharpens_and_zero_takes_the_lowest_of_the_best() {
    let sharp = shares(&four(), &SamplingParams { temperature: 0.5, ..params() });
    for (share, expected) in sharp.iter().zip([0.01 / 0.3, 0.16 / 0.3, 0.04 / 0.3, 0.09 / 0.3]) {
        assert!((share - expected).abs() < 0.04, "{sharp:?}");
    }
    assert_eq!(draw_at(&[1.0, 3.0, 3.0], &SamplingParams::greedy(), 0), Some(1));
    assert_eq!(draw_at(&[-0.0, 0.0], &SamplingParams::greedy(), 0), Some(0));
}

#[test]
fn truncations_keep_what_they_say() {
    let logits = four();
    assert_eq!(drawn(&logits, &SamplingParams { top_k: 2, ..params() }), [1, 3]);
    assert_eq!(drawn(&logits, &SamplingParams { min_p: 0.45, ..params() }), [1, 2, 3]);
    assert_eq!(drawn(&logits, &SamplingParams { top_p: 0.39, ..params() }), [1]);
    assert_eq!(drawn(&logits, &SamplingParams { top_p: 0.69, ..params() }), [1, 3]);
    assert_eq!(drawn(&logits, &SamplingParams { top_p: 0.89, ..params() }), [1, 2, 3]);
    // Top-p counts shares of what top-k left: 0.4 / 0.7 is over a half.
    assert_eq!(drawn(&logits, &SamplingParams { top_k: 2, top_p: 0.5, ..params() }), [1]);
    assert_eq!(drawn(&[1.0, 1.0, 1.0], &SamplingParams { top_k: 2, ..params() }), [0, 1]);
}

#[test]
fn top_p_over_a_large_flat_vocabulary_takes_the_lowest_ids() {
    let logits = vec![0.5; 5000];
    let drawn = drawn(&logits, &SamplingParams { top_p: 0.1, ..params() });
    assert!(drawn.len() > 450 && *drawn.last().unwrap() <= 500, "{}", drawn.len());
}

#[test]
fn bias_penalties_and_mask_come_before_truncation() {
    let logits = four();
    let biased = SamplingParams { logit_bias: vec![(0, 100.0), (1, f32::NEG_INFINITY)], ..params() };
    assert_eq!(drawn(&logits, &biased), [0]);
    let certain = SamplingParams { logit_bias: vec![(2, f32::MAX), (2, f32::MAX)], ..params() };
    assert_eq!(drawn(&logits, &certain), [2]);
    let masked = SamplingParams { allowed: Some([0b0101].into()), top_k: 1, ..params() };
    assert_eq!(drawn(&logits, &masked), [2]);
    let counts = |prompt: &[u32], generated: &[u32]| {
        let mut counts = TokenCounts::default();
        counts.add(prompt, TokenOrigin::Prompt);
        counts.add(generated, TokenOrigin::Generated);
        Some(Arc::new(counts))
    };
    let after = |counts, f: &dyn Fn(&mut SamplingParams)| {
        let mut params = SamplingParams { counts, ..SamplingParams::greedy() };
        f(&mut params);
        draw_at(&logits, &params, 0).unwrap()
    };
    let greedy = |generated: &[u32], f: &dyn Fn(&mut SamplingParams)| after(counts(&[], generated), f);
    assert_eq!(greedy(&[1], &|p| p.repetition_penalty = 2.0), 3);
    assert_eq!(greedy(&[1, 3], &|p| p.presence_penalty = 1.0), 2);
    assert_eq!(greedy(&[1, 1, 3], &|p| p.frequency_penalty = 0.3), 3);
    // Of a prompt only the repetition penalty sees anything.
    let prompt = |f: &dyn Fn(&mut SamplingParams)| after(counts(&[1, 1, 1], &[]), f);
    assert_eq!(prompt(&|p| p.repetition_penalty = 2.0), 3);
    assert_eq!(prompt(&|p| (p.presence_penalty, p.frequency_penalty) = (9.0, 9.0)), 1);
    assert_eq!(
        draw_at(
            &[-1.0, -1.5],
            &SamplingParams {
                counts: counts(&[], &[0]),
                repetition_penalty: 2.0,
                ..SamplingParams::greedy()
            },
            0
        ),
        Some(1)
    );
}

#[test]
fn nothing_allowed_is_said() {
    let logits = four();
    for temperature in [0.0, 1.0] {
        let masked = SamplingParams { allowed: Some([0].into()), temperature, ..params() };
        assert_eq!(draw_at(&logits, &masked, 0), None);
        let mut both = SamplingParams { allowed: Some([0b10].into()), temperature, ..params() };
        both.logit_bias.push((1, f32::NEG_INFINITY));
        assert_eq!(draw_at(&logits, &both, 0), None);
    }
}

#[test]
fn values_at_temperature_one() {
    let logits = four();
    let distribution = Distribution::new(Isa::detect(), &logits);
    let answer = |kind| distribution.answer(&kind, 0, &mut Scratch::default());
    let Value::TopK(top) = answer(OutputKind::TopK(3)) else { panic!() };
    assert_eq!(top.iter().map(|t| t.token).collect::<Vec<_>>(), [1, 3, 2]);
    assert!((top[0].log_prob - 0.4_f32.ln()).abs() < 1e-5);
    let Value::TopK(all) = answer(OutputKind::TopK(99)) else { panic!() };
    assert_eq!(all.len(), 4);
    assert_eq!(answer(OutputKind::TopK(0)), Value::TopK(vec![]));
    let Value::LogProbs(log_probs) = answer(OutputKind::LogProbs(vec![0, 0])) else { panic!() };
    assert!((log_probs[1] - 0.1_f32.ln()).abs() < 1e-5);
    let Value::Entropy(entropy) = answer(OutputKind::Entropy) else { panic!() };
    let expected: f32 = [0.1_f32, 0.4, 0.2, 0.3].iter().map(|p| -p * p.ln()).sum();
    assert!((entropy - expected).abs() < 1e-5);
    assert_eq!(answer(OutputKind::Logits), Value::Logits(logits.clone()));
    let biased = SamplingParams { logit_bias: vec![(0, 100.0)], ..params() };
    let Value::Token(token) = answer(OutputKind::Token(biased)) else { panic!() };
    assert_eq!(token.token, 0);
    assert!((token.log_prob - 0.1_f32.ln()).abs() < 1e-5, "the log-probability is the model's own");
}

/// Numbers that look like logits: a few large ones, ties, and some that are not allowed.
fn many(seed: u64, count: usize) -> Vec<f32> {
    let number = |i: usize| (mix(seed ^ i as u64) % 4000) as f32 / 250.0;
    let logit = |i: usize| match i % 13 {
        0 => f32::NEG_INFINITY,
        1 => number(i / 26),
        _ => number(i).powi(2) / 16.0 - 8.0,
    };
    (0..count).map(logit).collect()
}

/// The tokens that the definitions keep, by sorting everything, in f64.
fn kept_by_definition(logits: &[f32], params: &SamplingParams) -> Vec<usize> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |token: usize| (f64::from(logits[token] - max) / f64::from(params.temperature)).exp();
    let mut tokens: Vec<usize> = (0..logits.len()).filter(|t| logits[*t].is_finite()).collect();
    tokens.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    if params.top_k > 0 {
        tokens.truncate(params.top_k as usize);
    }
    tokens.retain(|t| weight(*t) >= f64::from(params.min_p));
    let goal = f64::from(params.top_p) * tokens.iter().map(|t| weight(*t)).sum::<f64>();
    let mut sum = 0.0;
    let enough = tokens.iter().position(|token| {
        sum += weight(*token);
        sum >= goal
    });
    tokens.truncate(enough.filter(|_| params.top_p < 1.0).map_or(tokens.len(), |last| last + 1));
    tokens.sort_unstable();
    tokens
}

#[test]
fn a_large_vocabulary_is_cut_as_the_definitions_say() {
    for (seed, count) in [(1, 5000), (2, 4999), (3, 49152), (4, 70)] {
        let logits = many(seed, count);
        for (top_k, top_p, min_p, temperature) in [
            (40, 1.0, 0.0, 1.0),
            (0, 0.95, 0.0, 1.0),
            (0, 0.5, 0.0, 3.0),
            (0, 0.3, 0.0, 0.3),
            (0, 0.9, 0.0, 0.4),
            (0, 0.999, 0.0, 0.7),
            (50, 0.9, 0.0, 1.0),
            (0, 1.0, 0.05, 1.0),
            (0, 0.9, 0.02, 2.0),
            (200, 0.8, 0.01, 1.5),
            (1, 0.1, 0.9, 0.2),
        ] {
            let params = SamplingParams { top_k, top_p, min_p, temperature, ..params() };
            let mut weights = logits.clone();
            let max = ops::max(Isa::detect(), &logits);
            ops::exp_scaled(Isa::detect(), &mut weights, max, temperature);
            let mut order = Vec::new();
            truncate(&logits, &weights, &params, &mut order);
            let mut found: Vec<usize> = order.iter().map(|(_, token)| *token as usize).collect();
            found.sort_unstable();
            assert_eq!(found, kept_by_definition(&logits, &params), "{count} {params:?}");
        }
        for k in [1, 7, 32, 76, 77, 1000] {
            let distribution = Distribution::new(Isa::detect(), &logits);
            let top = distribution.answer(&OutputKind::TopK(k), 0, &mut Scratch::default());
            let Value::TopK(top) = top else { panic!() };
            let mut sorted: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
            sorted.sort_by(most_probable_first);
            let expected: Vec<u32> = sorted.iter().take(k as usize).map(|(_, token)| *token).collect();
            assert_eq!(top.iter().map(|t| t.token).collect::<Vec<_>>(), expected, "{k} of {count}");
        }
    }
}

#[test]
fn a_draw_of_all_is_where_the_running_sum_passes() {
    for (seed, count) in [(5, 3), (6, 64), (7, 1000), (8, 49152)] {
        let logits = many(seed, count);
        let mut weights = logits.clone();
        ops::exp_scaled(Isa::detect(), &mut weights, ops::max(Isa::detect(), &logits), 1.0);
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        for step in 0..200 {
            let part = f64::from(step) / 200.0;
            let token = draw_of_all(&weights, part).unwrap() as usize;
            let before: f64 = weights[..token].iter().map(|w| f64::from(*w)).sum();
            let after = before + f64::from(weights[token]);
            assert!(weights[token] > 0.0);
            assert!(before - 1e-9 * total <= part * total && part * total <= after + 1e-9 * total);
        }
        assert_eq!(draw_of_all(&weights, 1.0), weights.iter().rposition(|w| *w > 0.0).map(|t| t as u32));
    }
    assert_eq!(draw_of_all(&[0.0; 100], 0.5), None);
}

#[test]
fn a_mask_forbids_exactly_the_tokens_without_a_bit() {
    let logits = many(11, 3 * 32 + 5);
    for seed in 0..400 {
        // Words of every density, and masks that end early.
        let word = |i: u64| match mix(seed * 8 + i) % 5 {
            0 => 0,
            1 => u32::MAX,
            2 => 1 << (mix(seed + i) % 32),
            3 => !(1 << (mix(seed + i) % 32)),
            _ => mix(seed ^ i << 9) as u32,
        };
        let words: Vec<u32> = (0..mix(seed) % 5).map(word).collect();
        let allowed = |token: usize| words.get(token / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
        let expected: Vec<f32> =
            (0..logits.len()).map(|t| if allowed(t) { logits[t] } else { f32::NEG_INFINITY }).collect();
        let mut found = logits.clone();
        adjust(&mut found, &SamplingParams { allowed: Some(words.clone().into()), ..params() });
        assert_eq!(found, expected, "{words:x?}");
    }
}

#[test]
fn a_draw_of_the_few_that_a_mask_allows_is_that_of_all_others_forbidden() {
    let logits = many(12, 4096);
    for seed in 0..60_u64 {
        let word = |i: u64| {
            if mix(seed * 131 + i).is_multiple_of(9) { mix(seed ^ i << 7) as u32 & 0x0101_1111 } else { 0 }
        };
        let words: Vec<u32> = (0..140).map(word).collect();
        for (temperature, top_k, top_p) in [(0.0, 0, 1.0), (1.0, 0, 1.0), (0.8, 5, 1.0), (1.3, 0, 0.7)] {
            let masked = SamplingParams {
                allowed: Some(words.clone().into()),
                temperature,
                top_k,
                top_p,
                seed,
                ..params()
            };
            let mut forbidden = logits.clone();
            adjust(&mut forbidden, &masked);
            let plain = SamplingParams { allowed: None, ..masked.clone() };
            assert!(draw_of_few(Isa::detect(), &logits, &masked, 3, &mut Scratch::default()).is_some());
            assert_eq!(draw_at(&logits, &masked, 3), draw_at(&forbidden, &plain, 3), "{masked:?}");
        }
    }
}

use super::*;

fn params() -> SamplingParams {
    SamplingParams { temperature: 1.0, ..SamplingParams::greedy() }
}

fn draw_at(logits: &[f32], params: &SamplingParams, position: u32) -> Option<u32> {
    check(&OutputKind::Token(params.clone()), logits.len() as u32).unwrap();
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
    let certain = SamplingParams { logit_bias: vec![(2, f32::INFINITY)], ..params() };
    assert_eq!(drawn(&logits, &certain), [2]);
    let masked = SamplingParams { allowed: Some([0b0101].into()), top_k: 1, ..params() };
    assert_eq!(drawn(&logits, &masked), [2]);
    let greedy = |history: &[u32], f: &dyn Fn(&mut SamplingParams)| {
        let mut params = SamplingParams { history: history.to_vec(), ..SamplingParams::greedy() };
        f(&mut params);
        draw_at(&logits, &params, 0).unwrap()
    };
    assert_eq!(greedy(&[1], &|p| p.repetition_penalty = 2.0), 3);
    assert_eq!(greedy(&[1, 3], &|p| p.presence_penalty = 1.0), 2);
    assert_eq!(greedy(&[1, 1, 3], &|p| p.frequency_penalty = 0.3), 3);
    assert_eq!(
        draw_at(
            &[-1.0, -1.5],
            &SamplingParams { history: vec![0], repetition_penalty: 2.0, ..SamplingParams::greedy() },
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
        // A mask may be shorter than a padded vocabulary: what it does not name is not allowed.
        let short = SamplingParams { allowed: Some([].into()), temperature, ..params() };
        assert_eq!(draw_at(&logits, &short, 0), None);
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

#[test]
fn parameters_outside_their_range_are_refused() {
    let refused = |f: &dyn Fn(&mut SamplingParams)| {
        let mut params = params();
        f(&mut params);
        check(&OutputKind::Token(params), 4).unwrap_err()
    };
    assert!(refused(&|p| p.temperature = -1.0).contains("temperature is -1"));
    refused(&|p| p.temperature = f32::NAN);
    refused(&|p| p.top_p = 0.0);
    refused(&|p| p.min_p = 1.5);
    refused(&|p| p.repetition_penalty = 0.0);
    refused(&|p| p.presence_penalty = f32::INFINITY);
    refused(&|p| p.history = vec![4]);
    refused(&|p| p.logit_bias = vec![(9, 0.0)]);
    assert!(check(&OutputKind::LogProbs(vec![4]), 4).is_err());
}

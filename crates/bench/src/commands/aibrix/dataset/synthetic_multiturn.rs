//! `synthetic_multiturn`: made-up sessions with prompts of heavy-tailed lengths.
//!
//! Lengths are of a Pareto distribution with the mean and the deviation that are asked for. With `r = deviation / mean`
//! its exponent is `1 + sqrt(1 + 1 / r^2)` and its least value `mean (exponent - 1) / exponent`. (AIBrix takes
//! `2 + 1 / r^2`, which has the mean and not the deviation.)

use fastrand::Rng;

use super::Spec;
use crate::commands::aibrix::config::Config;
use crate::commands::aibrix::rows::{Prompts, SessionRow};
use crate::dataset::text;
use crate::dataset::tokens::Tokens;
use crate::draw;
use crate::metrics::Distribution;

pub(super) const SPEC: Spec = Spec { name: "synthetic_multiturn", make };

/// A length in tokens, 1 or more.
fn length(rng: &mut Rng, mean: f64, deviation: f64) -> u32 {
    if deviation == 0.0 {
        return mean.round().max(1.0) as u32;
    }
    let exponent = 1.0 + (1.0 + (mean / deviation).powi(2)).sqrt();
    let least = mean * (exponent - 1.0) / exponent;
    (draw::pareto(rng, exponent) * least).round().clamp(1.0, 1e6) as u32
}

fn make(config: &Config, tokens: &Tokens, rng: &mut Rng, notes: &mut Vec<String>) -> anyhow::Result<Prompts> {
    let key = |name: &str| format!("dataset_configs.synthetic_multiturn.{name}");
    let (mean, deviation) = (config.positive(&key("prompt_length"))?, config.number(&key("prompt_std"))?);
    let turns = (config.positive(&key("num_turns"))?, config.number(&key("num_turns_std"))?);
    let count = (config.positive(&key("num_sessions"))?, config.number(&key("num_sessions_std"))?);
    let shared = config.count(&key("shared_prefix_length"))?.min(1_000_000) as u32;
    let prefix = text::make(rng, tokens, shared)?;
    let sessions = draw::normal(rng, count.0, count.1).floor().max(1.0) as usize;
    let mut made = Vec::with_capacity(sessions);
    let (mut lengths, mut turns_of) = (Vec::new(), Vec::new());
    for session in 0..sessions {
        let turns = draw::normal(rng, turns.0, turns.1).floor().max(1.0) as usize;
        let mut prompts = Vec::with_capacity(turns);
        for turn in 0..turns {
            let length = length(rng, mean, deviation);
            let own = text::make(rng, tokens, length)?;
            let begins_alike = turn == 0 && shared > 0;
            lengths.push(f64::from(length + if begins_alike { shared } else { 0 }));
            prompts.push(if begins_alike { format!("{prefix} {own}") } else { own });
        }
        turns_of.push(turns as f64);
        made.push(SessionRow { session_id: session.into(), prompts, completions: None });
    }
    for (name, values) in [("tokens of prompts", lengths), ("prompts of sessions", turns_of)] {
        let values = Distribution::new(values);
        let shown = [10.0, 25.0, 50.0, 75.0, 90.0, 99.0].map(|p| {
            let value = values.percentile(p).unwrap_or_default();
            format!("p{p} {value:.0}")
        });
        notes.push(format!("{name}: {}", shown.join(", ")));
    }
    Ok(Prompts::Sessions(made))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_the_mean_and_the_deviation_that_are_asked_for() {
        let mut rng = Rng::with_seed(3);
        // A mild tail, so that 100 000 draws show its deviation.
        let drawn = Distribution::new((0..100_000).map(|_| f64::from(length(&mut rng, 1000.0, 250.0))));
        assert!((drawn.mean().unwrap() - 1000.0).abs() < 10.0, "{:?}", drawn.mean());
        assert!((drawn.std_sample().unwrap() - 250.0).abs() < 25.0, "{:?}", drawn.std_sample());
        assert_eq!(length(&mut rng, 80.0, 0.0), 80);
    }
}

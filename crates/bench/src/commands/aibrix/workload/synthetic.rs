//! `synthetic`: a rate and lengths that follow patterns.

use super::patterns::Pattern;
use super::process::{self, Series};
use super::{Making, Spec};
use crate::commands::aibrix::rows::Group;

pub(super) const SPEC: Spec = Spec { name: "synthetic", make };

/// What follows a pattern: the keys of its preset and of its file, the mean of its preset, its least value.
const FOLLOWERS: [(&str, &str, f64, f64); 3] = [
    ("traffic_pattern", "traffic_file", 6.0, 0.0),
    ("prompt_len_pattern", "prompt_len_file", 1024.0, 1.0),
    ("completion_len_pattern", "completion_len_file", 1024.0, 1.0),
];

fn make(making: &mut Making<'_>) -> anyhow::Result<Vec<Group>> {
    let config = making.config;
    let key = |name: &str| format!("workload_configs.synthetic.{name}");
    let (duration, interval) = (making.duration_ms()?, making.interval_ms()?);
    let preset = config.flag(&key("use_preset_pattern"))?;
    let mut values = Vec::new();
    for (pattern, file, mean, least) in FOLLOWERS {
        let pattern = if preset {
            Pattern::preset(&config.text(&key(&format!("preset_patterns.{pattern}")))?, mean, duration)?
        } else {
            Pattern::file(&config.text(&key(&format!("pattern_files.{file}")))?)?
        };
        values.push(pattern.values(duration, interval, least, &mut making.rng));
    }
    let (output, input, mut rates) = (values.pop(), values.pop(), values.pop().unwrap_or_default());
    // The value of the last moment begins an interval that is no more of the workload.
    rates.pop();
    let sessions = config.count(&key("max_concurrent_sessions"))?.max(1) as usize;
    process::fill(making, Series { interval_ms: interval, rates, input, output, sessions })
}

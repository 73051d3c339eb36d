//! Rates and lengths that go up and down: `fluctuate sin(omega t) + mean + noise`, rounded.

use std::path::Path;

use anyhow::Context;
use fastrand::Rng;
use serde::Deserialize;

use crate::draw;

/// A pattern.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(super) struct Pattern {
    /// Height of the wave.
    pub(super) fluctuate: f64,
    /// What it goes about.
    pub(super) mean: f64,
    /// Standard deviation of what is added.
    pub(super) noise: f64,
    /// Length of a wave in milliseconds.
    pub(super) period_len_ms: f64,
    /// Whether it never falls.
    #[serde(default)]
    pub(super) only_rise: bool,
}

/// The presets: name, height over the mean, waves in the whole workload, whether it never falls.
const PRESETS: [(&str, f64, f64, bool); 5] = [
    ("quick_rising", 0.5, 5.0, true),
    ("slow_rising", 0.5, 0.25, true),
    ("slight_fluctuation", 0.1, 1.0, false),
    ("severe_fluctuation", 0.5, 12.0, false),
    ("constant", 0.0, 1.0, false),
];

/// Noise of every preset.
const PRESET_NOISE: f64 = 0.1;

/// The patterns that AIBrix has as files: name, mean, high and low waves, fast and slow periods in milliseconds. Their
/// noise is that of the presets.
const NAMED: [(&str, f64, [f64; 2], [f64; 2]); 3] = [
    ("traffic", 12.0, [3.6, 1.08], [120_000.0, 840_000.0]),
    ("prompt-len", 1024.0, [696.0, 174.0], [90_000.0, 120_000.0]),
    ("completion-len", 43.0, [34.0, 7.1], [120_000.0, 300_000.0]),
];

impl Pattern {
    /// A preset about `mean`, for a workload of this length.
    ///
    /// # Errors
    /// For an unknown name.
    pub(super) fn preset(name: &str, mean: f64, duration_ms: f64) -> anyhow::Result<Self> {
        let preset = PRESETS.iter().find(|(preset, ..)| *preset == name).with_context(|| {
            format!("found pattern `{name}`, expected one of {}", PRESETS.map(|preset| preset.0).join(", "))
        })?;
        let (_, height, waves, only_rise) = *preset;
        let (fluctuate, period_len_ms) = (height * mean, duration_ms / waves);
        Ok(Self { fluctuate, mean, noise: PRESET_NOISE, period_len_ms, only_rise })
    }

    /// One of a file, or one of AIBrix's by its name: `traffic-HighSlow`.
    ///
    /// # Errors
    /// When there is no such file or it is no pattern.
    pub(super) fn file(path: &str) -> anyhow::Result<Self> {
        for (name, mean, waves, periods) in NAMED {
            for (wave, height) in ["High", "Low"].into_iter().zip(waves) {
                for (period, length) in ["Fast", "Slow"].into_iter().zip(periods) {
                    if path == format!("{name}-{wave}{period}") {
                        let (fluctuate, period_len_ms) = (height, length);
                        let noise = PRESET_NOISE;
                        return Ok(Self { fluctuate, mean, noise, period_len_ms, only_rise: false });
                    }
                }
            }
        }
        let text =
            std::fs::read_to_string(Path::new(path)).with_context(|| format!("cannot read `{path}`"))?;
        let pattern: Self = serde_json::from_str(&text).with_context(|| format!("`{path}`"))?;
        let numbers = [pattern.fluctuate, pattern.mean, pattern.noise, pattern.period_len_ms];
        let good = numbers.iter().all(|number| number.is_finite())
            && pattern.noise >= 0.0
            && pattern.period_len_ms > 0.0;
        anyhow::ensure!(
            good,
            "`{path}`: found {pattern:?}, expected numbers, a noise of 0 or more and a period above 0"
        );
        Ok(pattern)
    }

    /// A value for each interval, not below `least`.
    pub(super) fn values(&self, duration_ms: f64, interval_ms: f64, least: f64, rng: &mut Rng) -> Vec<f64> {
        let count = (duration_ms / interval_ms).floor() as usize + 1;
        let omega = std::f64::consts::TAU * (duration_ms / self.period_len_ms) / count as f64;
        let mut highest = f64::NEG_INFINITY;
        let value = |index: usize| {
            let wave = self.fluctuate * (omega * index as f64).sin() + self.mean;
            let value = draw::normal(rng, wave, self.noise).round().max(least);
            highest = highest.max(value);
            if self.only_rise { highest } else { value }
        };
        (0..count).map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_the_waves_that_they_are_called_after() {
        let mut rng = Rng::with_seed(1);
        let mut values =
            |name| Pattern::preset(name, 100.0, 60_000.0).unwrap().values(60_000.0, 1000.0, 0.0, &mut rng);
        assert!(values("constant").iter().all(|value| *value == 100.0));
        let rising = values("slow_rising");
        assert_eq!(rising.len(), 61);
        assert!(
            rising.windows(2).all(|pair| pair[0] <= pair[1]) && rising[0] == 100.0 && rising[60] == 150.0
        );
        let severe = values("severe_fluctuation");
        let tops = severe.windows(3).filter(|v| v[1] > v[0] && v[1] >= v[2] && v[1] > 140.0).count();
        assert_eq!(tops, 12, "{severe:?}");
        assert!(Pattern::preset("wild", 1.0, 1.0).is_err());
        let named = Pattern::file("traffic-LowFast").unwrap();
        assert_eq!((named.mean, named.fluctuate, named.period_len_ms), (12.0, 1.08, 120_000.0));
    }
}

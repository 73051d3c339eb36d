//! Figures of values that are not kept: a histogram with three digits, of a fixed size however many there are.

use hdrhistogram::Histogram;

/// Times up to a day, to a thousandth of themselves.
#[derive(Clone, Debug)]
pub struct Streaming {
    histogram: Histogram<u64>,
}

/// Largest time: a day, in microseconds.
const LIMIT_US: u64 = 86_400_000_000;

impl Default for Streaming {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LIMIT_US, 3);
        Self { histogram: histogram.unwrap_or_else(|error| panic!("the bounds are constants: {error}")) }
    }
}

impl Streaming {
    /// Adds a time in seconds.
    pub fn record(&mut self, seconds: f64) {
        self.histogram.saturating_record((seconds * 1e6) as u64);
    }

    /// A percentile in seconds, 0 to 100; `None` without values.
    pub fn percentile(&self, p: f64) -> Option<f64> {
        (!self.histogram.is_empty()).then(|| self.histogram.value_at_quantile(p / 100.0) as f64 / 1e6)
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }
}

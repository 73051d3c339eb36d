//! How often values were in which range.
//!
//! A value belongs to the first range whose bound it does not exceed; the last range has no bound. The bounds are fixed,
//! so that observing is a search among a few numbers and one addition.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounds for times: from half a millisecond, a step of a small model, to a quarter of an hour.
pub const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0,
    250.0, 1000.0,
];

/// Bounds for rows of a batch.
pub const ROWS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0];

/// Ranges of a histogram at most, the last one included.
const RANGES: usize = 20;

/// A histogram of one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: [u64; RANGES],
    sum: f64,
}

impl Histogram {
    /// An empty one with these bounds, which ascend.
    pub fn new(bounds: &'static [f64]) -> Histogram {
        check(bounds);
        Histogram { bounds, counts: [0; RANGES], sum: 0.0 }
    }

    /// Counts a value.
    pub fn observe(&mut self, value: f64) {
        self.counts[range(self.bounds, value)] += 1;
        self.sum += value;
    }

    /// Its numbers.
    pub fn distribution(&self) -> Distribution {
        let counts = self.counts[..=self.bounds.len()].to_vec();
        Distribution { bounds: self.bounds.to_vec(), counts, sum: self.sum }
    }
}

/// A histogram of times that several threads add to, without a lock. A reading taken meanwhile may have a value in its
/// counts and not in its sum yet.
#[derive(Debug)]
pub struct SharedHistogram {
    bounds: &'static [f64],
    counts: [AtomicU64; RANGES],
    nanoseconds: AtomicU64,
}

impl SharedHistogram {
    /// An empty one with these bounds in seconds, which ascend.
    pub fn new(bounds: &'static [f64]) -> SharedHistogram {
        check(bounds);
        SharedHistogram { bounds, counts: Default::default(), nanoseconds: AtomicU64::new(0) }
    }

    /// Counts a time.
    pub fn observe(&self, time: Duration) {
        self.counts[range(self.bounds, time.as_secs_f64())].fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Its numbers.
    pub fn distribution(&self) -> Distribution {
        let counts = self.counts[..=self.bounds.len()].iter().map(|count| count.load(Ordering::Relaxed));
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        Distribution { bounds: self.bounds.to_vec(), counts: counts.collect(), sum }
    }
}

fn check(bounds: &[f64]) {
    assert!(bounds.len() < RANGES, "a histogram has at most {RANGES} ranges");
    assert!(bounds.is_sorted(), "bounds ascend: {bounds:?}");
}

/// The range of a value.
fn range(bounds: &[f64], value: f64) -> usize {
    bounds.partition_point(|bound| *bound < value)
}

/// The numbers of a histogram at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Upper bounds of all ranges but the last, which has none.
    pub bounds: Vec<f64>,
    /// Values in each range.
    pub counts: Vec<u64>,
    /// All values together.
    pub sum: f64,
}

impl Distribution {
    /// Values counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The mean; none without values.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum / count as f64)
    }

    /// The value below which this part of all is, as if they were spread evenly within each range; none without values.
    /// Beyond the last bound it is that bound.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let wanted = part * self.count() as f64;
        let mut before = 0.0;
        for (at, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if before + count < wanted {
                before += count;
                continue;
            }
            let low = at.checked_sub(1).and_then(|below| self.bounds.get(below)).copied().unwrap_or(0.0);
            let high = self.bounds.get(at).copied().unwrap_or(low);
            return Some(low + (high - low) * ((wanted - before) / count).clamp(0.0, 1.0));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_range_whose_bound_it_does_not_exceed() {
        let mut one = Histogram::new(SECONDS);
        let shared = SharedHistogram::new(SECONDS);
        let times = [0.0, 0.0005, 0.000_500_1, 0.7, 1000.0, 1001.0];
        for time in times {
            one.observe(time);
            shared.observe(Duration::from_secs_f64(time));
        }
        let (one, shared) = (one.distribution(), shared.distribution());
        assert_eq!(one.counts, shared.counts);
        assert!((one.sum - shared.sum).abs() < 1e-6, "{} {}", one.sum, shared.sum);
        let of = |bound: f64| one.counts[SECONDS.iter().position(|b| *b == bound).unwrap()];
        assert_eq!((of(0.0005), of(0.001), of(1.0), of(1000.0), one.counts.last()), (2, 1, 1, 1, Some(&1)));
        assert_eq!(one.count(), times.len() as u64);
    }

    #[test]
    fn quantiles_are_within_their_range() {
        let mut histogram = Histogram::new(&[1.0, 2.0, 4.0]);
        assert_eq!((histogram.distribution().quantile(0.5), histogram.distribution().mean()), (None, None));
        [1.5; 8].iter().chain(&[3.0; 2]).for_each(|value| histogram.observe(*value));
        let distribution = histogram.distribution();
        assert_eq!(distribution.quantile(0.5), Some(1.0 + 5.0 / 8.0));
        assert_eq!(distribution.quantile(0.95), Some(3.5));
        assert_eq!(distribution.mean(), Some(1.8));
        let mut beyond = Histogram::new(&[1.0]);
        beyond.observe(9.0);
        assert_eq!(beyond.distribution().quantile(0.5), Some(1.0));
    }
}

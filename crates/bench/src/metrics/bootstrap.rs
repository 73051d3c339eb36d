//! How sure a figure is: intervals by drawing again from the values that were measured.

use fastrand::Rng;

use super::{Distribution, linear};

/// A figure and the interval in which it lies with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The figure.
    pub value: f64,
    /// The interval's low end.
    pub low: f64,
    /// The interval's high end.
    pub high: f64,
}

/// How often values are drawn again: enough for two digits of a 95 % interval.
const DRAWS: usize = 1000;
/// Above so many values fewer draws suffice, as the interval is narrow; it keeps the work below a second.
const WORK: usize = 20_000_000;

/// The interval of a percentile, 0 to 100. `None` for fewer than 2 values.
///
/// The order statistic of a new sample is drawn directly: its rank among the old values is that of a uniform order
/// statistic, a beta draw made of two gamma draws. So a draw takes no sorting.
pub fn of_percentile(values: &Distribution, p: f64, seed: u64) -> Option<Interval> {
    let sorted = values.sorted();
    if sorted.len() < 2 {
        return None;
    }
    let mut rng = Rng::with_seed(seed);
    let n = sorted.len() as f64;
    let at = (p / 100.0).clamp(0.0, 1.0) * (n - 1.0);
    let (below, above) = (at + 1.0, n - at);
    let drawn = (0..DRAWS).map(|_| {
        let (a, b) = (crate::draw::gamma(&mut rng, below, 1.0), crate::draw::gamma(&mut rng, above, 1.0));
        sorted[((a / (a + b) * n) as usize).min(sorted.len() - 1)]
    });
    let drawn = Distribution::new(drawn.collect::<Vec<_>>());
    Some(Interval { value: linear(sorted, p)?, low: drawn.percentile(2.5)?, high: drawn.percentile(97.5)? })
}

/// The interval of the median.
pub fn of_median(values: &Distribution, seed: u64) -> Option<Interval> {
    of_percentile(values, 50.0, seed)
}

/// The interval of the mean.
pub fn of_mean(values: &Distribution, seed: u64) -> Option<Interval> {
    let sorted = values.sorted();
    if sorted.len() < 2 {
        return None;
    }
    let mut rng = Rng::with_seed(seed);
    let draws = DRAWS.min(WORK / sorted.len()).max(100);
    let mut mean = || {
        let sum: f64 = (0..sorted.len()).map(|_| sorted[rng.usize(..sorted.len())]).sum();
        sum / sorted.len() as f64
    };
    let drawn = Distribution::new((0..draws).map(|_| mean()).collect::<Vec<_>>());
    Some(Interval { value: values.mean()?, low: drawn.percentile(2.5)?, high: drawn.percentile(97.5)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_the_truth_as_often_as_they_say() {
        let mut rng = Rng::with_seed(11);
        let (mut medians, mut p90s, mut means) = (0, 0, 0);
        for round in 0..400 {
            let values: Vec<f64> = (0..200).map(|_| crate::draw::exponential(&mut rng, 1.0)).collect();
            let values = Distribution::new(values);
            let holds =
                |interval: Interval, truth: f64| usize::from((interval.low..=interval.high).contains(&truth));
            medians += holds(of_median(&values, round).unwrap(), 2f64.ln());
            p90s += holds(of_percentile(&values, 90.0, round).unwrap(), 10f64.ln());
            if round < 100 {
                means += holds(of_mean(&values, round).unwrap(), 1.0);
            }
        }
        // 95 % of 400 is 380, give or take 9.
        assert!((360..=397).contains(&medians), "{medians} of 400");
        assert!((360..=397).contains(&p90s), "{p90s} of 400");
        assert!((86..=100).contains(&means), "{means} of 100");
    }
}

//! A rate for each interval, as a monitoring system records it. The list comes from a program, not from the text.

use super::parameters::SECS;
use super::{Spec, thinned};

pub(super) const SPEC: Spec = Spec {
    name: "series",
    form: "series:SECS,RATExSECS,..",
    about: "Poisson with a rate for each interval, from a list of rates",
    first: "interval",
    values: &[("interval", Some(1.0), SECS)],
    rate: |values| {
        let secs: f64 = values.list.iter().map(|(_, secs)| secs).sum();
        let requests: f64 = values.list.iter().map(|(rate, secs)| rate * secs).sum();
        (secs > 0.0).then(|| requests / secs)
    },
    moments: |values, asked, rng| {
        in_stages(&values.list, asked.count, |count, highest, end, rate| {
            thinned(count, highest, Some(end), rng, rate)
        })
    },
};

/// Moments of stages, by a function that thins arrivals of the highest rate until the end of the last stage.
pub(super) fn in_stages(
    stages: &[(f64, f64)],
    count: usize,
    thin: impl FnOnce(usize, f64, f64, &dyn Fn(f64) -> f64) -> Vec<f64>,
) -> Vec<f64> {
    let mut ends = Vec::with_capacity(stages.len());
    let mut end = 0.0;
    for (rate, secs) in stages {
        end += secs;
        ends.push((end, *rate));
    }
    let highest = stages.iter().map(|(rate, _)| *rate).fold(0.0, f64::max);
    if highest <= 0.0 {
        return Vec::new();
    }
    let rate = |at: f64| {
        let stage = ends.partition_point(|(end, _)| *end <= at);
        ends.get(stage).map_or(0.0, |(_, rate)| *rate)
    };
    thin(count, highest, end, &rate)
}

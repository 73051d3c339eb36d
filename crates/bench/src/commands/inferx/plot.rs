//! `throughput_latency.png`: throughput against percentiles of latency, a point for each window of a second.

use std::collections::BTreeMap;

use super::row::Row;
use crate::metrics::Distribution;
use crate::report::chart::{Figure, Line, Lines, Plot};

/// Seconds of a window.
const WINDOW_SECS: f64 = 1.0;

/// Latencies by throughput: answers that ended in windows with equally many, together. Windows begin with the first
/// end. The latency is that to the first chunk, as InferX has it.
pub(super) fn windows(rows: &[Row]) -> BTreeMap<usize, Distribution> {
    let ended = rows.iter().filter(|row| row.is_complete());
    let ended: Vec<(f64, f64)> = ended.filter_map(|row| Some((row.end_time?, row.ttft()?))).collect();
    let start = ended.iter().map(|(end, _)| *end).fold(f64::INFINITY, f64::min);
    let mut seconds = BTreeMap::<u64, Vec<f64>>::new();
    for (end, latency) in ended {
        seconds.entry(((end - start) / WINDOW_SECS) as u64).or_default().push(latency);
    }
    let mut by_count = BTreeMap::<usize, Vec<f64>>::new();
    for latencies in seconds.into_values() {
        by_count.entry(latencies.len()).or_default().extend(latencies);
    }
    by_count.into_iter().map(|(count, latencies)| (count, Distribution::new(latencies))).collect()
}

/// The chart.
pub(super) fn chart(rows: &[Row]) -> Figure {
    let windows = windows(rows);
    let line = |name: &str, p| {
        let point = |(count, latencies): (&usize, &Distribution)| {
            Some((*count as f64 / WINDOW_SECS, latencies.percentile(p)?.into()))
        };
        Line { name: name.into(), points: windows.iter().filter_map(point).collect() }
    };
    let lines = Lines {
        x_label: "Throughput (requests/sec)".into(),
        y_label: "Latency (s)".into(),
        lines: vec![line("p50 latency", 50.0), line("p90 latency", 90.0), line("p99 latency", 99.0)],
    };
    Figure::of("Throughput vs Latency", Plot::Lines(lines))
}

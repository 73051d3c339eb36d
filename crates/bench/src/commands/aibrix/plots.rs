//! The plots: a workload, and what the client saw, by time.

use std::collections::BTreeMap;
use std::path::Path;

use super::rows::{Group, OutputRow, Request};
use crate::metrics::Distribution;
use crate::report::chart::{Format, Panel, Panels, Theme, render};
use crate::report::files;

/// Pixels of an inch.
const DPI: u32 = 144;

/// Writes the chart as PDF, PNG and SVG beside each other.
fn write(panels: &Panels, path: &Path) -> anyhow::Result<()> {
    let svg = panels.svg(Theme::Light);
    for format in [Format::Pdf, Format::Png, Format::Svg] {
        files::write(&path.with_extension(format.extension()), &render(&svg, format, DPI)?)?;
    }
    println!("  drawn to {} (and .png, .svg)", path.with_extension("pdf").display());
    Ok(())
}

/// Draws a workload in seconds: requests, mean tokens of prompts and of answers, sessions.
///
/// # Errors
/// When it cannot be written.
pub fn workload(groups: &[Group], path: &Path) -> anyhow::Result<()> {
    let mut seconds: BTreeMap<u64, Vec<&Request>> = BTreeMap::new();
    for group in groups {
        seconds.entry(group.timestamp / 1000).or_default().extend(&group.requests);
    }
    // Seconds without a request are seconds with none, as long as there are not too many to draw.
    let last = seconds.keys().last().copied().unwrap_or(0);
    let requests = (0..=last.min(100_000)).map(|second| {
        let count = seconds.get(&second).map_or(0, Vec::len);
        (second as f64, count as f64)
    });
    let means = |length: fn(&Request) -> Option<u32>| {
        let point = |(second, requests): (&u64, &Vec<&Request>)| {
            let lengths = requests.iter().filter_map(|request| length(request)).map(f64::from);
            Distribution::new(lengths).mean().map(|mean| (*second as f64, mean))
        };
        seconds.iter().filter_map(point).collect()
    };
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut sessions = Vec::new();
    for group in groups {
        for id in group.requests.iter().filter_map(|request| request.session_id.as_ref()) {
            let next = numbers.len();
            let number = id.as_u64().map_or_else(
                || *numbers.entry(id.to_string()).or_insert(next) as f64,
                |number| number as f64,
            );
            sessions.push((group.timestamp as f64 / 1000.0, number));
        }
    }
    let panel = |y_label: &str, points, joined| Panel { y_label: y_label.into(), points, joined };
    let panels = vec![
        panel("requests / s", requests.collect(), true),
        panel("prompt tokens", means(|request| request.prompt_length), true),
        panel("output tokens", means(|request| request.output_length), true),
        panel("session", sessions, false),
    ];
    write(&Panels { title: "Workload".into(), x_label: "Time (s)".into(), panels }, path)
}

/// What is drawn of each answer.
type Figure = (&'static str, fn(&OutputRow) -> Option<f64>);

/// The panels of the analysis.
const FIGURES: [Figure; 9] = [
    ("latency (s)", |row| Some(row.latency)),
    ("output tokens / s", |row| Some(row.throughput)),
    ("tokens / s", |row| (row.latency > 0.0).then(|| row.total_tokens as f64 / row.latency)),
    ("prompt tokens", |row| Some(row.prompt_tokens as f64)),
    ("output tokens", |row| Some(row.output_tokens as f64)),
    ("total tokens", |row| Some(row.total_tokens as f64)),
    ("TTFT (s)", |row| row.ttft),
    ("TPOT (s)", |row| row.tpot),
    ("errors", |row| (row.status != "success").then_some(1.0)),
];

/// Draws what the client saw, by when each request was sent.
///
/// # Errors
/// When it cannot be written.
pub fn performance(rows: &[OutputRow], path: &Path) -> anyhow::Result<()> {
    let start = rows.iter().map(|row| row.start_time).fold(f64::INFINITY, f64::min);
    let panel = |(name, value): Figure| {
        // A failed request has no figures but that it failed.
        let shown = rows.iter().filter(|row| row.status == "success" || name == "errors");
        let points = shown.filter_map(|row| Some((row.start_time - start, value(row)?))).collect();
        Panel { y_label: name.into(), points, joined: false }
    };
    let panels = FIGURES.into_iter().map(panel).collect();
    let (title, x_label) = ("Performance by time of sending".into(), "Time (s)".into());
    write(&Panels { title, x_label, panels }, path)
}

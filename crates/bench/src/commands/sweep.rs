//! `pie-bench sweep`: the same requests at several rates or numbers of users, and where more load brings no more.

use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;

use super::interrupt;
use super::prepare::{MeasureFlags, Prepared};
use crate::client::Stop;
use crate::report::terminal::millis;
use crate::report::{Report, files, json};

/// Which loads.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pie-bench sweep --rates 1,2,4,8,16 --num-prompts 100 --output-json sweep.json
  pie-bench sweep --concurrencies 1,2,4,8,16,32 --num-prompts 200 --goodput ttft:500 tpot:50")]
pub struct SweepFlags {
    #[command(flatten)]
    measure: MeasureFlags,
    /// Requests a second, one run each.
    #[arg(long, value_delimiter = ',', conflicts_with = "concurrencies")]
    rates: Vec<f64>,
    /// Users of a closed loop, one run each.
    #[arg(long, value_delimiter = ',')]
    concurrencies: Vec<usize>,
}

/// A load of a sweep.
#[derive(Clone, Copy, Debug)]
pub(super) enum Point {
    Rate(f64),
    Users(usize),
}

impl Point {
    pub(super) fn name(self) -> String {
        match self {
            Self::Rate(rate) => format!("{rate:.4} /s"),
            Self::Users(users) => format!("{users} users"),
        }
    }

    /// Measures this load.
    pub(super) fn measure(self, prepared: &Prepared, stop: &Stop) -> anyhow::Result<Report> {
        let mut load = prepared.load();
        match self {
            Self::Rate(rate) => load.request_rate = rate,
            Self::Users(users) => {
                (load.request_rate, load.max_concurrency) = (f64::INFINITY, Some(users));
            }
        }
        prepared.measure(&load, prepared.samples.len(), stop)
    }
}

/// The first load after which throughput grows by less than a tenth of what the load grew.
fn knee(points: &[(f64, f64)]) -> Option<usize> {
    (1..points.len()).find(|&index| {
        let ((load, output), (before, output_before)) = (points[index], points[index - 1]);
        (output / output_before - 1.0) < 0.1 * (load / before - 1.0)
    })
}

/// Measures each load, prints a table and writes the reports as one file.
///
/// # Errors
/// When a run cannot begin.
pub fn run(flags: SweepFlags) -> anyhow::Result<ExitCode> {
    let rates = flags.rates.iter().map(|rate| Point::Rate(*rate));
    let points: Vec<Point> =
        rates.chain(flags.concurrencies.iter().map(|users| Point::Users(*users))).collect();
    ensure!(!points.is_empty(), "name the loads: --rates 1,2,4 or --concurrencies 1,2,4");
    ensure!(
        flags.rates.iter().all(|rate| *rate > 0.0 && rate.is_finite()),
        "--rates: expected numbers above 0"
    );
    let prepared = flags.measure.prepare()?;
    let stop = Stop::default();
    interrupt::watch(&stop)?;
    println!(
        "{:<14}{:>8}{:>10}{:>10}{:>10}{:>10}{:>12}{:>10}  verdict",
        "load", "req/s", "tokens/s", "TTFT p50", "TTFT p99", "TPOT p50", "E2E resp p99", "good %"
    );
    let mut reports = Vec::new();
    for point in points {
        let report = point.measure(&prepared, &stop)?;
        println!("{:<14}{}", point.name(), line(&report));
        let load = match point {
            Point::Rate(rate) => rate,
            Point::Users(users) => users as f64,
        };
        reports.push((load, report, point.name()));
        if stop.is_stopped() {
            break;
        }
    }
    let course: Vec<(f64, f64)> =
        reports.iter().map(|(load, report, _)| (*load, report.summary.throughput.output_tokens)).collect();
    let knee = knee(&course).map(|index| course[index - 1].0);
    match knee {
        Some(load) => println!("\nKnee: from {load} on, more load brings little more throughput"),
        None => println!("\nNo knee: throughput still grows with the load"),
    }
    if let Some(path) = &prepared.output().output_json {
        let runs = reports.iter().map(|(_, report, name)| json::of_load(report, name)).collect();
        let found = serde_json::Map::from_iter([("knee".to_string(), serde_json::json!(knee))]);
        files::write(path, format!("{:#}\n", json::collection("sweep", found, runs)).as_bytes())?;
        println!("Written: {}", path.display());
    }
    let all = reports.iter().all(|(_, report, _)| report.summary.completed > 0);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The columns of a run.
pub(super) fn line(report: &Report) -> String {
    let summary = &report.summary;
    let figure = |name: &str, p| {
        summary.figure(name).and_then(|values| values.percentile(p)).map_or_else(|| "-".into(), millis)
    };
    let good = summary
        .goodput
        .as_ref()
        .map_or_else(|| "-".into(), |good| format!("{:.1}", good.attainment() * 100.0));
    let verdict = if report.verdict.is_valid() { "VALID" } else { "CLIENT-LIMITED" };
    format!(
        "{:>8.2}{:>10.1}{:>10}{:>10}{:>10}{:>12}{good:>10}  {verdict}{}",
        summary.throughput.requests,
        summary.throughput.output_tokens,
        figure("ttft", 50.0),
        figure("ttft", 99.0),
        figure("tpot", 50.0),
        figure("e2el_response", 99.0),
        if summary.failed > 0 { format!(", {} failed", summary.failed) } else { String::new() }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knee_is_where_throughput_stops_to_grow() {
        assert_eq!(knee(&[(1.0, 10.0), (2.0, 20.0), (4.0, 38.0), (8.0, 40.0)]), Some(3));
        assert_eq!(knee(&[(1.0, 10.0), (2.0, 20.0)]), None);
    }
}

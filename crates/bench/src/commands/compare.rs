//! `pie-bench compare` and `pie-bench gate`: two reports side by side, and whether the second is good enough for a
//! pipeline.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

/// A figure of a report, and whether more of it is better.
struct Compared {
    name: &'static str,
    path: &'static [&'static str],
    more_is_better: bool,
    /// What seconds are shown as.
    is_time: bool,
}

const fn time(name: &'static str, path: &'static [&'static str]) -> Compared {
    Compared { name, path, more_is_better: false, is_time: true }
}

const fn amount(name: &'static str, path: &'static [&'static str]) -> Compared {
    Compared { name, path, more_is_better: true, is_time: false }
}

const COMPARED: [Compared; 11] = [
    amount("requests a second", &["request_throughput"]),
    amount("output tokens a second", &["output_throughput"]),
    amount("goodput", &["goodput", "rate"]),
    Compared { name: "error rate", path: &["error_rate"], more_is_better: false, is_time: false },
    time("ttft p50", &["figures", "ttft", "p50"]),
    time("ttft p99", &["figures", "ttft", "p99"]),
    time("tpot p50", &["figures", "tpot", "p50"]),
    time("tpot p99", &["figures", "tpot", "p99"]),
    time("itl p99", &["figures", "itl", "p99"]),
    time("e2el p50", &["figures", "e2el", "p50"]),
    time("e2el_response p99", &["figures", "e2el_response", "p99"]),
];

/// Two reports.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pie-bench compare before.json after.json")]
pub struct CompareFlags {
    /// A file of --output-json: the baseline.
    baseline: PathBuf,
    /// Others.
    #[arg(required = true)]
    others: Vec<PathBuf>,
}

/// Two reports, and how much worse the second may be.
#[derive(Debug, Args)]
#[command(
    after_help = "The exit code is 0 for good, 1 for worse than --critical or an invalid run, 2 for a file that is no report.

Example:
  pie-bench gate before.json after.json --warning 5 --critical 10"
)]
pub struct GateFlags {
    /// A file of --output-json: the baseline.
    baseline: PathBuf,
    /// The file to judge.
    current: PathBuf,
    /// Percent worse from which a figure is a warning.
    #[arg(long, default_value_t = 5.0)]
    warning: f64,
    /// Percent worse from which it is a failure.
    #[arg(long, default_value_t = 10.0)]
    critical: f64,
    /// Figures that may change, by their names in the table.
    #[arg(long, value_delimiter = ',')]
    expected_change: Vec<String>,
    /// Take runs of which the client was the limit.
    #[arg(long)]
    allow_invalid: bool,
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let value: Value =
        serde_json::from_str(&text).with_context(|| format!("`{}` is no JSON", path.display()))?;
    if value["pie_bench"].as_u64() != Some(u64::from(crate::report::json::VERSION)) {
        bail!("`{}` is no report of this version: expected a file of --output-json", path.display());
    }
    Ok(value)
}

fn figure(report: &Value, compared: &Compared) -> Option<f64> {
    let mut value = &report["summary"];
    for name in compared.path {
        value = &value[*name];
    }
    value.as_f64()
}

/// Percent that `current` is worse than `base`; below zero when it is better.
fn worse_by(compared: &Compared, base: f64, current: f64) -> f64 {
    let change = if compared.more_is_better { base - current } else { current - base };
    match base {
        // Anything is endlessly more than nothing.
        0.0 if change > 0.0 => f64::INFINITY,
        0.0 => 0.0,
        base => change / base * 100.0,
    }
}

fn shown(compared: &Compared, value: f64) -> String {
    if compared.is_time { format!("{:.2} ms", value * 1e3) } else { format!("{value:.4}") }
}

/// Prints the figures of reports side by side.
///
/// # Errors
/// A file that is no report.
pub fn compare(flags: &CompareFlags) -> anyhow::Result<ExitCode> {
    let base = read(&flags.baseline)?;
    let others: Vec<Value> = flags.others.iter().map(|path| read(path)).collect::<anyhow::Result<_>>()?;
    let names: Vec<String> = flags.others.iter().map(|path| path.display().to_string()).collect();
    println!("| | {} | {} |", flags.baseline.display(), names.join(" | "));
    println!("|---|---|{}", "---|".repeat(names.len()));
    for compared in &COMPARED {
        let Some(before) = figure(&base, compared) else { continue };
        let cells = others.iter().map(|other| match figure(other, compared) {
            Some(after) => {
                let worse = worse_by(compared, before, after);
                let word = if worse > 0.0 { "worse" } else { "better" };
                format!("{} ({:.1} % {word})", shown(compared, after), worse.abs())
            }
            None => "-".into(),
        });
        let cells: Vec<String> = cells.collect();
        println!("| {} | {} | {} |", compared.name, shown(compared, before), cells.join(" | "));
    }
    for (path, report) in std::iter::once((&flags.baseline, &base)).chain(flags.others.iter().zip(&others)) {
        if report["valid"] != true {
            println!("\n{}: CLIENT-LIMITED, its figures are not the server's", path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Judges a report by another one.
///
/// # Errors
/// A file that is no report; the exit code is then 2.
pub fn gate(flags: &GateFlags) -> anyhow::Result<ExitCode> {
    let (base, current) = match (read(&flags.baseline), read(&flags.current)) {
        (Ok(base), Ok(current)) => (base, current),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(2));
        }
    };
    let mut failed = false;
    println!("| figure | baseline | current | worse by | |\n|---|---|---|---|---|");
    for compared in &COMPARED {
        let (before, after) = match (figure(&base, compared), figure(&current, compared)) {
            (Some(before), Some(after)) => (before, after),
            (Some(_), None) => {
                println!("| {} | | missing | | CRITICAL |", compared.name);
                failed = true;
                continue;
            }
            _ => continue,
        };
        let worse = worse_by(compared, before, after);
        let word = match worse {
            _ if flags.expected_change.iter().any(|name| name == compared.name) => "expected",
            worse if worse > flags.critical => "CRITICAL",
            worse if worse > flags.warning => "warning",
            _ => "ok",
        };
        failed |= word == "CRITICAL";
        println!(
            "| {} | {} | {} | {worse:.1} % | {word} |",
            compared.name,
            shown(compared, before),
            shown(compared, after)
        );
    }
    for (report, path) in [(&base, &flags.baseline), (&current, &flags.current)] {
        if report["valid"] != true && !flags.allow_invalid {
            println!("\n{} is CLIENT-LIMITED: {}", path.display(), report["client_limits"]);
            failed = true;
        }
    }
    println!("\n{}", if failed { "FAILED" } else { "PASSED" });
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worse_is_more_time_and_less_throughput() {
        let (throughput, ttft) = (&COMPARED[0], &COMPARED[4]);
        assert_eq!((worse_by(throughput, 10.0, 9.0), worse_by(throughput, 10.0, 12.0)), (10.0, -20.0));
        assert_eq!((worse_by(ttft, 1.0, 1.5), worse_by(ttft, 0.0, 1.0)), (50.0, f64::INFINITY));
        assert_eq!(worse_by(&COMPARED[3], 0.0, 0.0), 0.0);
    }
}

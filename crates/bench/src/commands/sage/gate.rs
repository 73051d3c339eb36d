//! `sage gate`: whether the results of a run are worse than those of another.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::report;

/// What is compared.
#[derive(Debug, Args)]
pub(super) struct GateFlags {
    /// The summary of the run to compare with.
    #[arg(long, value_name = "FILE")]
    baseline: PathBuf,
    /// The summary of the run that is judged.
    #[arg(long, default_value = report::SUMMARY, value_name = "FILE")]
    current: PathBuf,
    /// Percent worse from which on it is a warning.
    #[arg(long, default_value_t = 5.0, value_name = "PERCENT")]
    warn: f64,
    /// Percent worse from which on the command fails.
    #[arg(long, default_value_t = 10.0, value_name = "PERCENT")]
    critical: f64,
    /// Workloads or WORKLOAD/FIGURE that are meant to change.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    expected_change: Vec<String>,
}

/// How bad a change is; the worst is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Ok,
    Expected,
    Warning,
    Critical,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Expected => "expected-change",
            Self::Warning => "warning",
            Self::Critical => "CRITICAL",
        }
    }
}

/// Figures that are compared, and whether less is better.
const FIGURES: [(&str, bool); 3] =
    [("avg_ttft_ms", true), ("avg_tbt_ms", true), ("output_throughput_tps", false)];

/// Percent that `current` is worse.
pub(super) fn regression(baseline: f64, current: f64, less_is_better: bool) -> f64 {
    let worse = if less_is_better { current - baseline } else { baseline - current };
    worse / baseline * 100.0
}

/// The lines of the comparison, and the worst of them.
fn lines(flags: &GateFlags, baseline: &Value, current: &Value) -> (Vec<String>, Severity) {
    let (mut lines, mut worst) = (Vec::new(), Severity::Ok);
    for (name, before) in baseline["workloads"].as_object().into_iter().flatten() {
        for (figure, less_is_better) in FIGURES {
            let both = before[figure].as_f64().filter(|value| *value > 0.0);
            let both = both.zip(current["workloads"][name][figure].as_f64());
            let (shown, severity) = match both {
                Some((before, after)) => {
                    let percent = regression(before, after, less_is_better);
                    let severity = match percent {
                        p if p > flags.critical => Severity::Critical,
                        p if p > flags.warn => Severity::Warning,
                        _ => Severity::Ok,
                    };
                    (format!("{before:.2} | {after:.2} | {percent:+.1} %"), severity)
                }
                // What was measured once and is no more has not got better.
                None => ("- | - | not in both".to_string(), Severity::Critical),
            };
            let is_expected = [name.clone(), format!("{name}/{figure}")]
                .iter()
                .any(|name| flags.expected_change.contains(name));
            let severity = if is_expected { severity.min(Severity::Expected) } else { severity };
            worst = worst.max(severity);
            lines.push(format!("| {name} | {figure} | {shown} | {} |", severity.name()));
        }
    }
    (lines, worst)
}

/// Compares, prints a table of Markdown, and fails when something is critical.
///
/// # Errors
/// When a summary cannot be read.
pub(super) fn run(flags: &GateFlags) -> anyhow::Result<ExitCode> {
    let (baseline, current) = (report::read(&flags.baseline)?, report::read(&flags.current)?);
    let (lines, worst) = lines(flags, &baseline, &current);
    anyhow::ensure!(!lines.is_empty(), "`{}` has no workload to compare", flags.baseline.display());
    println!("| workload | figure | baseline | current | worse by | |\n|---|---|--:|--:|--:|---|");
    lines.iter().for_each(|line| println!("{line}"));
    println!("\noverall: {}", worst.name());
    Ok(if worst == Severity::Critical { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

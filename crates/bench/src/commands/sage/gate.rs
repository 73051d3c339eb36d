//! `sage gate`: whether the results of a run are worse than those of another.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::report;
use crate::commands::regression::{Severity, Thresholds, judge};

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

/// Figures that are compared, and whether less is better.
const FIGURES: [(&str, bool); 3] =
    [("avg_ttft_ms", true), ("avg_tbt_ms", true), ("output_throughput_tps", false)];

/// The lines of the comparison, and the worst of them.
fn lines(flags: &GateFlags, baseline: &Value, current: &Value) -> (Vec<String>, Severity) {
    let thresholds = Thresholds { warning: flags.warn, critical: flags.critical };
    let (mut lines, mut worst) = (Vec::new(), Severity::Ok);
    for (name, before) in baseline["workloads"].as_object().into_iter().flatten() {
        for (figure, less_is_better) in FIGURES {
            let both = (before[figure].as_f64(), current["workloads"][name][figure].as_f64());
            let names = [name.clone(), format!("{name}/{figure}")];
            let is_expected = names.iter().any(|name| flags.expected_change.contains(name));
            let judged = judge(both.0, both.1, !less_is_better, thresholds, is_expected);
            let Some((percent, severity)) = judged else { continue };
            let cell = |value: Option<f64>| value.map_or("missing".into(), |value| format!("{value:.2}"));
            let percent = percent.map_or(String::new(), |percent| format!("{percent:+.1} %"));
            let shown = format!("{} | {} | {percent}", cell(both.0), cell(both.1));
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

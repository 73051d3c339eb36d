//! `pie-bench compare` and `pie-bench gate`: two reports side by side, and whether the second is good enough for a
//! pipeline. Sweeps are compared load by load, searches by the highest load that they found.

mod read;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::Value;

use super::regression::{Severity, Thresholds, judge, worse_by};
use read::{Measured, Run};

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
    /// A file of --output-json of `serve`, `replay`, `sweep` or `slo`: the baseline.
    baseline: PathBuf,
    /// Others, of the same command.
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
    /// A file of --output-json of `serve`, `replay`, `sweep` or `slo`: the baseline.
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

fn figure(report: &Value, compared: &Compared) -> Option<f64> {
    let mut value = &report["summary"];
    for name in compared.path {
        value = &value[*name];
    }
    value.as_f64()
}

fn shown(compared: &Compared, value: f64) -> String {
    if compared.is_time { format!("{:.2} ms", value * 1e3) } else { format!("{value:.4}") }
}

/// The figure of a search.
const HIGHEST: Compared =
    Compared { name: "highest load that passed", path: &[], more_is_better: true, is_time: false };

/// A figure in all files: what is compared, its value in the baseline, its values in the others.
type Row<'a> = (&'a Compared, Option<f64>, Vec<Option<f64>>);

/// A table: the load, where there are several, the rows, and the runs of the files.
struct Table<'a> {
    load: Option<&'a str>,
    rows: Vec<Row<'a>>,
    runs: Vec<Option<&'a Run>>,
}

/// What of the others belongs to what of the baseline.
fn tables<'a>(base: &'a Measured, others: &'a [Measured]) -> anyhow::Result<Vec<Table<'a>>> {
    let expected = "expected two reports of one command: sweeps, searches, or runs of one load";
    let runs = match base {
        Measured::Highest(highest) => {
            let highest_of = |other: &Measured| match other {
                Measured::Highest(highest) => Ok(*highest),
                Measured::Loads(_) => bail!("a search and loads: {expected}"),
            };
            let values = others.iter().map(highest_of).collect::<anyhow::Result<_>>()?;
            let rows = vec![(&HIGHEST, *highest, values)];
            return Ok(vec![Table { load: None, rows, runs: Vec::new() }]);
        }
        Measured::Loads(runs) => runs,
    };
    if others.iter().any(|other| matches!(other, Measured::Highest(_))) {
        bail!("loads and a search: {expected}");
    }
    let alone = runs.len() == 1;
    let tables = runs.iter().map(|run| {
        let same: Vec<Option<&Run>> = others.iter().map(|other| other.same_load(run, alone)).collect();
        let row = |compared: &'a Compared| {
            let values = same.iter().map(|run| figure(&run.as_ref()?.report, compared)).collect();
            (compared, figure(&run.report, compared), values)
        };
        let rows = COMPARED.iter().map(row).collect();
        let runs = std::iter::once(Some(run)).chain(same).collect();
        Table { load: (!alone).then_some(run.load.as_str()), rows, runs }
    });
    Ok(tables.collect())
}

/// Prints the figures of reports side by side.
///
/// # Errors
/// A file that is no report, or files that cannot be compared.
pub fn compare(flags: &CompareFlags) -> anyhow::Result<ExitCode> {
    let base = Measured::read(&flags.baseline)?;
    let others: Vec<Measured> =
        flags.others.iter().map(|path| Measured::read(path)).collect::<anyhow::Result<_>>()?;
    let paths: Vec<String> = std::iter::once(&flags.baseline)
        .chain(&flags.others)
        .map(|path| path.display().to_string())
        .collect();
    for table in tables(&base, &others)? {
        if let Some(load) = table.load {
            println!("\n### {load}\n");
        }
        println!("| | {} |", paths.join(" | "));
        println!("|---{}|", "|---".repeat(paths.len()));
        for (compared, before, values) in &table.rows {
            let Some(before) = *before else { continue };
            let cells = values.iter().map(|value| match *value {
                Some(after) => {
                    let worse = worse_by(before, after, compared.more_is_better);
                    let word = if worse > 0.0 { "worse" } else { "better" };
                    format!("{} ({:.1} % {word})", shown(compared, after), worse.abs())
                }
                None => "-".into(),
            });
            let cells: Vec<String> = cells.collect();
            println!("| {} | {} | {} |", compared.name, shown(compared, before), cells.join(" | "));
        }
        for (path, run) in paths.iter().zip(&table.runs) {
            match run {
                Some(run) if run.report["valid"] != true => {
                    println!("\n{path}: CLIENT-LIMITED, its figures are not the server's");
                }
                Some(_) => {}
                None => println!("\n{path}: this load was not measured"),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Judges a report by another one.
///
/// # Errors
/// None: a file that is no report, or files that cannot be compared, are printed, and the exit code is 2.
pub fn gate(flags: &GateFlags) -> anyhow::Result<ExitCode> {
    match judged(flags) {
        Ok(failed) => {
            println!("\n{}", if failed { "FAILED" } else { "PASSED" });
            Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            Ok(ExitCode::from(2))
        }
    }
}

/// Prints the tables of the gate, and says whether it fails.
fn judged(flags: &GateFlags) -> anyhow::Result<bool> {
    let (base, current) = (Measured::read(&flags.baseline)?, [Measured::read(&flags.current)?]);
    let thresholds = Thresholds { warning: flags.warning, critical: flags.critical };
    let (mut failed, mut compared_any) = (false, false);
    for table in tables(&base, &current)? {
        if let Some(load) = table.load {
            println!("\n### {load}\n");
        }
        println!("| figure | baseline | current | worse by | |\n|---|---|---|---|---|");
        for (compared, before, after) in &table.rows {
            let (before, after) = (*before, after.first().copied().flatten());
            let is_expected = flags.expected_change.iter().any(|name| name == compared.name);
            let judged = judge(before, after, compared.more_is_better, thresholds, is_expected);
            let Some((percent, severity)) = judged else { continue };
            compared_any = true;
            failed |= severity == Severity::Critical;
            let cell = |value: Option<f64>| value.map_or("missing".into(), |value| shown(compared, value));
            let percent = percent.map_or(String::new(), |percent| format!("{percent:.1} %"));
            let (name, word) = (compared.name, severity.name());
            println!("| {name} | {} | {} | {percent} | {word} |", cell(before), cell(after));
        }
        for (path, run) in [&flags.baseline, &flags.current].into_iter().zip(&table.runs) {
            if let Some(run) = run.filter(|run| run.report["valid"] != true && !flags.allow_invalid) {
                println!("\n{} is CLIENT-LIMITED: {}", path.display(), run.report["client_limits"]);
                failed = true;
            }
        }
    }
    if compared_any { Ok(failed) } else { Err(anyhow::anyhow!("the baseline has no figure to compare")) }
}

#[cfg(test)]
mod tests;

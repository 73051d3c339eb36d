//! `sage report`: the results of a run as a table, JSON or Markdown.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use super::payload::Payload;
use super::plots::{PlotFlags, figures};

/// Where a run leaves its summary.
pub(super) const SUMMARY: &str = "./benchmark_results/benchmark_summary.json";

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For a terminal.
    Table,
    /// The file as it is.
    Json,
    /// For a document.
    Markdown,
}

/// What is shown.
#[derive(Debug, Args)]
pub(super) struct ReportFlags {
    /// The summary of a run, or the file of `perf`.
    #[arg(long, short, default_value = SUMMARY, value_name = "FILE")]
    input: PathBuf,
    /// How it is shown.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    plots: PlotFlags,
}

/// Columns: title, figure, digits.
const COLUMNS: [(&str, &str, usize); 13] = [
    ("requests", "total_requests", 0),
    ("failed", "failed_requests", 0),
    ("TTFT ms", "avg_ttft_ms", 2),
    ("p95", "p95_ttft_ms", 2),
    ("p99", "p99_ttft_ms", 2),
    ("TBT ms", "avg_tbt_ms", 2),
    ("TPOT ms", "avg_tpot_ms", 2),
    ("req/s", "request_throughput_rps", 3),
    ("in tok/s", "input_throughput_tps", 1),
    ("out tok/s", "output_throughput_tps", 1),
    ("all tok/s", "total_throughput_tps", 1),
    ("mem MB", "peak_mem_mb", 0),
    ("hit rate", "prefix_hit_rate", 3),
];

fn json_of(path: &Path) -> anyhow::Result<Value> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read `{shown}`; run `pie-bench sage run` first, or name another --input")
    })?;
    serde_json::from_str(&text).with_context(|| format!("`{shown}` is no JSON"))
}

fn checked(path: &Path, value: Value) -> anyhow::Result<Value> {
    let shown = path.display();
    ensure!(
        value["workloads"].is_object(),
        "`{shown}` has no `workloads`, expected a benchmark_summary.json"
    );
    Ok(value)
}

/// Reads a summary.
///
/// # Errors
/// When it is not there: that a run comes first; or what is wrong with it.
pub(super) fn read(path: &Path) -> anyhow::Result<Value> {
    checked(path, json_of(path)?)
}

/// Lines of cells, the head first, as a table of text or of Markdown. The first `words` columns are words, which are at
/// the left; numbers are at the right.
pub(super) fn table(lines: &[impl AsRef<[String]>], words: usize, is_markdown: bool) -> String {
    let columns = lines.first().map_or(0, |line| line.as_ref().len());
    let width = |column: usize| {
        lines.iter().map(|line| line.as_ref()[column].chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for (index, line) in lines.iter().enumerate() {
        let padded = line.as_ref().iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            let cell = if is_markdown { cell.replace('|', "\\|") } else { cell.clone() };
            if column < words { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let padded: Vec<String> = padded.collect();
        let joined = if is_markdown { format!("| {} |", padded.join(" | ")) } else { padded.join("  ") };
        out.push_str(joined.trim_end());
        out.push('\n');
        if index == 0 && is_markdown {
            let rule = widths.iter().enumerate().map(|(column, width)| {
                let dashes = "-".repeat(width - 1);
                if column < words { format!(":{dashes}") } else { format!("{dashes}:") }
            });
            out += &format!("| {} |\n", rule.collect::<Vec<String>>().join(" | "));
        }
    }
    out
}

/// The cells of each workload, its name first.
fn cells(workloads: &Map<String, Value>) -> Vec<Vec<String>> {
    let cell = |record: &Value, (_, figure, digits): &(&str, &str, usize)| {
        record[*figure].as_f64().map_or_else(|| "-".to_string(), |value| format!("{value:.*}", *digits))
    };
    let row = |(name, record): (&String, &Value)| {
        std::iter::once(name.clone()).chain(COLUMNS.iter().map(|column| cell(record, column))).collect()
    };
    workloads.iter().map(row).collect()
}

/// The results as a table of text or of Markdown.
pub(super) fn text(summary: &Value, is_markdown: bool) -> String {
    let titles = std::iter::once("workload".to_string()).chain(COLUMNS.map(|(title, ..)| title.to_string()));
    let none = Map::new();
    let mut lines = vec![titles.collect::<Vec<String>>()];
    lines.extend(cells(summary["workloads"].as_object().unwrap_or(&none)));
    let mut out = if is_markdown { "# Benchmark report\n\n".to_string() } else { String::new() };
    out += &table(&lines, 1, is_markdown);
    let overall = &summary["overall"];
    let count = |name: &str| overall[name].as_u64().unwrap_or(0);
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "\n{} workloads, {} requests: {} successful, {} failed",
        count("total_workloads"),
        count("total_requests"),
        count("successful_requests"),
        count("failed_requests")
    );
    for (name, record) in summary["workloads"].as_object().into_iter().flatten() {
        if let Some(contract) = record["contract"].as_object() {
            let words = if contract["passed"] == true { "holds" } else { "DOES NOT HOLD" };
            let _ = writeln!(
                out,
                "{name}: contract {words}, {}",
                contract["summary"].as_str().unwrap_or_default()
            );
        }
    }
    out
}

/// Shows the results of `run`, or those of `perf`, with its plots where they are wanted.
///
/// # Errors
/// See [`read`], and when a plot cannot be written.
pub(super) fn run(flags: &ReportFlags) -> anyhow::Result<ExitCode> {
    let value = json_of(&flags.input)?;
    if value.get("kind").is_some() {
        return perf(flags, value);
    }
    ensure!(
        !flags.plots.plot,
        "--plot: the plots are of a file of `pie-bench sage perf`, and this is of `run`"
    );
    let summary = checked(&flags.input, value)?;
    match flags.format {
        Format::Table => print!("{}", text(&summary, false)),
        Format::Markdown => print!("{}", text(&summary, true)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&summary)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn perf(flags: &ReportFlags, value: Value) -> anyhow::Result<ExitCode> {
    let payload = Payload::of(value.clone()).with_context(|| format!("`{}`", flags.input.display()))?;
    match flags.format {
        Format::Table => print!("{}", payload.text(false)),
        Format::Markdown => print!("{}", payload.text(true)),
        Format::Json => println!("{value:#}"),
    }
    if flags.plots.plot {
        for path in flags.plots.write(&flags.input, &figures(&payload))? {
            eprintln!("Written: {path}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

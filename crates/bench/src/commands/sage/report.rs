//! `sage report`: the results of a run as a table, JSON or Markdown.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

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
    /// The summary of a run.
    #[arg(long, short, default_value = SUMMARY, value_name = "FILE")]
    input: PathBuf,
    /// How it is shown.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
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

/// Reads a summary.
///
/// # Errors
/// When it is not there: that a run comes first; or what is wrong with it.
pub(super) fn read(path: &Path) -> anyhow::Result<Value> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("cannot read `{shown}`; run `pie-bench sage run` first, or name another --input")
    })?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("`{shown}` is no JSON"))?;
    ensure!(
        value["workloads"].is_object(),
        "`{shown}` has no `workloads`, expected a benchmark_summary.json"
    );
    Ok(value)
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
    let widths: Vec<usize> = (0..=COLUMNS.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    if is_markdown {
        out.push_str("# Benchmark report\n\n");
    }
    for (index, line) in lines.iter().enumerate() {
        let padded = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let padded: Vec<String> = padded.collect();
        let joined = if is_markdown { format!("| {} |", padded.join(" | ")) } else { padded.join("  ") };
        out.push_str(joined.trim_end());
        out.push('\n');
        if index == 0 && is_markdown {
            let rule = widths.iter().enumerate().map(|(column, width)| {
                let dashes = "-".repeat((*width).max(3) - 1);
                if column == 0 { format!(":{dashes}") } else { format!("{dashes}:") }
            });
            out += &format!("| {} |\n", rule.collect::<Vec<String>>().join(" | "));
        }
    }
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

/// Shows the results.
///
/// # Errors
/// See [`read`].
pub(super) fn run(flags: &ReportFlags) -> anyhow::Result<ExitCode> {
    let summary = read(&flags.input)?;
    match flags.format {
        Format::Table => print!("{}", text(&summary, false)),
        Format::Markdown => print!("{}", text(&summary, true)),
        Format::Json => println!("{}", serde_json::to_string_pretty(&summary)?),
    }
    Ok(ExitCode::SUCCESS)
}

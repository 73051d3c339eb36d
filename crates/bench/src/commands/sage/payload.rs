//! The file of `perf` and of one target of `compare`, and what people see of it.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::e2e::Row;
use crate::metrics::Distribution;

/// Means over the rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Means {
    pub(super) total_rows: usize,
    pub(super) avg_ttft_ms: Option<f64>,
    pub(super) avg_tbt_ms: Option<f64>,
    pub(super) avg_throughput_tps: Option<f64>,
    pub(super) output_throughput_tps: Option<f64>,
    pub(super) request_throughput_rps: Option<f64>,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Payload {
    pub(super) kind: String,
    /// Whether the figures were made up, which they are in files of sageLLM and never here.
    pub(super) simulate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    pub(super) models: Vec<String>,
    pub(super) batch_sizes: Vec<u32>,
    pub(super) precisions: Vec<String>,
    pub(super) summary: Means,
    pub(super) rows: Vec<Row>,
    pub(super) command: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) plots: Vec<String>,
}

/// What the file of end-to-end measurements is called in it.
const KIND: &str = "e2e";

impl Payload {
    /// Of these rows.
    pub(super) fn new(rows: Vec<Row>, batch_sizes: &[u32]) -> Self {
        let mean = |of: fn(&Row) -> Option<f64>| Distribution::new(rows.iter().filter_map(of)).mean();
        let summary = Means {
            total_rows: rows.len(),
            avg_ttft_ms: mean(|row| row.ttft_ms),
            avg_tbt_ms: mean(|row| row.tbt_ms),
            avg_throughput_tps: mean(|row| row.throughput_tps),
            output_throughput_tps: mean(|row| row.output_throughput_tps),
            request_throughput_rps: mean(|row| row.request_throughput_rps),
        };
        let each = |of: fn(&Row) -> &String| {
            let mut names: Vec<String> = Vec::new();
            for row in &rows {
                if !names.contains(of(row)) {
                    names.push(of(row).clone());
                }
            }
            names
        };
        Self {
            kind: KIND.into(),
            models: each(|row| &row.model),
            batch_sizes: batch_sizes.to_vec(),
            precisions: each(|row| &row.precision),
            summary,
            command: crate::commands::command_line(),
            rows,
            ..Self::default()
        }
    }

    /// Of a file.
    ///
    /// # Errors
    /// When it is no such file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{shown}`"))?;
        let value = serde_json::from_str(&text).with_context(|| format!("`{shown}` is no JSON"))?;
        Self::of(value).with_context(|| format!("`{shown}`"))
    }

    /// Of what a file holds.
    ///
    /// # Errors
    /// When it is something else.
    pub(super) fn of(value: Value) -> anyhow::Result<Self> {
        let kind = value["kind"].as_str().unwrap_or_default().to_string();
        ensure!(
            kind != "operator",
            "is of operators, which are measured within an engine; expected a file of `perf --type e2e`"
        );
        ensure!(kind == KIND, "found the kind `{kind}`, expected `{KIND}`, as `perf` and `compare` write it");
        Ok(serde_json::from_value(value)?)
    }

    /// Whether any request was answered.
    pub(super) fn has_answers(&self) -> bool {
        self.rows.iter().any(|row| row.successful_requests > 0)
    }

    /// The file's text.
    ///
    /// # Errors
    /// What JSON says.
    pub(super) fn json(&self) -> anyhow::Result<Vec<u8>> {
        Ok(format!("{}\n", serde_json::to_string_pretty(self)?).into_bytes())
    }

    /// For people: a table for a terminal, or a page in Markdown.
    pub(super) fn text(&self, is_markdown: bool) -> String {
        let number = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.2}"));
        let mut out = String::new();
        if is_markdown {
            out.push_str("# E2E benchmark report\n\n## Summary\n\n");
        }
        if self.simulate {
            out.push_str(
                "- The figures are simulated by the program that wrote the file: nothing was measured.\n",
            );
        }
        let means = [
            ("TTFT (ms)", self.summary.avg_ttft_ms),
            ("TBT (ms)", self.summary.avg_tbt_ms),
            ("Output throughput of a batch (tok/s)", self.summary.output_throughput_tps),
            ("Throughput of a request (tok/s)", self.summary.avg_throughput_tps),
        ];
        // Writing to a string does not fail.
        let _ = writeln!(out, "- Rows: {}", self.summary.total_rows);
        for (name, value) in means {
            let _ = writeln!(out, "- {name}, mean of the rows: {}", number(value));
        }
        let head =
            ["Model", "Scenario", "Precision", "Batch", "TTFT(ms)", "TBT(ms)", "TPS", "P95(ms)", "Failed"];
        let mut lines = vec![head.map(str::to_string)];
        lines.extend(self.rows.iter().map(|row| {
            [
                row.model.clone(),
                row.scenario.clone(),
                row.precision.clone(),
                row.batch_size.to_string(),
                number(row.ttft_ms),
                number(row.tbt_ms),
                number(row.throughput_tps),
                number(row.latency_p95_ms),
                row.failed_requests.to_string(),
            ]
        }));
        out.push_str(if is_markdown { "\n## Results\n\n" } else { "\n" });
        out + &super::report::table(&lines, 3, is_markdown)
    }
}

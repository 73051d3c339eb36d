//! The report as a page for people, in Markdown.

use std::fmt::Write;

use super::Report;
use super::terminal::millis;
use crate::clock::iso;
use crate::metrics::METRICS;

/// What would break a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// The page.
pub fn text(report: &Report) -> String {
    let (context, summary) = (&report.context, &report.summary);
    let mut out = String::new();
    let title = context.label.as_deref().unwrap_or(&context.model);
    // Writing to a string does not fail.
    let _ = writeln!(out, "# {}\n\n**{}**\n", cell(title), cell(&report.verdict.to_string()));
    let _ = writeln!(out, "| | |\n|---|---|");
    let rows = [
        ("date", iso(report.started_unix())),
        ("server", format!("{} ({})", context.url, context.backend)),
        ("model", context.model.clone()),
        ("load", format!("{}, dataset {}, seed {}", report.plan.about, context.dataset, context.seed)),
        ("command", format!("`{}`", context.command)),
        ("duration", format!("{:.2} s", summary.duration_secs)),
        (
            "requests",
            format!(
                "{} completed, {} failed, {} dropped, {} cancelled, {} skipped",
                summary.completed, summary.failed, summary.dropped, summary.cancelled, summary.skipped
            ),
        ),
        ("requests a second", format!("{:.3}", summary.throughput.requests)),
        ("output tokens a second", format!("{:.1}", summary.throughput.output_tokens)),
        ("input tokens a second", format!("{:.1}", summary.throughput.input_tokens)),
        (
            "tokens",
            format!(
                "{} in, {} out; {} of {} answers counted by the server, lengths before the run by {}",
                summary.input_tokens,
                summary.output_tokens,
                summary.counted_by_server,
                summary.completed,
                context.token_source
            ),
        ),
        (
            "client",
            format!(
                "{:.2} s of CPU, {} connections, {:.0} MB at most",
                report.run.used.cpu_secs,
                report.run.used.connections,
                report.run.used.peak_memory_bytes as f64 / 1e6
            ),
        ),
    ];
    for (name, value) in rows {
        let _ = writeln!(out, "| {name} | {} |", cell(&value));
    }
    if let Some(goodput) = &summary.goodput {
        let share = goodput.attainment() * 100.0;
        let _ = writeln!(out, "| goodput | {:.3} requests a second, {share:.1} % |", goodput.rate);
    }
    let _ = writeln!(
        out,
        "\n| ms | mean | p50 | p90 | p95 | p99 | max | what |\n|---|---|---|---|---|---|---|---|"
    );
    for metric in &METRICS {
        let Some(values) = summary.figure(metric.name).filter(|values| values.count() > 0) else { continue };
        let shown = |value: Option<f64>| value.map_or_else(|| "-".into(), millis);
        let percentiles = [50.0, 90.0, 95.0, 99.0].map(|p| shown(values.percentile(p))).join(" | ");
        let (mean, max) = (shown(values.mean()), shown(values.max()));
        let _ = writeln!(out, "| {} | {mean} | {percentiles} | {max} | {} |", metric.name, metric.about);
    }
    if !summary.errors.is_empty() {
        let _ = writeln!(out, "\n| error | count | example |\n|---|---|---|");
        for (class, error) in &summary.errors {
            let _ = writeln!(out, "| {class} | {} | {} |", error.count, cell(&error.example));
        }
    }
    for note in &context.notes {
        let _ = writeln!(out, "\n- {note}");
    }
    out
}

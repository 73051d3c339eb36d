//! The report for people, as text.

use std::fmt::Write;

use super::Report;
use crate::metrics::{Distribution, METRICS, of_percentile};

/// Figures that are always shown, in order.
const SHOWN: [&str; 9] =
    ["ttft", "ttft_response", "tpot", "itl", "itl_token", "e2el", "e2el_response", "queue", "lag"];

/// Milliseconds with as many digits as they deserve.
pub fn millis(seconds: f64) -> String {
    let millis = seconds * 1e3;
    match millis {
        m if m >= 100.0 => format!("{m:.0}"),
        m if m >= 10.0 => format!("{m:.1}"),
        m if m >= 0.1 => format!("{m:.2}"),
        m => format!("{m:.3}"),
    }
}

/// The report as lines of text.
pub fn text(report: &Report) -> String {
    let summary = &report.summary;
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{name:<34}{value}");
    };
    line("Verdict", report.verdict.to_string());
    line("Server", format!("{} ({})", report.context.url, report.context.backend));
    line("Model", report.context.model.clone());
    line("Load", format!("{}, dataset {}", report.plan.about, report.context.dataset));
    line("Duration", format!("{:.2} s", summary.duration_secs));
    let mut requests = format!("{} completed, {} failed", summary.completed, summary.failed);
    for (count, word) in
        [(summary.dropped, "dropped"), (summary.cancelled, "cancelled"), (summary.skipped, "skipped")]
    {
        if count > 0 {
            requests += &format!(", {count} {word}");
        }
    }
    if report.run.interrupted {
        requests += " (stopped before its end)";
    }
    line("Requests", requests);
    for (class, error) in &summary.errors {
        line(&format!("  {class}"), format!("{} x {}", error.count, error.example));
    }
    let source = if summary.counted_by_server == summary.completed && summary.completed > 0 {
        "counted by the server".to_string()
    } else {
        format!(
            "{} of {} answers counted by the server, else chunks and {}",
            summary.counted_by_server, summary.completed, report.context.token_source
        )
    };
    line("Tokens", format!("{} in, {} out ({source})", summary.input_tokens, summary.output_tokens));
    if let Some(cached) = summary.cached_tokens {
        let share = cached as f64 / summary.input_tokens.max(1) as f64 * 100.0;
        line("Cached prompt tokens", format!("{cached} ({share:.1} %)"));
    }
    line("Requests a second", format!("{:.3}", summary.throughput.requests));
    line("Output tokens a second", format!("{:.1}", summary.throughput.output_tokens));
    line(
        "All tokens a second",
        format!("{:.1}", summary.throughput.output_tokens + summary.throughput.input_tokens),
    );
    line(
        "Requests under way",
        format!("{:.1} on average, {} at most", summary.mean_in_flight, summary.peak_in_flight),
    );
    if let Some(goodput) = &summary.goodput {
        let slos: Vec<String> =
            goodput.slos.iter().map(|slo| format!("{} <= {} ms", slo.metric, slo.limit_secs * 1e3)).collect();
        let share = goodput.attainment() * 100.0;
        line(
            "Goodput",
            format!("{:.3} requests a second, {share:.1} % with {}", goodput.rate, slos.join(", ")),
        );
    }
    table(&mut out, report);
    for note in &report.context.notes {
        let _ = writeln!(out, "Note: {note}");
    }
    out
}

fn table(out: &mut String, report: &Report) {
    let columns = [50.0, 90.0, 99.0];
    let _ = write!(out, "\n{:<18}{:>10}", "ms", "mean");
    for p in columns {
        let _ = write!(out, "{:>10}", format!("p{p}"));
    }
    let _ = writeln!(out, "{:>10}  {:<20}what", "max", "p50, 95 % sure");
    let shown = SHOWN.iter().map(|name| (*name, report.summary.figure(name)));
    for (name, values) in
        shown.filter_map(|(name, values)| Some((name, values?))).filter(|(_, v)| v.count() > 0)
    {
        row(out, name, values, &columns, report.context.seed);
    }
    if let Some(steady) = &report.steady {
        let _ = writeln!(out, "\nwhile full, {:.2} s:", steady.duration_secs);
        let tokens = steady.throughput.output_tokens;
        let _ = writeln!(out, "{:<34}{tokens:.1}", "Output tokens a second");
        for name in ["ttft", "tpot", "e2el"] {
            if let Some(values) = steady.figure(name).filter(|values| values.count() > 0) {
                row(out, name, values, &columns, report.context.seed);
            }
        }
    }
}

fn row(out: &mut String, name: &str, values: &Distribution, columns: &[f64], seed: u64) {
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_string(), millis);
    let _ = write!(out, "{name:<18}{:>10}", shown(values.mean()));
    for p in columns {
        let _ = write!(out, "{:>10}", shown(values.percentile(*p)));
    }
    let interval = of_percentile(values, 50.0, seed);
    let interval =
        interval.map_or_else(|| "-".into(), |i| format!("{} .. {}", millis(i.low), millis(i.high)));
    let about = METRICS.iter().find(|metric| metric.name == name).map_or("", |metric| metric.about);
    let _ = writeln!(out, "{:>10}  {interval:<20}{about}", shown(values.max()));
}

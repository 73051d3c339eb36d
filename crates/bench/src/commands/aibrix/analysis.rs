//! Stage `analysis`: figures of an output.jsonl, of this client or of AIBrix's own.
//!
//! Figures are of requests that succeeded. A request that failed is a request that did not keep its target.

use std::fmt::Write;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::config::Config;
use super::plots;
use super::rows::{self, OutputRow};
use crate::metrics::Distribution;
use crate::report::files;

/// A figure of a request: key and words.
type Figure = (&'static str, &'static str, fn(&OutputRow) -> Option<f64>);

/// Every figure, in the order of the report.
const FIGURES: [Figure; 9] = [
    ("e2e_latency_s", "End-to-end latency (s)", |row| Some(row.latency)),
    ("throughput_tokens_per_s", "Per-request throughput (output tokens/s)", |row| Some(row.throughput)),
    ("tokens_per_s", "Tokens per second (all tokens/s)", |row| {
        (row.latency > 0.0).then(|| row.total_tokens as f64 / row.latency)
    }),
    ("prompt_tokens", "Prompt tokens", |row| Some(row.prompt_tokens as f64)),
    ("output_tokens", "Output tokens", |row| Some(row.output_tokens as f64)),
    ("total_tokens", "Total tokens", |row| Some(row.total_tokens as f64)),
    ("ttft_s", "Time to first token (s)", |row| row.ttft),
    ("tpot_s", "Time per output token (s)", |row| row.tpot),
    ("schedule_delay_s", "Sent after it was meant to be (s)", |row| {
        Some(row.start_time - row.intended_time?)
    }),
];

/// What a request must keep: `tpot:0.5`, or several with commas.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    name: String,
    limit_secs: f64,
}

impl Target {
    fn parse(text: &str) -> anyhow::Result<Vec<Self>> {
        let one = |part: &str| {
            let (name, limit) = part.trim().split_once(':')?;
            let limit_secs =
                limit.trim().parse::<f64>().ok().filter(|limit| limit.is_finite() && *limit >= 0.0)?;
            matches!(name, "e2e" | "ttft" | "tpot").then(|| Self { name: name.into(), limit_secs })
        };
        let targets: Option<Vec<Self>> = text.split(',').map(one).collect();
        targets.with_context(|| {
            format!(
                "`goodput_target`: found `{text}`, expected e2e, ttft or tpot with seconds, such as tpot:0.5"
            )
        })
    }

    /// A figure that the request does not have, as TTFT of an answer in one piece, is not kept.
    fn is_kept(&self, row: &OutputRow) -> bool {
        let value = match self.name.as_str() {
            "e2e" => Some(row.latency),
            "ttft" => row.ttft,
            _ => row.tpot,
        };
        row.status == "success" && value.is_some_and(|value| value <= self.limit_secs)
    }
}

/// The figures as text and as JSON.
fn report(rows: &[OutputRow], targets: &[Target]) -> (String, Value) {
    let succeeded = || rows.iter().filter(|row| row.status == "success");
    let (mut text, mut object) = (String::new(), Map::new());
    for (key, words, value) in FIGURES {
        let values = Distribution::new(succeeded().filter_map(value));
        let (Some(mean), Some(median), Some(p99)) = (values.mean(), values.median(), values.percentile(99.0))
        else {
            object.insert(key.into(), Value::Null);
            continue;
        };
        let total = values.sum();
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "{words}: total {total:.3}, average {mean:.3}, median {median:.3}, P99 {p99:.3}");
        let figures =
            json!({"count": values.count(), "total": total, "average": mean, "median": median, "p99": p99});
        object.insert(key.into(), figures);
    }
    let mut errors = Map::new();
    for row in rows.iter().filter(|row| row.status != "success") {
        let kind = row.error_type.as_deref().unwrap_or("unknown");
        let count = errors.get(kind).and_then(Value::as_u64).unwrap_or(0);
        errors.insert(kind.into(), json!(count + 1));
    }
    let completed = succeeded().count();
    let start = rows.iter().map(|row| row.start_time).fold(f64::INFINITY, f64::min);
    let end = rows.iter().map(|row| row.end_time).fold(f64::NEG_INFINITY, f64::max);
    let duration = (end - start).max(0.0);
    let tokens: u64 = succeeded().map(|row| row.total_tokens).sum();
    let output_tokens: u64 = succeeded().map(|row| row.output_tokens).sum();
    let good = rows.iter().filter(|row| targets.iter().all(|target| target.is_kept(row))).count();
    let per_second = |amount: f64| if duration > 0.0 { amount / duration } else { 0.0 };
    let share = good as f64 / rows.len() as f64;
    let words: Vec<String> = targets.iter().map(|one| format!("{}:{}", one.name, one.limit_secs)).collect();
    let words = words.join(",");
    let _ = writeln!(text, "Errors: {} {}", rows.len() - completed, Value::Object(errors.clone()));
    let _ = writeln!(text, "Total requests: {}", rows.len());
    let _ = writeln!(text, "Duration: {duration:.3} s");
    let _ = writeln!(text, "Total tokens: {tokens}");
    let _ = writeln!(text, "End-to-end throughput: {:.2} tokens/s", per_second(tokens as f64));
    let _ = writeln!(
        text,
        "Goodput ({words}): {good} of {} requests, {share:.4} of all, {:.3} requests/s",
        rows.len(),
        per_second(good as f64)
    );
    let whole = [
        ("total_requests", json!(rows.len())),
        ("completed", json!(completed)),
        ("errors", Value::Object(errors)),
        ("duration_s", json!(duration)),
        ("total_tokens", json!(tokens)),
        ("output_tokens_total", json!(output_tokens)),
        ("end_to_end_throughput_tokens_per_s", json!(per_second(tokens as f64))),
        ("goodput_target", json!(words)),
        ("goodput_requests", json!(good)),
        ("goodput_share", json!(share)),
        ("goodput_requests_per_s", json!(per_second(good as f64))),
    ];
    object.extend(whole.map(|(key, value)| (key.to_string(), value)));
    (text, Value::Object(object))
}

/// Prints and draws the figures, and writes them as analysis.json.
///
/// # Errors
/// When the file is not what it should be, or nothing can be written.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let targets = Target::parse(&config.text("goodput_target")?)?;
    let path = config.path("client_output")?.join("output.jsonl");
    let rows: Vec<OutputRow> = rows::read(&path, "client")?;
    let (text, object) = report(&rows, &targets);
    print!("analysis of {}:\n{text}", path.display());
    let folder = config.path("trace_output")?;
    files::write(&folder.join("analysis.json"), format!("{object:#}\n").as_bytes())?;
    plots::performance(&rows, &folder.join("performance_metrics_time_series"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(latency: f64, tpot: Option<f64>, fails: bool) -> OutputRow {
        let mut row: OutputRow = serde_json::from_value(json!({
            "request_id": 0, "status": "success", "input": [], "output": "", "prompt_tokens": 10,
            "output_tokens": 20, "total_tokens": 30, "latency": latency, "throughput": 20.0 / latency.max(1.0),
            "start_time": 1.0, "end_time": 1.0 + latency, "ttft": 0.1, "tpot": tpot,
        }))
        .unwrap();
        if fails {
            row.status = "error".into();
            row.error_type = Some("status".into());
        }
        row
    }

    #[test]
    fn failed_requests_have_no_figures_and_keep_no_target() {
        let rows = [
            row(1.0, Some(0.1), false),
            row(3.0, Some(0.7), false),
            row(0.0, None, true),
            row(2.0, None, false),
        ];
        let (text, object) = report(&rows, &Target::parse("tpot:0.5").unwrap());
        assert_eq!(object["e2e_latency_s"]["average"], 2.0);
        assert_eq!(object["tpot_s"]["count"], 2);
        assert_eq!(object["errors"]["status"], 1);
        assert_eq!(
            (object["goodput_requests"].clone(), object["goodput_share"].clone()),
            (json!(1), json!(0.25))
        );
        assert_eq!((object["duration_s"].clone(), object["total_tokens"].clone()), (json!(3.0), json!(90)));
        assert_eq!(object["end_to_end_throughput_tokens_per_s"], 30.0);
        assert!(text.contains("Goodput (tpot:0.5): 1 of 4 requests"));
        // Two targets: both must be kept; latency of the failed one is zero and is not kept.
        let (_, object) = report(&rows, &Target::parse("e2e:2, ttft:1").unwrap());
        assert_eq!(object["goodput_requests"], 2);
        assert!(Target::parse("itl:1").is_err() && Target::parse("tpot").is_err());
    }
}

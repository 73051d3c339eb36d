//! The record of a workload: sageLLM's names and formulas. Figures that there are not are null.

use serde_json::{Map, Value, json};

use super::telemetry::Seen;
use crate::metrics::Distribution;
use crate::record::Record;
use crate::report::{self, Report};

/// Figures with average, percentiles and deviation: their name here, and in the metrics.
const FIGURES: [(&str, &str); 4] =
    [("ttft", "ttft"), ("tpot", "tpot_sage"), ("itl", "itl"), ("e2el", "e2el")];

/// The record of a workload.
pub(super) fn record(report: &Report, seen: &Seen) -> Map<String, Value> {
    let summary = &report.summary;
    let done: Vec<&Record> = report.run.records.iter().filter(|record| record.completed()).collect();
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| drop(out.insert(name.into(), value));
    let millis = |value: Option<f64>| json!(value.map(|value| value * 1e3));
    for (name, ours) in FIGURES {
        let values = &summary.figures[ours];
        put(&format!("avg_{name}_ms"), millis(values.mean()));
        for p in [50.0, 95.0, 99.0] {
            put(&format!("p{p}_{name}_ms"), millis(values.percentile_nearest_rank(p)));
        }
        put(&format!("std_{name}_ms"), millis(values.std_sample()));
    }
    put("avg_tbt_ms", millis(summary.figures["tpot"].mean()));
    // Of each request by itself, then the mean; the others are of all requests together.
    let own =
        Distribution::new(done.iter().map(|record| {
            f64::from(record.output_tokens()) / record.end.since(record.service_start()).secs()
        }));
    put("avg_throughput_tps", json!(own.mean()));
    let start = done.iter().map(|record| record.enqueued).min();
    let end = done.iter().map(|record| record.end).max();
    let total = start.zip(end).map(|(start, end)| end.since(start).secs()).filter(|secs| *secs > 0.0);
    let rate = |amount: u64| json!(total.map(|total| amount as f64 / total));
    put("request_throughput_rps", rate(done.len() as u64));
    put("input_throughput_tps", rate(summary.input_tokens));
    put("output_throughput_tps", rate(summary.output_tokens));
    put("total_throughput_tps", rate(summary.input_tokens + summary.output_tokens));
    put("total_input_tokens", json!(summary.input_tokens));
    put("total_output_tokens", json!(summary.output_tokens));
    let requests = report.run.records.len();
    put("total_requests", json!(requests));
    put("successful_requests", json!(done.len()));
    put("failed_requests", json!(requests - done.len()));
    put("error_rate", json!((requests - done.len()) as f64 / requests.max(1) as f64));
    put("peak_mem_mb", json!(seen.memory_mb.map(|(peak, _)| peak.round() as u64)));
    put("avg_mem_mb", json!(seen.memory_mb.map(|(_, mean)| mean)));
    // Both spellings: that of the document, and that of the program.
    let whole = |value: Option<f64>| json!(value.map(|value| value.round() as u64));
    let pairs = [
        ("kv_used_tokens", "total_kv_used_tokens", whole(seen.kv_tokens_used)),
        ("kv_used_bytes", "total_kv_used_bytes", Value::Null),
        ("prefix_hit_rate", "avg_prefix_hit_rate", json!(seen.prefix_hit_rate)),
        ("evict_count", "total_evict_count", whole(seen.evictions)),
        ("evict_ms", "total_evict_ms", Value::Null),
        ("spec_accept_rate", "avg_spec_accept_rate", json!(seen.spec_accept_rate)),
    ];
    for (short, long, value) in pairs {
        put(short, value.clone());
        put(long, value);
    }
    put("kv_used_pages", whole(seen.kv_pages_used));
    put("total_time_s", json!(total));
    put("start_time", json!(start.map(|at| report.run.clock.unix_secs(at))));
    put("end_time", json!(end.map(|at| report.run.clock.unix_secs(at))));
    put("errors", Value::Object(report::json::errors(summary)));
    put("verdict", json!(report.verdict.to_string()));
    out
}

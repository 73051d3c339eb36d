//! The report with every figure under its own name, for programs. `compare` and `gate` read it.

use serde_json::{Map, Value, json};

use super::Report;
use crate::clock::iso;
use crate::metrics::{Distribution, ErrorCount, METRICS, Summary, of_mean, of_percentile};

/// Changes when a name of the file changes its meaning.
pub const VERSION: u32 = 1;
/// What every figure has.
const PERCENTILES: [f64; 9] = [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0];

fn figure(values: &Distribution, seed: u64) -> Value {
    let mut out = Map::new();
    out.insert("count".into(), json!(values.count()));
    out.insert("mean".into(), json!(values.mean()));
    out.insert("std".into(), json!(values.std_population()));
    out.insert("min".into(), json!(values.min()));
    for p in PERCENTILES {
        out.insert(format!("p{p}"), json!(values.percentile(p)));
    }
    out.insert("p99.9".into(), json!(values.percentile(99.9)));
    out.insert("max".into(), json!(values.max()));
    let interval = |interval: Option<crate::metrics::Interval>| json!(interval.map(|i| [i.low, i.high]));
    out.insert("mean_ci95".into(), interval(of_mean(values, seed)));
    out.insert("p50_ci95".into(), interval(of_percentile(values, 50.0, seed)));
    out.insert("p99_ci95".into(), interval(of_percentile(values, 99.0, seed)));
    Value::Object(out)
}

/// What went wrong, by class.
pub fn errors(summary: &Summary) -> Map<String, Value> {
    let one = |error: &ErrorCount| json!({"count": error.count, "example": error.example});
    summary.errors.iter().map(|(class, error)| (class.to_string(), one(error))).collect()
}

/// The figures of a part of a run. Times are in seconds.
pub fn summary(summary: &Summary, seed: u64) -> Value {
    let figures = METRICS.iter().filter_map(|metric| Some((metric.name, summary.figure(metric.name)?)));
    let figures = figures.filter(|(_, values)| values.count() > 0);
    let figures: Map<String, Value> =
        figures.map(|(name, values)| (name.to_string(), figure(values, seed))).collect();
    let errors = errors(summary);
    let goodput = summary.goodput.as_ref().map(|goodput| {
        let slos = goodput.slos.iter().zip(&goodput.kept);
        let slos: Vec<Value> = slos
            .map(|(slo, kept)| json!({"metric": slo.metric, "limit": slo.limit_secs, "kept": kept}))
            .collect();
        json!({"slos": slos, "good": goodput.good, "asked": goodput.asked, "rate": goodput.rate, "attainment": goodput.attainment()})
    });
    json!({
        "duration": summary.duration_secs,
        "requests": summary.requests,
        "completed": summary.completed,
        "failed": summary.failed,
        "cancelled": summary.cancelled,
        "dropped": summary.dropped,
        "skipped": summary.skipped,
        "error_rate": summary.error_rate(),
        "errors": errors,
        "input_tokens": summary.input_tokens,
        "output_tokens": summary.output_tokens,
        "cached_tokens": summary.cached_tokens,
        "counted_by_server": summary.counted_by_server,
        "request_throughput": summary.throughput.requests,
        "input_throughput": summary.throughput.input_tokens,
        "output_throughput": summary.throughput.output_tokens,
        "peak_in_flight": summary.peak_in_flight,
        "mean_in_flight": summary.mean_in_flight,
        "goodput": goodput,
        "figures": figures,
    })
}

/// The reports of several loads as one file, with what they found out together.
pub fn collection(kind: &str, found: Map<String, Value>, runs: Vec<Value>) -> Value {
    let mut out = Map::from_iter([("pie_bench".into(), json!(VERSION)), ("kind".into(), json!(kind))]);
    out.extend(found);
    out.insert("runs".into(), Value::Array(runs));
    Value::Object(out)
}

/// The report of one of several loads, under the load's name.
pub fn of_load(report: &Report, load: &str) -> Value {
    let mut out = object(report);
    out["load"] = json!(load);
    out
}

/// The whole report.
pub fn object(report: &Report) -> Value {
    let (context, used) = (&report.context, &report.run.used);
    let offered = report.plan.offered_rate;
    json!({
        "pie_bench": VERSION,
        "started": iso(report.started_unix()),
        "command": context.command,
        "url": context.url,
        "backend": context.backend,
        "model": context.model,
        "label": context.label,
        "dataset": context.dataset,
        "schedule": report.plan.about,
        "offered_rate": offered,
        "max_concurrency": context.max_concurrency,
        "seed": context.seed,
        "metadata": context.metadata.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "notes": context.notes,
        "token_source": context.token_source,
        "interrupted": report.run.interrupted,
        "valid": report.verdict.is_valid(),
        "client_limits": report.verdict.reasons,
        "client": {
            "cpu_secs": used.cpu_secs, "wall_secs": used.wall_secs, "workers_busy": used.workers_busy,
            "coordinator_busy": used.coordinator_busy, "connections": used.connections,
            "file_limit": used.file_limit, "peak_memory_bytes": used.peak_memory_bytes,
        },
        "telemetry": report.telemetry.as_ref().map(crate::telemetry::json),
        "summary": summary(&report.summary, context.seed),
        "steady": report.steady.as_ref().map(|steady| summary(steady, context.seed)),
    })
}

//! The Benchmark Report of llm-d, version 0.2.1: the format that several tools convert to.

use serde_json::{Map, Value, json};

use super::Report;
use crate::clock::iso;
use crate::metrics::Distribution;

/// The version of the format.
const VERSION: &str = "0.2.1";

fn statistics(values: &Distribution, units: &str, factor: f64) -> Option<Value> {
    let scaled = |value: Option<f64>| value.map(|value| value * factor);
    let percentiles = [
        ("p0p1", 0.1),
        ("p1", 1.0),
        ("p5", 5.0),
        ("p10", 10.0),
        ("p25", 25.0),
        ("p50", 50.0),
        ("p75", 75.0),
        ("p90", 90.0),
        ("p95", 95.0),
        ("p99", 99.0),
        ("p99p9", 99.9),
    ];
    let mut out = Map::new();
    out.insert("units".into(), json!(units));
    out.insert("mean".into(), json!(scaled(values.mean())?));
    out.insert("stddev".into(), json!(scaled(values.std_population())));
    out.insert("min".into(), json!(scaled(values.min())));
    for (name, p) in percentiles {
        out.insert(name.into(), json!(scaled(values.percentile(p))));
    }
    out.insert("max".into(), json!(scaled(values.max())));
    Some(Value::Object(out))
}

/// A rate of the whole run, which has a mean alone.
fn rate(value: f64, units: &str) -> Value {
    json!({"units": units, "mean": value})
}

/// How the lengths of the samples are spread.
fn lengths(values: &Distribution) -> Value {
    let (min, max) = (values.min().unwrap_or(0.0), values.max().unwrap_or(0.0));
    let mean = values.mean().unwrap_or(0.0);
    if min == max {
        return json!({"distribution": "fixed", "value": mean});
    }
    json!({
        "distribution": "other", "value": mean, "std_dev": values.std_population(),
        "min": min as u64, "max": (max as u64).max(1),
    })
}

/// The report.
pub fn object(report: &Report) -> Value {
    let (context, summary) = (&report.context, &report.summary);
    let completed = || report.run.records.iter().filter(|record| record.completed());
    let tokens = |count: fn(&crate::record::Record) -> u32| {
        Distribution::new(completed().map(|record| f64::from(count(record))).collect::<Vec<_>>())
    };
    let figure = |name: &str, units: &str| statistics(summary.figure(name)?, units, 1.0);
    let sent: Vec<_> =
        report.plan.requests.iter().map(|request| &report.plan.samples[request.sample]).collect();
    let planned = |count: fn(&crate::dataset::Sample) -> u32| {
        Distribution::new(sent.iter().map(|sample| f64::from(count(sample))).collect::<Vec<_>>())
    };
    let made_up =
        matches!(context.dataset.as_str(), "random" | "random-ids" | "prefix_repetition" | "multi_turn");
    let turns = report.run.records.iter().map(|record| record.turn).max().unwrap_or(0) + 1;
    let started = report.started_unix();
    let uid = format!(
        "pie-bench-{}-{}",
        crate::clock::compact(started),
        report.run.clock.unix_secs(summary.window.end).to_bits()
    );
    json!({
        "version": VERSION,
        "run": {
            "uid": uid,
            "time": {
                "start": iso(started),
                "end": iso(started + summary.duration_secs),
                "duration": format!("PT{:.6}S", summary.duration_secs),
            },
            "description": context.label,
            "keywords": context.metadata.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        },
        "scenario": {
            "load": {
                "metadata": {},
                "standardized": {
                    "tool": "pie-bench",
                    "tool_version": env!("CARGO_PKG_VERSION"),
                    "source": if made_up { "random" } else { "sampled" },
                    "input_seq_len": lengths(&planned(|sample| sample.prompt_tokens)),
                    "output_seq_len": lengths(&planned(|sample| sample.output_tokens)),
                    "multi_turn": (turns > 1).then(|| json!({"enabled": true, "max_turns": {"distribution": "other", "value": turns}})),
                    "rate_qps": report.plan.offered_rate,
                    "concurrency": context.max_concurrency,
                },
                "native": {
                    "args": {"command": context.command, "schedule": report.plan.about, "dataset": context.dataset, "seed": context.seed},
                    "config": {"url": context.url, "backend": context.backend, "model": context.model, "verdict": report.verdict.to_string()},
                },
            },
        },
        "results": {
            "request_performance": {
                "aggregate": {
                    "requests": {
                        "total": summary.requests,
                        "failures": summary.failed + summary.dropped,
                        "incomplete": summary.cancelled,
                        "input_length": statistics(&tokens(|record| record.prompt_tokens()), "count", 1.0),
                        "output_length": statistics(&tokens(|record| record.output_tokens()), "count", 1.0),
                    },
                    "latency": {
                        "time_to_first_token": figure("ttft", "s"),
                        "normalized_time_per_output_token": figure("ntpot", "s/token"),
                        "time_per_output_token": figure("tpot", "s/token"),
                        "inter_token_latency": figure("itl_token", "s/token"),
                        "request_latency": figure("e2el", "s"),
                    },
                    "throughput": {
                        "input_token_rate": rate(summary.throughput.input_tokens, "tokens/s"),
                        "output_token_rate": rate(summary.throughput.output_tokens, "tokens/s"),
                        "total_token_rate": rate(summary.throughput.input_tokens + summary.throughput.output_tokens, "tokens/s"),
                        "request_rate": rate(summary.throughput.requests, "queries/s"),
                    },
                },
            },
        },
    })
}

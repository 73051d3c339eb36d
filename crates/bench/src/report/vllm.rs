//! The file of `vllm bench serve --save-result`: one flat object with its names, in its order.

use serde_json::{Map, Value, json};

use super::Report;
use crate::clock::compact;
use crate::metrics::Distribution;
use crate::record::Record;

/// The metrics that vLLM has, with ours.
const METRICS: [(&str, &str); 6] = [
    ("ttft", "ttft"),
    ("tpot", "tpot"),
    ("itl", "itl"),
    ("e2el", "e2el"),
    ("client_queue_time", "queue"),
    ("e2el_including_client_queue", "e2el_response"),
];

fn number(value: f64) -> Value {
    // vLLM writes a rate without end as a word, and JSON has no other way.
    if value.is_infinite() { json!("inf") } else { json!(value) }
}

/// A percentile as it is in names: without `.0`.
fn percentile_name(p: f64) -> String {
    if p.fract() == 0.0 { format!("p{}", p as u64) } else { format!("p{p}") }
}

/// The name of the file that vLLM gives such a run.
pub fn file_name(report: &Report) -> String {
    let context = &report.context;
    let label = context.label.as_deref().unwrap_or(&context.backend);
    let concurrency = context.max_concurrency.map_or(String::new(), |limit| format!("-concurrency{limit}"));
    let model = context.model.rsplit('/').next().unwrap_or_default();
    let model: String = model.chars().map(|c| if c.is_control() || c == '\\' { '_' } else { c }).collect();
    let date = compact(report.started_unix());
    match &context.ramp {
        Some((strategy, from, to)) => {
            format!("{label}-ramp-up-{strategy}-{from}qps-{to}qps{concurrency}-{model}-{date}.json")
        }
        None if context.request_rate.is_infinite() => {
            format!("{label}-infqps{concurrency}-{model}-{date}.json")
        }
        None => format!("{label}-{:?}qps{concurrency}-{model}-{date}.json", context.request_rate),
    }
}

/// The object. Lists by request are in it when `detailed`.
pub fn object(report: &Report, detailed: bool) -> Map<String, Value> {
    let (context, summary) = (&report.context, &report.summary);
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| drop(out.insert(name.to_string(), value));
    put("date", json!(compact(report.started_unix())));
    put("endpoint_type", json!(context.backend));
    put("backend", json!(context.backend));
    put("label", json!(context.label));
    put("model_id", json!(context.model));
    put("tokenizer_id", json!(context.tokenizer));
    put("num_prompts", json!(context.num_prompts));
    for (name, value) in &context.metadata {
        put(name, json!(value));
    }
    put("request_rate", number(context.request_rate));
    put("burstiness", number(context.burstiness));
    put("max_concurrency", json!(context.max_concurrency));
    if let Some((strategy, from, to)) = &context.ramp {
        put("ramp_up_strategy", json!(strategy));
        put("ramp_up_start_rps", json!(from));
        put("ramp_up_end_rps", json!(to));
    }
    put("duration", json!(summary.duration_secs));
    put("completed", json!(summary.completed));
    put("failed", json!(summary.requests - summary.completed));
    put("total_input_tokens", json!(summary.input_tokens));
    put("total_output_tokens", json!(summary.output_tokens));
    put("request_throughput", json!(summary.throughput.requests));
    put("request_goodput", json!(summary.goodput.as_ref().map(|goodput| goodput.rate)));
    put("output_throughput", json!(summary.throughput.output_tokens));
    put("input_throughput", json!(summary.throughput.input_tokens));
    put("total_token_throughput", json!(summary.throughput.input_tokens + summary.throughput.output_tokens));
    put("max_output_tokens_per_s", json!(summary.peak_chunks_per_second as f64));
    put("max_concurrent_requests", json!(summary.peak_in_flight));
    put("rtfx", json!(0.0));
    if detailed {
        details(&mut put, &report.run.records);
    }
    for (name, ours) in METRICS {
        if context.percentile_metrics.iter().any(|metric| metric == name) {
            let values = &summary.figures[ours];
            figures(&mut put, name, values, &context.percentiles);
        }
    }
    out
}

fn figures(put: &mut impl FnMut(&str, Value), name: &str, values: &Distribution, percentiles: &[f64]) {
    // Without a value vLLM writes zeros, and readers of these files expect numbers.
    let millis = |value: Option<f64>| json!(value.unwrap_or(0.0) * 1e3);
    put(&format!("mean_{name}_ms"), millis(values.mean()));
    put(&format!("median_{name}_ms"), millis(values.median()));
    put(&format!("std_{name}_ms"), millis(values.std_population()));
    for &p in percentiles {
        put(&format!("{}_{name}_ms", percentile_name(p)), millis(values.percentile(p)));
    }
}

fn details(put: &mut impl FnMut(&str, Value), records: &[Record]) {
    let list = |value: fn(&Record) -> Value| Value::Array(records.iter().map(value).collect());
    put("input_lens", list(|r| json!(r.prompt_tokens())));
    put("output_lens", list(|r| json!(if r.completed() { r.output_tokens() } else { 0 })));
    put("ttfts", list(|r| json!(r.first_token.map_or(0.0, |at| at.since(r.service_start()).secs()))));
    put(
        "itls",
        list(|r| json!(r.chunks.windows(2).map(|p| p[1].at.since(p[0].at).secs()).collect::<Vec<_>>())),
    );
    put("start_times", list(|r| json!(r.service_start().secs())));
    put("latencies", list(|r| json!(r.last_token.unwrap_or(r.end).since(r.service_start()).secs())));
    put("queue_times", list(|r| json!(r.queue_wait().unwrap_or_default().secs())));
    put("generated_texts", list(|r| json!(r.text)));
    put("errors", list(|r| json!(r.failure().map_or("", |failure| &failure.message))));
}

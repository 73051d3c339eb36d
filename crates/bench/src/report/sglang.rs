//! The line that SGLang's `bench_serving` appends, with its names.

use serde_json::{Map, Value, json};

use super::Report;

/// The line. A rate without end is the word `Infinity` in Python's JSON, which other readers refuse; it is written as
/// the string `"inf"`.
pub fn object(report: &Report, detailed: bool) -> Map<String, Value> {
    let (context, summary) = (&report.context, &report.summary);
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| drop(out.insert(name.to_string(), value));
    let rate = if context.request_rate.is_infinite() { json!("inf") } else { json!(context.request_rate) };
    put("tag", json!(context.label));
    put("backend", json!(context.backend));
    put("dataset_name", json!(context.dataset));
    put("request_rate", rate);
    put("max_concurrency", json!(context.max_concurrency));
    put("duration", json!(summary.duration_secs));
    put("completed", json!(summary.completed));
    put("total_input_tokens", json!(summary.input_tokens));
    put("total_input_text_tokens", json!(summary.input_tokens));
    put("total_input_vision_tokens", json!(0));
    put("total_output_tokens", json!(summary.output_tokens));
    put("total_output_tokens_retokenized", json!(summary.output_tokens));
    put("request_throughput", json!(summary.throughput.requests));
    put("input_throughput", json!(summary.throughput.input_tokens));
    put("output_throughput", json!(summary.throughput.output_tokens));
    put("total_throughput", json!(summary.throughput.input_tokens + summary.throughput.output_tokens));
    for (name, ours) in [("e2e_latency", "e2el"), ("ttft", "ttft"), ("tpot", "tpot"), ("itl", "itl")] {
        let values = &summary.figures[ours];
        let millis = |value: Option<f64>| json!(value.unwrap_or(0.0) * 1e3);
        put(&format!("mean_{name}_ms"), millis(values.mean()));
        put(&format!("median_{name}_ms"), millis(values.median()));
        put(&format!("std_{name}_ms"), millis(values.std_population()));
        for p in [90.0, 95.0, 99.0] {
            put(&format!("p{p}_{name}_ms"), millis(values.percentile(p)));
        }
    }
    put("concurrency", json!(summary.mean_in_flight));
    put("accept_length", Value::Null);
    put("max_output_tokens_per_s", json!(summary.peak_tokens_per_second));
    put("max_concurrent_requests", json!(summary.peak_in_flight));
    if let Some(goodput) = &summary.goodput {
        let limits: Map<String, Value> =
            goodput.slos.iter().map(|slo| (slo.metric.to_string(), json!(slo.limit_secs * 1e3))).collect();
        let share = |kept: usize| json!(kept as f64 / goodput.asked.max(1) as f64);
        let each = goodput.slos.iter().zip(&goodput.kept);
        let each: Map<String, Value> =
            each.map(|(slo, kept)| (slo.metric.to_string(), share(*kept))).collect();
        put("goodput_slos_ms", Value::Object(limits));
        put("request_goodput", json!(goodput.rate));
        put("slo_attainment", json!(goodput.attainment()));
        put("slo_attainment_by_metric", Value::Object(each));
    }
    if detailed {
        let full = super::vllm::object(report, true);
        for name in ["input_lens", "output_lens", "ttfts", "itls", "generated_texts", "errors"] {
            put(name, full.get(name).cloned().unwrap_or_default());
        }
    }
    out
}

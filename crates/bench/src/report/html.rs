//! The report as one page for browsers. Everything is in the file: it needs no network and keeps its charts for ever.

use serde_json::{Value, json};

use super::{Report, json as figures, markdown};
use crate::clock::Nanos;

/// The page around the data. `/*DATA*/` is replaced.
const PAGE: &str = include_str!("page.html");
/// Most requests that are drawn one by one; beyond, every so many-th.
const POINTS: usize = 20_000;

/// JSON that may stand in a script: no `</script>` and no line separators within.
fn script_safe(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// The page.
pub fn text(report: &Report) -> String {
    let summary = &report.summary;
    let start = summary.window.start;
    let records = &report.run.records;
    let every = records.len().div_ceil(POINTS).max(1);
    let seconds = |at: Nanos| (at.since(start).secs() * 1e6).round() / 1e6;
    let millis = |later: Option<Nanos>, earlier: Nanos| {
        later.map(|later| (later.since(earlier).millis() * 1e3).round() / 1e3)
    };
    let sent = records.iter().filter(|record| record.started.is_some()).step_by(every);
    let requests: Vec<Value> = sent
        .map(|record| {
            let last = record.last_token.unwrap_or(record.end);
            json!([
                seconds(record.intended),
                seconds(record.service_start()),
                record.first_token.map(seconds),
                seconds(last),
                millis(record.first_token, record.service_start()),
                millis(Some(last), record.intended),
                record.output_tokens(),
                record.prompt_tokens(),
                u8::from(record.completed()),
                record.failure().map(|failure| failure.class.name()),
            ])
        })
        .collect();
    let bins = (summary.duration_secs.ceil() as usize).clamp(1, 3600);
    let width = (summary.duration_secs / bins as f64).max(1e-3);
    let mut tokens = vec![0.0; bins];
    for record in records.iter().filter(|record| record.completed()) {
        let each = f64::from(record.output_tokens()) / record.chunks.len().max(1) as f64;
        for chunk in &record.chunks {
            let bin = (chunk.at.since(start).secs() / width) as usize;
            tokens[bin.min(bins - 1)] += each / width;
        }
    }
    let percentiles = |name: &str| {
        let values = summary.figure(name).filter(|values| values.count() > 0);
        let at =
            [0.0, 1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 99.0, 99.9, 100.0];
        values.map(|values| at.map(|p| [p, values.percentile(p).unwrap_or(0.0) * 1e3]))
    };
    let names = ["ttft", "ttft_response", "tpot", "itl", "e2el", "e2el_response", "queue", "lag"];
    let curves: serde_json::Map<String, Value> =
        names.iter().filter_map(|name| Some((name.to_string(), json!(percentiles(name)?)))).collect();
    let data = json!({
        "report": figures::object(report),
        "verdict": report.verdict.to_string(),
        "markdown": markdown::text(report),
        "requests": requests,
        "every": every,
        "tokens_per_second": {"width": width, "values": tokens},
        "curves": curves,
        "about": crate::metrics::METRICS.iter().map(|m| (m.name.to_string(), json!(m.about))).collect::<serde_json::Map<_, _>>(),
    });
    PAGE.replace("/*DATA*/null", &script_safe(&data))
}

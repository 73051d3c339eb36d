//! What each request did when, as a page for browsers: the wait for its first token, then its chunks by how long they were
//! waited for.

use super::Report;
use super::chart::{Span, Theme, Timeline};
use crate::clock::Nanos;
use crate::record::Record;

/// Most requests that are drawn; the first of the run.
const REQUESTS: usize = 1000;

/// The spans of a request: kind 0 until the first token, then 1 to 3 for gaps between chunks, the longer the higher.
fn spans(record: &Record, start: Nanos, thresholds: [f64; 2]) -> Vec<Span> {
    let seconds = |at: Nanos| at.since(start).secs();
    let Some(first) = record.first_token else { return Vec::new() };
    let mut spans = vec![Span { from: seconds(record.service_start()), to: seconds(first), kind: 0 }];
    for pair in record.chunks.windows(2) {
        let millis = pair[1].at.since(pair[0].at).millis();
        let kind = 1 + thresholds.iter().filter(|threshold| millis > **threshold).count();
        match spans.last_mut().filter(|last| last.kind == kind) {
            Some(last) => last.to = seconds(pair[1].at),
            None => spans.push(Span { from: seconds(pair[0].at), to: seconds(pair[1].at), kind }),
        }
    }
    spans
}

/// The page. `thresholds` are milliseconds between chunks.
pub fn text(report: &Report, thresholds: [f64; 2]) -> String {
    let [low, high] = thresholds;
    let sent = || report.run.records.iter().filter(|record| record.started.is_some());
    let start = sent().map(Record::service_start).min().unwrap_or_default();
    let mut records: Vec<&Record> = sent().collect();
    records.sort_by_key(|record| record.service_start());
    let all = records.len();
    records.truncate(REQUESTS);
    let drawn =
        if all > REQUESTS { format!(", the first {REQUESTS} of {all} requests") } else { String::new() };
    let timeline = Timeline {
        title: "Timeline of requests".into(),
        x_label: format!("Time (s), a line for each request{drawn}"),
        kinds: vec![
            "to the first token".into(),
            format!("gaps up to {low} ms"),
            format!("up to {high} ms"),
            "longer".into(),
        ],
        rows: records.iter().map(|record| spans(record, start, thresholds)).collect(),
    };
    let svg = timeline.svg(Theme::Light);
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Timeline of requests</title>\n<body style=\"margin: 1em\">\n{svg}</body></html>\n"
    )
}

//! A request as a row of `metrics.csv`, and InferX's figures of it.

use serde::Serialize;

use crate::clock::Clock;
use crate::record::{Outcome, Record};

/// A row. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) request_id: String,
    /// When it arrived and joined the queue for a slot.
    pub(super) enqueue_time: f64,
    /// When it had a slot.
    pub(super) send_time: Option<f64>,
    /// When the first chunk with a token was there; the end, for an answer in one piece.
    pub(super) first_byte_time: Option<f64>,
    pub(super) end_time: Option<f64>,
    pub(super) prompt_tokens: u32,
    /// Tokens of the answer; none where there is no way to know.
    pub(super) resp_tokens: Option<u32>,
    pub(super) bytes_received: u64,
    /// HTTP status.
    pub(super) status: Option<u16>,
    /// What went wrong; empty for a whole answer.
    pub(super) error: String,
}

/// The head of the file.
pub(super) const HEADER: &str = "request_id,enqueue_time,send_time,first_byte_time,end_time,prompt_tokens,resp_tokens,bytes_received,status,error";

impl Row {
    /// Of a record. `id` is unique among all runs.
    pub(super) fn new(record: &Record, clock: &Clock, id: String) -> Self {
        let completed = record.completed();
        let counted = Some(record.output_tokens()).filter(|tokens| *tokens > 0);
        let words = Some(record.text.split_whitespace().count() as u32).filter(|words| *words > 0);
        let was_sent = record.started.is_some();
        let first = record.first_token.or(completed.then_some(record.end));
        Self {
            request_id: id,
            enqueue_time: clock.unix_secs(record.enqueued),
            send_time: record.started.map(|at| clock.unix_secs(at)),
            first_byte_time: first.map(|at| clock.unix_secs(at)),
            end_time: was_sent.then(|| clock.unix_secs(record.end)),
            prompt_tokens: record.prompt_tokens(),
            resp_tokens: counted.or(words),
            bytes_received: record.bytes_received,
            status: record.status,
            error: match &record.outcome {
                Outcome::Completed => String::new(),
                Outcome::Failed(failure) => format!("{}: {}", failure.class.name(), failure.message),
                Outcome::Dropped => "dropped".into(),
                Outcome::Cancelled => "cancelled".into(),
                Outcome::Skipped => "skipped".into(),
            },
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.error.is_empty()
    }

    /// Seconds to the first chunk.
    pub(super) fn ttft(&self) -> Option<f64> {
        Some(self.first_byte_time? - self.send_time?)
    }

    /// Seconds for each token of the answer. An answer in one piece has none: all of its tokens come at once.
    pub(super) fn tpot(&self) -> Option<f64> {
        let decode = self.end_time? - self.first_byte_time?;
        let tokens = self.resp_tokens.filter(|tokens| *tokens > 0)?;
        (decode > 0.0).then(|| decode / f64::from(tokens))
    }

    /// Seconds of the whole request.
    pub(super) fn latency(&self) -> Option<f64> {
        Some(self.end_time? - self.send_time?)
    }

    /// Seconds in the queue for a slot.
    pub(super) fn queue_wait(&self) -> Option<f64> {
        Some(self.send_time? - self.enqueue_time)
    }

    /// As a line of the file.
    pub(super) fn csv(&self) -> String {
        let time = |at: Option<f64>| at.map_or(String::new(), |at| format!("{at:.6}"));
        [
            self.request_id.clone(),
            time(Some(self.enqueue_time)),
            time(self.send_time),
            time(self.first_byte_time),
            time(self.end_time),
            self.prompt_tokens.to_string(),
            self.resp_tokens.map_or(String::new(), |tokens| tokens.to_string()),
            self.bytes_received.to_string(),
            self.status.map_or(String::new(), |status| status.to_string()),
            quoted(&self.error),
        ]
        .join(",")
    }
}

/// A cell of a CSV file, in quotes where it needs them.
pub(super) fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}

//! One line for each request, for spreadsheets and data frames. Moments are in seconds from the start of the run.

use super::Report;
use crate::clock::Nanos;
use crate::record::{Outcome, Record};

/// The names of the columns.
const COLUMNS: &str = "index,request_id,session,turn,outcome,error,status,intended,enqueued,released,started,sent,headers,first_byte,first_token,first_content,last_token,end,prompt_tokens,output_tokens,cached_tokens,chunks,bytes_received,reused_connection,finish_reason,message";

/// A field: in quotes where it must be.
fn field(text: &str) -> String {
    // A text that a spreadsheet would take for a formula is made a plain one.
    let text = if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text.to_string() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn outcome(record: &Record) -> &'static str {
    match record.outcome {
        Outcome::Completed => "completed",
        Outcome::Failed(_) => "failed",
        Outcome::Dropped => "dropped",
        Outcome::Cancelled => "cancelled",
        Outcome::Skipped => "skipped",
    }
}

fn line(record: &Record) -> String {
    let moment = |at: Option<Nanos>| at.map_or(String::new(), |at| format!("{:.6}", at.secs()));
    let number = |value: Option<u32>| value.map_or(String::new(), |value| value.to_string());
    let failure = record.failure();
    [
        record.index.to_string(),
        field(&record.request_id),
        number(record.session),
        record.turn.to_string(),
        outcome(record).into(),
        failure.map_or("", |failure| failure.class.name()).into(),
        record.status.map_or(String::new(), |status| status.to_string()),
        moment(Some(record.intended)),
        moment(Some(record.enqueued)),
        moment(record.released),
        moment(record.started),
        moment(record.sent),
        moment(record.headers),
        moment(record.first_byte),
        moment(record.first_token),
        moment(record.first_content),
        moment(record.last_token),
        moment(Some(record.end)),
        record.prompt_tokens().to_string(),
        record.output_tokens().to_string(),
        number(record.usage.cached),
        record.chunks.len().to_string(),
        record.bytes_received.to_string(),
        record.reused_connection.to_string(),
        field(record.finish_reason.as_deref().unwrap_or_default()),
        field(failure.map_or("", |failure| &failure.message)),
    ]
    .join(",")
}

/// The file.
pub fn text(report: &Report) -> String {
    let lines = report.run.records.iter().map(line);
    std::iter::once(COLUMNS.to_string()).chain(lines).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_as_many_fields_as_the_head_and_quotes_what_must_be() {
        let record = Record::planned(0, Nanos(0), Nanos(0), Outcome::Skipped);
        assert_eq!(line(&record).split(',').count(), COLUMNS.split(',').count());
        assert_eq!(field("a,\"b\"\nc"), "\"a,\"\"b\"\"\nc\"");
        assert_eq!(field("=1+1"), "'=1+1");
    }
}

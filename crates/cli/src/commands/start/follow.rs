//! What becomes of a launched inferlet's output: printed line by line, or kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use runtime::{Event, Inferlet};

use super::terminal::Printer;

/// Bytes kept of what a detached inferlet wrote: the last megabyte.
const LOG_BYTES: usize = 1 << 20;
/// Detached inferlets whose log is kept; beyond, the log goes that was written to longest ago.
const LOGS: usize = 128;

/// What detached inferlets wrote, each by its id, the one written to last at the end. Cloning gives another
/// handle to the same logs.
#[derive(Clone, Default)]
pub(super) struct Logs(Arc<Mutex<VecDeque<Log>>>);

/// An id, and what was written.
type Log = (String, Vec<u8>);

impl Logs {
    fn append(&self, id: &str, bytes: &[u8]) {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = logs.iter().position(|(known, _)| known == id);
        let log = at.and_then(|at| logs.remove(at));
        let (id, mut log) = log.unwrap_or_else(|| (id.to_string(), Vec::new()));
        log.extend(bytes);
        let excess = log.len().saturating_sub(LOG_BYTES);
        log.drain(..excess);
        if logs.len() >= LOGS {
            logs.pop_front();
        }
        logs.push_back((id, log));
    }

    /// The log of the first inferlet whose id begins so.
    pub(super) fn find(&self, beginning: &str) -> Option<String> {
        let logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, log) = logs.iter().find(|(id, _)| id.starts_with(beginning))?;
        Some(String::from_utf8_lossy(log).into_owned())
    }
}

/// Where output goes.
pub(super) enum Destination {
    /// To the terminal, each line with the inferlet's id before it.
    Lines,
    /// Into its log.
    Log(Logs),
}

/// Takes an inferlet's events until it ends, and says how it ended.
pub(super) async fn follow(mut inferlet: Inferlet, destination: Destination, printer: Printer) {
    let (id, start) = (inferlet.id().to_string(), Instant::now());
    let short = id[..8].to_string();
    let mut line = Vec::new();
    while let Some(event) = inferlet.next_event().await {
        let bytes = match event {
            Event::Text(text) => text.into_bytes(),
            Event::Stdout(bytes) | Event::Stderr(bytes) => bytes,
            Event::Blob(bytes) => format!("[{} bytes]\n", bytes.len()).into_bytes(),
        };
        match &destination {
            Destination::Lines => {
                line.extend(bytes);
                while let Some(end) = line.iter().position(|b| *b == b'\n') {
                    let whole: Vec<u8> = line.drain(..=end).collect();
                    printer.line(&format!("[Inst {short}] {}", String::from_utf8_lossy(&whole[..end])));
                }
            }
            Destination::Log(logs) => logs.append(&id, &bytes),
        }
    }
    if !line.is_empty() {
        printer.line(&format!("[Inst {short}] {}", String::from_utf8_lossy(&line)));
    }
    let elapsed = start.elapsed();
    let (result, reason) = match inferlet.outcome().await {
        Ok(result) => (result, "instance normally finished".to_string()),
        Err(error) => (String::new(), error.to_string()),
    };
    let mut ending = format!("[Inferlet {id}] Terminated. Reason: {reason} ({elapsed:.1?})");
    if !result.is_empty() {
        ending = format!("[Inst {short}] Result: {result}\n{ending}");
    }
    match destination {
        Destination::Lines => printer.line(&ending),
        Destination::Log(_) => printer.background(ending),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_bounded_in_bytes_and_in_number() {
        let logs = Logs::default();
        logs.append("first", &vec![b'a'; LOG_BYTES]);
        logs.append("first", b"b");
        let first = logs.find("fir").unwrap();
        assert!(first.len() == LOG_BYTES && first.ends_with("ab"));
        logs.append("second", b"x");
        for other in 0..LOGS - 1 {
            logs.append(&format!("other {other}"), b"x");
            // Written to again and again, it stays.
            logs.append("second", b"x");
        }
        assert!(logs.find("first").is_none());
        assert_eq!(logs.find("second").map(|log| log.len()), Some(LOGS));
    }
}

//! What becomes of a launched inferlet's output: printed line by line, or kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use runtime::{Event, Inferlet};

use super::terminal::Printer;

/// Bytes kept of what a detached inferlet wrote: the last megabyte.
const LOG_BYTES: usize = 1 << 20;

/// What detached inferlets wrote, by id. Cloning gives another handle to the same logs.
#[derive(Clone, Default)]
pub(super) struct Logs(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Logs {
    fn append(&self, id: &str, bytes: &[u8]) {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let log = logs.entry(id.to_string()).or_default();
        log.extend(bytes);
        let excess = log.len().saturating_sub(LOG_BYTES);
        log.drain(..excess);
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

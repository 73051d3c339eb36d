//! What an inferlet says, line by line, each with the beginning of its id before it.

use std::time::Instant;

use anyhow::Result;
use protocol::client::Inferlet;
use protocol::{Event, Numbered};

use crate::output;

/// Characters of an id before a line.
const SHORT: usize = 8;

/// Prints an inferlet's events until it ends, how it ended, and how long that was from `start`.
///
/// # Errors
/// When the session is over, or nobody reads stdout.
pub(super) async fn follow(inferlet: &mut Inferlet, start: Instant) -> Result<()> {
    let id = inferlet.id().to_string();
    let mut lines = Lines::of(&id);
    while let Some(next) = inferlet.next().await? {
        lines.take(&next.event)?;
    }
    let elapsed = start.elapsed();
    let reason = match inferlet.outcome().await? {
        Ok(_) => "instance normally finished".to_string(),
        Err(error) => error.to_string(),
    };
    output::line(format_args!("[Inferlet {id}] Terminated. Reason: {reason} ({elapsed:.1?})"))
}

/// Prints the events of an inferlet that are there.
///
/// # Errors
/// When nobody reads stdout.
pub(super) fn print_kept(id: &str, events: &[Numbered]) -> Result<()> {
    let mut lines = Lines::of(id);
    events.iter().try_for_each(|next| lines.take(&next.event))?;
    lines.end()?;
    match events.last().map(|last| &last.event) {
        Some(Event::Error { error }) => output::line(format_args!("[Inst {}] Ended: {error}", lines.short)),
        _ => Ok(()),
    }
}

/// The lines of an inferlet.
struct Lines {
    /// The beginning of its id.
    short: String,
    /// The beginning of a line.
    begun: Vec<u8>,
}

impl Lines {
    fn of(id: &str) -> Lines {
        Lines { short: id.chars().take(SHORT).collect(), begun: Vec::new() }
    }

    /// Prints what an event makes whole; the last one ends the line.
    fn take(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Text { text } => self.begun.extend(text.as_bytes()),
            Event::Stdout { data } | Event::Stderr { data } => self.begun.extend(&data.0),
            Event::Blob { data } => self.begun.extend(format!("[{} bytes]\n", data.0.len()).as_bytes()),
            Event::Result { text } if text.is_empty() => self.end()?,
            Event::Result { text } => {
                self.end()?;
                self.print(&format!("Result: {text}"))?;
            }
            Event::Error { .. } => self.end()?,
        }
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let whole: Vec<u8> = self.begun.drain(..=end).collect();
            self.print(&String::from_utf8_lossy(&whole[..end]))?;
        }
        Ok(())
    }

    /// Prints what is not whole.
    fn end(&mut self) -> Result<()> {
        match std::mem::take(&mut self.begun) {
            begun if begun.is_empty() => Ok(()),
            begun => self.print(&String::from_utf8_lossy(&begun)),
        }
    }

    fn print(&self, line: &str) -> Result<()> {
        output::line(format_args!("[Inst {}] {line}", self.short))
    }
}

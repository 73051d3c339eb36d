//! What an inferlet says, line by line, each with the beginning of its id before it.

use std::fmt::Display;
use std::time::Instant;

use anyhow::Result;
use protocol::client::Inferlet;
use protocol::{Event, Numbered};

use crate::output::{self, visible};

/// Characters of an id before a line.
const SHORT: usize = 8;
/// Bytes of a line that has no end; beyond, what is there is printed as one.
const LINE_BYTES: usize = 64 << 10;

/// Where a command prints.
#[derive(Clone, Copy)]
pub(super) struct Out {
    /// Whether it goes on when nobody reads: an inferlet of the server does not end with a terminal.
    pub(super) forgives: bool,
}

impl Out {
    /// Prints a line.
    ///
    /// # Errors
    /// As of [`output::line`], where it does not forgive.
    pub(super) fn line(self, text: impl Display) -> Result<()> {
        output::line(text).or_else(|error| if self.forgives { Ok(()) } else { Err(error) })
    }
}

/// Prints an inferlet's events until it ends, how it ended, and how long that was from `start`. Whether it has a result.
/// It can be given up at any moment, and gone on with: what is not printed yet is in `lines`.
///
/// # Errors
/// When the session is over, or nobody reads.
pub(super) async fn follow(inferlet: &mut Inferlet, lines: &mut Lines, start: Instant) -> Result<bool> {
    let (id, out) = (inferlet.id().to_string(), lines.out);
    while let Some(next) = inferlet.next().await? {
        lines.take(&next.event)?;
    }
    let elapsed = start.elapsed();
    let ended = inferlet.outcome().await?;
    let reason = match &ended {
        Ok(_) => "instance normally finished".to_string(),
        Err(error) => visible(&error.to_string()),
    };
    out.line(format_args!("[Inferlet {id}] Terminated. Reason: {reason} ({elapsed:.1?})"))?;
    Ok(ended.is_ok())
}

/// Prints the events of an inferlet that are there.
///
/// # Errors
/// When nobody reads.
pub(super) fn print_kept(id: &str, events: &[Numbered], out: Out) -> Result<()> {
    let mut lines = Lines::of(id, out);
    events.iter().try_for_each(|next| lines.take(&next.event))?;
    lines.end()?;
    match events.last().map(|last| &last.event) {
        Some(Event::Error { error }) => lines.print(&format!("Ended: {error}")),
        _ => Ok(()),
    }
}

/// The lines of an inferlet. Dropped, it prints what has no end.
pub(super) struct Lines {
    /// The beginning of its id.
    short: String,
    /// The beginning of a line.
    begun: Vec<u8>,
    out: Out,
}

impl Lines {
    pub(super) fn of(id: &str, out: Out) -> Lines {
        Lines { short: id.chars().take(SHORT).collect(), begun: Vec::new(), out }
    }

    /// Prints what an event makes whole; the last one ends the line.
    fn take(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Text { text } => self.bytes(text.as_bytes()),
            Event::Stdout { data } | Event::Stderr { data } => self.bytes(&data.0),
            Event::Blob { data } => self.bytes(format!("[{} bytes]\n", data.0.len()).as_bytes()),
            Event::Result { text } if text.is_empty() => self.end(),
            Event::Result { text } => {
                self.end()?;
                format!("Result: {text}").lines().try_for_each(|line| self.print(line))
            }
            Event::Error { .. } => self.end(),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (part, is_whole) = part.strip_suffix(b"\n").map_or((part, false), |part| (part, true));
            self.begun.extend(part);
            if is_whole {
                let line = std::mem::take(&mut self.begun);
                self.print(&String::from_utf8_lossy(&line))?;
            } else if self.begun.len() >= LINE_BYTES {
                self.end()?;
            }
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
        self.out.line(format_args!("[Inst {}] {}", self.short, visible(line)))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // Whoever reads it no more misses nothing.
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use protocol::Data;

    use super::*;

    #[test]
    fn a_line_without_an_end_is_bounded() {
        let mut lines = Lines::of("0123456789", Out { forgives: true });
        let event = |bytes: &[u8]| Event::Stdout { data: Data(bytes.to_vec()) };
        for _ in 0..200 {
            lines.take(&event(&[b'a'; 1000])).unwrap();
            assert!(lines.begun.len() < LINE_BYTES);
        }
        lines.take(&event(b"b\nc")).unwrap();
        assert_eq!((lines.begun.as_slice(), lines.short.as_str()), (&b"c"[..], "01234567"));
        lines.take(&Event::Result { text: String::new() }).unwrap();
        assert!(lines.begun.is_empty());
    }
}

//! Results on stdout.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use anyhow::Result;

/// Exit code when the reader of stdout has left: that of a program that SIGPIPE ended, as shells give it.
pub(crate) const CLOSED: u8 = 128 + 13;

/// The reader of stdout has left, as in `pie ... | head`. That is no mistake and needs no words.
#[derive(Debug)]
pub(crate) struct Closed;

impl Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nobody reads stdout any more")
    }
}

impl std::error::Error for Closed {}

/// Prints a line.
///
/// # Errors
/// [`Closed`], or why stdout takes nothing.
pub(crate) fn line(text: impl Display) -> Result<()> {
    written(writeln!(io::stdout().lock(), "{text}"))
}

/// Says something on stderr; to nobody, when that is gone.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A text of somebody else for a line of ours: what moves the cursor or ends the line is escaped.
pub(crate) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && c != '\t' {
            true => visible.extend(c.escape_default()),
            false => visible.push(c),
        }
    }
    visible
}

/// A part of what an inferlet says.
pub(crate) enum Part<'a> {
    Text(&'a str),
    Stdout(&'a [u8]),
    Stderr(&'a [u8]),
    /// So many bytes.
    Blob(usize),
}

/// Prints a part: messages and stdout go to stdout as they are, stderr to stderr; blobs are announced.
///
/// # Errors
/// As for [`line`].
pub(crate) fn event(part: Part<'_>) -> Result<()> {
    let mut out = io::stdout().lock();
    let printed = match part {
        Part::Text(text) => out.write_all(text.as_bytes()),
        Part::Stdout(bytes) => out.write_all(bytes),
        Part::Stderr(bytes) => return Ok(io::stderr().lock().write_all(bytes)?),
        Part::Blob(bytes) => writeln!(out, "[{bytes} bytes]"),
    };
    written(printed.and_then(|()| out.flush()))
}

/// Prints the result of an inferlet, if it has one.
///
/// # Errors
/// The inferlet's own, and those of [`line`].
pub(crate) fn result(ended: Result<String, impl Into<anyhow::Error>>) -> Result<()> {
    match ended {
        Ok(result) if result.is_empty() => Ok(()),
        Ok(result) => line(result),
        Err(error) => Err(error.into()),
    }
}

/// What became of a write to stdout.
///
/// # Errors
/// As for [`line`].
pub(crate) fn written(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn a_text_of_somebody_else_stays_in_its_line() {
        assert_eq!(visible("grün\tand \"so\""), "grün\tand \"so\"");
        assert_eq!(visible("a\r\u{1b}[2Jb\nc"), "a\\r\\u{1b}[2Jb\\nc");
    }
}

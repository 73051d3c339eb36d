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

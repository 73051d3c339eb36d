//! Lines in and out of the shell: an editor on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, SyncSender};

use reedline::{DefaultPrompt, DefaultPromptSegment, ExternalPrinter, Reedline, Signal};
use tokio::sync::mpsc;

/// The lines that are typed, read one at a time.
pub(super) struct Lines {
    requests: SyncSender<()>,
    lines: mpsc::Receiver<String>,
}

impl Lines {
    /// The next line; none at the end of the input.
    pub(super) async fn next(&mut self) -> Option<String> {
        self.requests.send(()).ok()?;
        self.lines.recv().await
    }
}

/// Takes over stdin and stdout.
pub(super) fn open() -> (Lines, Printer) {
    let (requests, requested) = std::sync::mpsc::sync_channel(1);
    let (sender, lines) = mpsc::channel(1);
    let external = std::io::stdin().is_terminal().then(ExternalPrinter::<String>::default);
    let printer = Printer(external.as_ref().map(ExternalPrinter::sender));
    // Reading a line blocks, so a thread does it; it begins when the command before is done.
    std::thread::spawn(move || match external {
        Some(external) => edit_lines(external, &requested, &sender),
        None => read_lines(&requested, &sender),
    });
    (Lines { requests, lines }, printer)
}

/// Gives the terminal back as it was, when a line is still being edited.
pub(super) fn restore() {
    if std::io::stdin().is_terminal() {
        // A terminal that is gone needs nothing.
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

/// Where lines go. A command that runs in the foreground prints as usual, since nobody edits a line
/// meanwhile; what happens in the background is shown above the line being edited.
#[derive(Clone)]
pub(super) struct Printer(Option<SyncSender<String>>);

impl Printer {
    pub(super) fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A terminal that is gone shows nothing; the commands go on.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    pub(super) fn background(&self, text: String) {
        match self.0.as_ref().map(|editor| editor.try_send(text.clone())) {
            Some(Ok(())) => {}
            _ => self.line(&text),
        }
    }
}

fn edit_lines(external: ExternalPrinter<String>, requested: &Receiver<()>, lines: &mpsc::Sender<String>) {
    let mut editor = Reedline::create().with_external_printer(external);
    let left = DefaultPromptSegment::Basic("pie".into());
    let prompt = DefaultPrompt::new(left, DefaultPromptSegment::Empty);
    for () in requested {
        let line = loop {
            match editor.read_line(&prompt) {
                Ok(Signal::Success(line)) => break line,
                Ok(Signal::CtrlC) => {}
                _ => break "exit".to_string(),
            }
        };
        if lines.blocking_send(line).is_err() {
            return;
        }
    }
}

fn read_lines(requested: &Receiver<()>, lines: &mpsc::Sender<String>) {
    let input = std::io::stdin().lines().map_while(Result::ok);
    for ((), line) in requested.iter().zip(input) {
        if lines.blocking_send(line).is_err() {
            return;
        }
    }
}

//! Lines of the shell: from an editor on a terminal, plain ones elsewhere.

use std::io::{BufRead, IsTerminal};
use std::sync::mpsc::{Receiver, SyncSender};

use reedline::{
    ColumnarMenu, DefaultCompleter, DefaultPrompt, DefaultPromptSegment, Emacs, KeyCode, KeyModifiers,
    MenuBuilder, Reedline, ReedlineEvent, ReedlineMenu, Signal, default_emacs_keybindings,
};
use tokio::sync::{mpsc, watch};

/// The lines that are typed, read one at a time.
pub(super) struct Lines {
    requests: SyncSender<()>,
    lines: mpsc::Receiver<String>,
    /// Whether the terminal is gone.
    gone: watch::Receiver<bool>,
}

impl Lines {
    /// The next line; none at the end of the input.
    pub(super) async fn next(&mut self) -> Option<String> {
        self.requests.send(()).ok()?;
        tokio::select! {
            line = self.lines.recv() => line,
            Ok(_) = self.gone.wait_for(|gone| *gone) => None,
        }
    }
}

/// Takes over stdin. The editor completes these words.
pub(super) fn open(words: Vec<String>) -> Lines {
    let (requests, requested) = std::sync::mpsc::sync_channel(1);
    let (sender, lines) = mpsc::channel(1);
    let (leaves, gone) = watch::channel(false);
    // Reading a line blocks, so a thread does it; it begins when the command before is done.
    std::thread::spawn(move || match std::io::stdin().is_terminal() {
        true => {
            #[cfg(unix)]
            leave_a_terminal_that_is_gone(leaves);
            edit_lines(words, &requested, &sender);
        }
        false => read_lines(&requested, &sender),
    });
    Lines { requests, lines, gone }
}

/// Gives the terminal back as it was, when a line is still being edited.
pub(crate) fn restore() {
    if std::io::stdin().is_terminal() {
        // A terminal that is gone needs nothing.
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

/// Lets nobody read a terminal that is gone: the library of the editor does so without a pause, and cannot be told to end.
/// Once that is so, stdin is what never says anything.
#[cfg(unix)]
fn leave_a_terminal_that_is_gone(leaves: watch::Sender<bool>) {
    use rustix::event::{PollFd, PollFlags, poll};

    std::thread::spawn(move || {
        let stdin = std::io::stdin();
        loop {
            // Asked for nothing, it tells of what is over.
            let mut watched = [PollFd::new(&stdin, PollFlags::empty())];
            match poll(&mut watched, None) {
                Ok(_) if watched[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) => break,
                Err(rustix::io::Errno::INTR) => {}
                // A system that cannot watch a terminal.
                _ => return,
            }
        }
        if let Ok((silent, other)) = std::os::unix::net::UnixStream::pair()
            && rustix::stdio::dup2_stdin(&silent).is_ok()
        {
            // For as long as the process runs.
            std::mem::forget(other);
        }
        leaves.send_replace(true);
    });
}

fn edit_lines(words: Vec<String>, requested: &Receiver<()>, lines: &mpsc::Sender<String>) {
    let mut keys = default_emacs_keybindings();
    let complete =
        ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu("words".into()), ReedlineEvent::MenuNext]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, complete);
    let menu = ReedlineMenu::EngineCompleter(Box::new(ColumnarMenu::default().with_name("words")));
    let mut editor = Reedline::create()
        .with_completer(Box::new(DefaultCompleter::new_with_wordlen(words, 1)))
        .with_quick_completions(true)
        .with_menu(menu)
        .with_edit_mode(Box::new(Emacs::new(keys)));
    let left = DefaultPromptSegment::Basic("pie".into());
    let prompt = DefaultPrompt::new(left, DefaultPromptSegment::Empty);
    for () in requested {
        let line = loop {
            match editor.read_line(&prompt) {
                Ok(Signal::Success(line)) => break line,
                Ok(Signal::CtrlD) => break "exit".to_string(),
                Ok(_) => {}
                // The terminal is gone: no more lines come.
                Err(_) => return,
            }
        };
        if lines.blocking_send(line).is_err() {
            return;
        }
    }
}

fn read_lines(requested: &Receiver<()>, lines: &mpsc::Sender<String>) {
    let mut input = std::io::stdin().lock();
    for () in requested {
        let mut line = Vec::new();
        match input.read_until(b'\n', &mut line) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        let line = String::from_utf8_lossy(&line);
        if lines.blocking_send(line.trim_end_matches(['\n', '\r']).to_string()).is_err() {
            return;
        }
    }
}

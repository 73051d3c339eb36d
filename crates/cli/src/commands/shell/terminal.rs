//! Lines of the shell: from an editor on a terminal, plain ones elsewhere.

use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, SyncSender};

use reedline::{
    ColumnarMenu, DefaultCompleter, DefaultPrompt, DefaultPromptSegment, Emacs, KeyCode, KeyModifiers,
    MenuBuilder, Reedline, ReedlineEvent, ReedlineMenu, Signal, default_emacs_keybindings,
};
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

/// Takes over stdin. The editor completes these words.
pub(super) fn open(words: Vec<String>) -> Lines {
    let (requests, requested) = std::sync::mpsc::sync_channel(1);
    let (sender, lines) = mpsc::channel(1);
    // Reading a line blocks, so a thread does it; it begins when the command before is done.
    std::thread::spawn(move || match std::io::stdin().is_terminal() {
        true => edit_lines(words, &requested, &sender),
        false => read_lines(&requested, &sender),
    });
    Lines { requests, lines }
}

/// Gives the terminal back as it was, when a line is still being edited.
pub(crate) fn restore() {
    if std::io::stdin().is_terminal() {
        // A terminal that is gone needs nothing.
        let _ = crossterm::terminal::disable_raw_mode();
    }
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

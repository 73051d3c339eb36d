//! A server that is a process of its own: it is spoken to over stdin and stdout, and what it says on stderr is logged.
//!
//! It leads a process group, so that what it has started ends with it.

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a process may go on when it was told to end.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a line of the log, and of the last words.
const LINE_BYTES: usize = 2048;

/// A process. It ends when this is dropped.
pub(crate) struct Process {
    unwanted: watch::Sender<bool>,
    last_words: Arc<Mutex<String>>,
}

impl Process {
    /// Starts it; with it come its stdout and its stdin.
    pub(crate) fn start(
        server: &str,
        command: &[String],
        environment: &[(String, String)],
    ) -> io::Result<(Process, ChildStdout, ChildStdin)> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        make_way(&child);
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else { unreachable!("all three are piped") };
        let last_words = Arc::default();
        tokio::spawn(log(server.to_string(), errors, Arc::clone(&last_words)));
        let unwanted = watch::Sender::new(false);
        tokio::spawn(wait(server.to_string(), child, unwanted.subscribe()));
        Ok((Process { unwanted, last_words }, output, input))
    }

    /// The last line that it wrote to stderr.
    pub(crate) fn last_words(&self) -> String {
        self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it, and waits until it has ended.
    pub(crate) async fn end(&self) {
        self.unwanted.send_replace(true);
        self.unwanted.closed().await;
    }
}

/// Beside a process of ordinary priority, one with this has a tenth of a processor.
const NICENESS: i32 = 10;

/// Lets a process, and what it will start, make way for the model: a program can keep a server busy all the time, and the
/// threads of a batch wait for each other.
fn make_way(child: &Child) {
    let process = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    // One that has ended already needs none.
    let _ = rustix::process::setpriority_process(process, NICENESS);
}

/// The group of a process, which is killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Group {
        Group(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)))
    }

    /// Nobody may be left.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Waits until it ends, or ends it when it is not wanted any more.
async fn wait(server: String, mut child: Child, mut unwanted: watch::Receiver<bool>) {
    let group = Group::of(&child);
    let by_itself = tokio::select! {
        status = child.wait() => Some(status),
        // An error: it was dropped.
        _ = unwanted.wait_for(|unwanted| *unwanted) => None,
    };
    match by_itself {
        Some(Ok(status)) => tracing::warn!(server, "its process has ended by itself: {status}"),
        Some(Err(error)) => tracing::warn!(server, "its process is lost: {error}"),
        None => {
            group.signal(Signal::TERM);
            if timeout(PATIENCE, child.wait()).await.is_err() {
                tracing::warn!(server, "its process did not end when it was told to, and is killed");
            }
        }
    }
}

/// Logs its stderr line by line; a longer line is cut into several.
async fn log(server: String, errors: ChildStderr, last_words: Arc<Mutex<String>>) {
    let (mut errors, mut line) = (BufReader::new(errors), Vec::new());
    while let Ok(bytes) = errors.fill_buf().await {
        let (is_end, room) = (bytes.is_empty(), LINE_BYTES - line.len());
        let bytes = &bytes[..bytes.len().min(room)];
        let taken = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
        line.extend_from_slice(&bytes[..taken]);
        errors.consume(taken);
        if is_end || line.ends_with(b"\n") || line.len() == LINE_BYTES {
            let text = String::from_utf8_lossy(&line).trim_end().to_string();
            if !text.is_empty() {
                tracing::info!(server, "{text}");
                *last_words.lock().unwrap_or_else(PoisonError::into_inner) = text;
            }
            line.clear();
        }
        if is_end {
            return;
        }
    }
}

//! Servers as children, for as long as a command measures them.
//!
//! A child is in a process group of its own: ^C at the terminal reaches this program and not its children, which are
//! stopped when what is under way has been reported. Only SIGKILL, which no program can answer, leaves them behind.

mod server;

pub use server::{Server, Start, binary};

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};

/// How long a process has to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(50);

/// The processes that were started here and have not been stopped. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub struct Children(Arc<Mutex<Vec<Pid>>>);

impl Children {
    fn lock(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all of them, with what they have started. For a program that ends: none is started any more.
    pub fn end(&self) {
        // Held to the end, so that no further one is started meanwhile.
        let mut pids = self.lock();
        pids.iter().for_each(|pid| signal(*pid, Signal::TERM));
        let start = Instant::now();
        while !pids.is_empty() && start.elapsed() < STOP_LIMIT {
            pids.retain(|pid| matches!(waitpid(Some(*pid), WaitOptions::NOHANG), Ok(None)));
            std::thread::sleep(PAUSE);
        }
        pids.iter().for_each(|pid| signal(*pid, Signal::KILL));
    }
}

/// Sends a signal to a process and what it has started. What has ended gets none.
fn signal(pid: Pid, signal: Signal) {
    let _ = kill_process_group(pid, signal);
}

/// A process that is stopped, with what it has started, when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    children: Children,
}

impl Process {
    /// Starts one whose output goes to a file.
    ///
    /// # Errors
    /// When the file cannot be written, or the command not be started.
    pub fn start(mut command: Command, log: &Path, children: &Children) -> anyhow::Result<Self> {
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        let unwritable = || format!("cannot write `{}`", log.display());
        let file = File::create(log).with_context(unwritable)?;
        let output = file.try_clone().with_context(unwritable)?;
        command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(file);
        let mut pids = children.lock();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start `{}`", command.get_program().to_string_lossy()))?;
        pids.extend(pid(&child));
        drop(pids);
        Ok(Self { child, children: children.clone() })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Leaves it running after the end of this program.
    pub fn leave(self) {
        self.children.lock().retain(|known| Some(*known) != pid(&self.child));
        // Without the drop that stops it.
        std::mem::forget(self);
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(pid) = pid(&self.child) else { return };
        signal(pid, Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < STOP_LIMIT && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(PAUSE);
        }
        // What it has started and not waited for, too.
        signal(pid, Signal::KILL);
        let _ = self.child.wait();
        self.children.lock().retain(|known| *known != pid);
    }
}

/// The end of what a process has said.
pub fn last_lines(log: &Path) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

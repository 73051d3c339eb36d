//! What ends the server from outside: the first signal asks it to stop, the second ends the process at once.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use crate::commands::shell::{self, Foreground};

/// The exit code of a process that Ctrl-C ends.
pub(crate) const INTERRUPT: i32 = 128 + 2;

/// Where the server is in its life, as far as a signal is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing runs yet: a signal ends the process.
    Starting,
    /// A signal asks the server to stop.
    Running,
    /// A signal ends the process.
    Stopping,
}

/// Listens for SIGTERM and SIGINT. Cloning gives another handle to the same signals.
#[derive(Clone)]
pub(super) struct StopSignals(Arc<watch::Sender<Stage>>);

impl StopSignals {
    /// Begins to listen. Until [`StopSignals::arm`] a signal ends the process at once.
    ///
    /// SIGINT is for the command in the foreground, where there is one.
    pub(super) fn listen(foreground: Foreground) -> io::Result<StopSignals> {
        let mut signals = Signals::new()?;
        let stage = Arc::new(watch::Sender::new(Stage::Starting));
        let stop = StopSignals(stage.clone());
        tokio::spawn(async move {
            loop {
                let code = signals.next().await;
                let is_running = *stage.borrow() == Stage::Running;
                if is_running && code == INTERRUPT && foreground.interrupt() {
                    continue;
                }
                if !is_running {
                    shell::restore();
                    std::process::exit(code);
                }
                stage.send_replace(Stage::Stopping);
            }
        });
        Ok(stop)
    }

    /// The server runs: the next signal asks it to stop.
    pub(super) fn arm(&self) {
        self.0.send_replace(Stage::Running);
    }

    /// Stops the server for another reason: the next signal ends the process.
    pub(super) fn request(&self) {
        self.0.send_replace(Stage::Stopping);
    }

    /// Returns once the server is to stop.
    pub(super) async fn requested(&self) {
        let mut stage = self.0.subscribe();
        let stopping = stage.wait_for(|stage| *stage == Stage::Stopping).await;
        stopping.expect("the sender is in `self`");
    }
}

/// The signals that stop the server.
#[cfg(unix)]
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the system has no place for it.
    pub(crate) fn new() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Signals { terminate, interrupt })
    }

    /// The exit code of a process that the next signal ends, as shells give it.
    pub(crate) async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => 128 + 15,
            _ = self.interrupt.recv() => INTERRUPT,
        }
    }
}

/// The signals that stop the server: only Ctrl-C is everywhere.
#[cfg(not(unix))]
pub(crate) struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the system has no place for it.
    pub(crate) fn new() -> io::Result<Signals> {
        Ok(Signals)
    }

    pub(crate) async fn next(&mut self) -> i32 {
        match tokio::signal::ctrl_c().await {
            Ok(()) => INTERRUPT,
            // None will come.
            Err(_) => std::future::pending().await,
        }
    }
}

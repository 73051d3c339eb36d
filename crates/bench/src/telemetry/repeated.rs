//! Work at an interval, on a thread of its own.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Which time it is that the work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The interval is over.
    Meanwhile,
    /// Nothing follows.
    AtTheEnd,
}

/// Work that is done until it is finished, and what it has come to.
#[derive(Debug)]
pub struct Repeated<T> {
    stop: Sender<()>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Repeated<T> {
    /// Starts; the first work is an interval from now.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        name: &str,
        interval: Duration,
        mut state: T,
        work: impl Fn(&mut T, When) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                work(&mut state, When::Meanwhile);
            }
            work(&mut state, When::AtTheEnd);
            state
        })?;
        Ok(Self { stop, thread })
    }

    /// Works a last time, and returns what it has come to; `None` after a panic.
    pub fn finish(self) -> Option<T> {
        drop(self.stop);
        self.thread.join().ok()
    }
}

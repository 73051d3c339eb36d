//! Who takes Ctrl-C: the command in the foreground, where there is one.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// The command in the foreground. Cloning gives another handle to the same place.
#[derive(Clone, Default)]
pub(crate) struct Foreground(Arc<Mutex<Option<oneshot::Sender<()>>>>);

impl Foreground {
    /// From now on Ctrl-C is for a command, once, and as long as it keeps what this gives.
    pub(super) fn claim(&self) -> oneshot::Receiver<()> {
        let (interrupt, interrupted) = oneshot::channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(interrupt);
        interrupted
    }

    /// Interrupts the command. Whether there was one that has not been interrupted yet.
    pub(crate) fn interrupt(&self) -> bool {
        let command = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        command.is_some_and(|command| command.send(()).is_ok())
    }
}

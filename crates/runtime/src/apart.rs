//! Futures that go on while their program is in another call.
//!
//! A program that is in a call which blocks it polls none of its other futures. Were one of them next in line for a place,
//! the place would be its own and stand idle, and the call that the program is in might wait for it for ever. So what
//! stands in line is a task.

use tokio::task::{AbortHandle, JoinError, JoinHandle};

/// Runs a future as a task that ends when this is dropped.
///
/// # Errors
/// When the future panics.
pub(crate) async fn apart<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, JoinError> {
    while_wanted(tokio::spawn(future)).await
}

/// Waits for a task that ends when this is dropped; one on a blocking thread only if it has not begun.
///
/// # Errors
/// When the task panics.
pub(crate) async fn while_wanted<T>(task: JoinHandle<T>) -> Result<T, JoinError> {
    let _abort = AbortOnDrop(task.abort_handle());
    task.await
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

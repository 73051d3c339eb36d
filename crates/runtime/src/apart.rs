//! Futures that go on while their program is in another call.
//!
//! A program that is in a call which blocks it polls none of its other futures. Were one of them next in line for a place,
//! the place would be its own and stand idle, and the call that the program is in might wait for it for ever. So what
//! stands in line is a task.

use tokio::task::{AbortHandle, JoinError};

/// Runs a future as a task that ends when this is dropped.
///
/// # Errors
/// When the future panics.
pub(crate) async fn apart<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, JoinError> {
    let task = tokio::spawn(future);
    let _abort = AbortOnDrop(task.abort_handle());
    task.await
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

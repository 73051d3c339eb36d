//! The one thread that owns the scheduler and the backend.
//!
//! ```text
//! handles ──push──> inbox ──take──> [ submit / apply / call ] → plan → carry out → run → complete → answers
//!                                        ^                                                            │
//!                                        └────────────────── spin a little, or sleep ─────────────────┘
//! ```
//! A batch that fails, or a backend that panics, fails the passes of that batch; the thread goes on.

mod driver;
mod handle;
mod inbox;

use std::sync::Arc;
use std::thread::JoinHandle;

use backend::Backend;

use crate::config::{EngineConfig, SchedulerConfig};

pub use handle::{EngineHandle, Reply};

/// The running engine. Dropping it shuts it down and waits for the thread.
pub struct Engine {
    inbox: Arc<inbox::Inbox>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the engine's thread.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        backend: Box<dyn Backend>,
        scheduler: SchedulerConfig,
        engine: EngineConfig,
    ) -> std::io::Result<(EngineHandle, Engine)> {
        let inbox = Arc::new(inbox::Inbox::new(engine.inbox, engine.inbox_of_owner));
        let handle = EngineHandle { inbox: inbox.clone(), owner: None, limits: backend.limits() };
        let driver = driver::Driver::new(backend, scheduler, &engine, inbox.clone());
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || driver.run())?;
        Ok((handle, Engine { inbox, thread: Some(thread) }))
    }

    /// Waits until the thread has ended, which [`EngineHandle::shutdown`] makes it do.
    ///
    /// # Panics
    /// When the thread panicked: the scheduler has a defect.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the engine's thread does not panic");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.inbox.close();
            thread.join().ok();
        }
    }
}

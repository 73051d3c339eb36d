//! The one thread that owns the scheduler and the backend.
//!
//! ```text
//! handles ──push──> inbox ──take──> [ submit / apply / call ] → plan → carry out → run → complete → answers
//!                                        ^                                                            │
//!                                        └────────────────── spin a little, or sleep ─────────────────┘
//! ```
//! A batch that fails, or a backend that panics, fails the passes of that batch; the thread goes on. A panic of the
//! scheduler itself is a defect after which no page can be trusted: it fails all passes, and the thread ends.

mod driver;
mod handle;
mod inbox;

use std::sync::Arc;
use std::thread::JoinHandle;

use backend::Backend;

use crate::config::{EngineConfig, SchedulerConfig};
use crate::observe::BatchObserver;
use crate::prefix_events::PrefixWatcher;

pub use handle::{EngineHandle, Reply};

/// The running engine. Dropping it shuts it down and waits for the thread.
pub struct Engine {
    inbox: Arc<inbox::Inbox>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

/// Who is told what an engine does, on its thread.
#[derive(Default)]
pub struct Observers {
    /// Of each batch.
    pub batches: Option<Box<dyn BatchObserver>>,
    /// Of the prefix cache.
    pub prefixes: Option<Box<dyn PrefixWatcher>>,
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
        Engine::start_observed(backend, scheduler, engine, Observers::default())
    }

    /// As [`Engine::start`], with those who are told what it does.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start_observed(
        backend: Box<dyn Backend>,
        scheduler: SchedulerConfig,
        engine: EngineConfig,
        observers: Observers,
    ) -> std::io::Result<(EngineHandle, Engine)> {
        let inbox = Arc::new(inbox::Inbox::new(engine.inbox, engine.inbox_of_owner));
        let shared = handle::Shared { inbox: inbox.clone(), limits: backend.limits() };
        let handle = EngineHandle { shared: Arc::new(shared), owner: None };
        let driver = driver::Driver::new(backend, scheduler, &engine, inbox.clone(), observers);
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || driver.run())?;
        Ok((handle, Engine { inbox, thread: Some(thread) }))
    }

    /// Waits until the thread has ended, which [`EngineHandle::shutdown`] makes it do.
    ///
    /// # Errors
    /// When the scheduler panicked, with its words.
    pub fn join(mut self) -> Result<(), String> {
        let thread = self.thread.take().expect("only this takes it");
        thread.join().unwrap_or_else(|_| Err("the engine's thread panicked".into()))
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

#[cfg(test)]
mod tests {
    use backend::FakeBackend;
    use futures_channel::oneshot::Canceled;

    use super::*;
    use crate::request::{ContextId, ForwardError, ForwardRequest, OwnerId, Priority, TenantId, Ticket};
    use crate::{CallError, ContextOp};

    fn wait<T, E>(reply: Reply<T, E>) -> Result<Result<T, E>, Canceled> {
        let mut reply = reply;
        loop {
            match reply.try_recv() {
                Ok(None) => std::thread::yield_now(),
                Ok(Some(answer)) => return Ok(answer),
                Err(canceled) => return Err(canceled),
            }
        }
    }

    #[test]
    fn a_panic_of_the_scheduler_fails_what_it_holds_and_ends_the_engine() {
        let (config, engine) = (SchedulerConfig::default(), EngineConfig::default());
        let backend = Box::new(FakeBackend::new(64, 50));
        let (handle, engine) = Engine::start(backend, config, engine).unwrap();
        let owner = OwnerId(1);
        let owned = handle.for_owner(owner);
        let contexts = [ContextId(1), ContextId(2)];
        for context in contexts {
            let op = ContextOp::Create { context, owner, priority: Priority::Normal, tenant: TenantId(0) };
            handle.apply(op).unwrap();
        }
        // All in the inbox before the thread takes any of it: it is busy with the first call meanwhile.
        let (begin, begun) = std::sync::mpsc::channel::<()>();
        let first = handle.call(move |_, _| {
            begun.recv().ok();
            Ok(())
        });
        // The owner's share is spent with this, so its pass waits in its queue.
        let slow = owned.call(|_, _| {
            std::thread::sleep(2 * driver::SHARE);
            Ok(())
        });
        let held = owned.forward(ForwardRequest::new(Ticket(1), contexts[0], vec![1]));
        let before = handle.forward(ForwardRequest::new(Ticket(2), contexts[1], vec![1, 2]));
        let panicking = handle.call(|_, _| -> Result<(), CallError> { panic!("a broken invariant") });
        let after = handle.forward(ForwardRequest::new(Ticket(3), contexts[1], vec![3]));
        let call = handle.stats();
        begin.send(()).unwrap();
        assert_eq!((wait(first), wait(slow)), (Ok(Ok(())), Ok(Ok(()))));
        assert!(wait(panicking).is_err(), "its answer went with it");
        for pass in [held, before, after] {
            let answer = wait(pass).unwrap().map(drop);
            let Err(ForwardError::Backend(text)) = answer else { panic!("{answer:?}") };
            assert!(text.contains("a broken invariant"), "{text}");
        }
        assert_eq!(wait(call).unwrap().map(drop), Err(CallError::Closed));
        assert!(!handle.alive());
        let later = handle.forward(ForwardRequest::new(Ticket(4), contexts[0], vec![4]));
        assert_eq!(wait(later).unwrap().map(drop), Err(ForwardError::Closed));
        assert!(engine.join().unwrap_err().contains("a broken invariant"));
    }
}

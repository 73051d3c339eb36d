//! Threads of low priority, for the programs of users that keep processors busy while others are there.
//!
//! The threads of a batch wait for each other, so whoever takes a processor from one of them stops all. What runs here
//! has what they leave, and a small part beside them, so that it is never starved.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::runtime::Handle;

/// Of 19: beside a thread of ordinary priority, one with this has a tenth of a processor.
const NICENESS: i32 = 10;

type Work = Box<dyn FnOnce() + Send>;

/// The threads. They end when this is dropped and what was given to them is done.
pub(crate) struct Background(Sender<Work>);

impl Background {
    /// So many threads, which are in the context of the runtime of `handle`.
    pub(crate) fn new(threads: usize, handle: &Handle) -> Background {
        let (sender, receiver) = mpsc::channel::<Work>();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..threads {
            let (receiver, handle) = (receiver.clone(), handle.clone());
            spawn(move || {
                let _context = handle.enter();
                while let Some(work) = next(&receiver) {
                    work();
                }
            });
        }
        Background(sender)
    }

    /// Runs something when a thread is free. It does not panic.
    pub(crate) fn run(&self, work: impl FnOnce() + Send + 'static) {
        // The threads go on as long as there is a sender.
        let _ = self.0.send(Box::new(work));
    }
}

fn next(receiver: &Mutex<Receiver<Work>>) -> Option<Work> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Runs something on a thread of its own, of low priority.
pub(crate) fn spawn(work: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name("background".into());
    let begin = move || {
        // Of this thread alone, on Linux; elsewhere it would be that of the process.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::setpriority_process(None, NICENESS);
        work();
    };
    thread.spawn(begin).expect("the system gives a thread");
}

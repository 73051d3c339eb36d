//! Threads of low priority, for the programs of users that keep processors busy while others are there.
//!
//! The threads of a batch wait for each other, so whoever takes a processor from one of them stops all. What runs here
//! has what they leave, and a small part beside them, so that it is never starved.

use std::thread;

/// The lowest: beside a thread of ordinary priority, one with this has a seventieth of a processor.
const NICENESS: i32 = 19;

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

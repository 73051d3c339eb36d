//! ^C and SIGTERM: the first stops the run, and what is measured so far is reported; the second ends the program, and
//! the servers that it has started.

use tokio::signal::unix::{SignalKind, signal};

use super::child::Children;
use crate::client::Stop;

/// Listens for the rest of the program, for a run without servers of its own.
///
/// # Errors
/// When the system gives no thread, or no signals.
pub fn watch(stop: &Stop) -> std::io::Result<()> {
    watch_both(stop, &Children::default())
}

/// Listens for the rest of the program. The servers end with the values that hold them, or with the second signal.
///
/// # Errors
/// When the system gives no thread, or no signals.
pub fn watch_both(stop: &Stop, children: &Children) -> std::io::Result<()> {
    let (stop, children) = (stop.clone(), children.clone());
    listen(move |number| {
        if stop.is_stopped() {
            children.end();
            std::process::exit(128 + number);
        }
        eprintln!("stopping: what is under way is cancelled; a second ^C ends at once");
        stop.stop();
    })
}

/// Listens for the rest of the program, and ends it with the first signal: for what cannot be stopped half way.
///
/// # Errors
/// When the system gives no thread, or no signals.
pub fn end_at_once(children: &Children) -> std::io::Result<()> {
    let children = children.clone();
    listen(move |number| {
        eprintln!("stopping: what has been started is ended");
        children.end();
        std::process::exit(128 + number);
    })
}

/// Calls `react` with the number of each signal, on a thread of its own.
fn listen(react: impl Fn(i32) + Send + 'static) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Here and not on the thread: from when this returns, no signal ends the program by itself.
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(guard);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                let (signal, kind) = tokio::select! {
                    signal = interrupt.recv() => (signal, SignalKind::interrupt()),
                    signal = terminate.recv() => (signal, SignalKind::terminate()),
                };
                // None would be the end of the runtime that this is.
                if signal.is_some() {
                    react(kind.as_raw_value());
                }
            }
        });
    })?;
    Ok(())
}

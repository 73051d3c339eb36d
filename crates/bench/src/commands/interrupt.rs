//! ^C: the first stops the run, and what is measured so far is reported; the second ends the program.

use crate::client::Stop;

/// Listens for ^C for the rest of the program.
///
/// # Errors
/// When the system gives no thread.
pub fn watch(stop: &Stop) -> std::io::Result<()> {
    let stop = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("interrupt".into());
    thread.spawn(move || {
        runtime.block_on(async {
            // Where signals cannot be listened for, ^C ends the program as it would without this.
            while tokio::signal::ctrl_c().await.is_ok() {
                if stop.is_stopped() {
                    std::process::exit(130);
                }
                eprintln!("stopping: what is under way is cancelled; ^C again ends at once");
                stop.stop();
            }
        });
    })?;
    Ok(())
}

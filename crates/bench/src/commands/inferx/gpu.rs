//! The first GPU of this machine, looked at on an interval.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::telemetry::gpu::{Gpu, gpus};

/// A look: seconds since 1970, and what was seen.
pub(super) type Look = (f64, Gpu);

fn look() -> Result<Look, String> {
    let unix_secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let first = gpus()?.into_iter().next().ok_or("nvidia-smi lists no GPU")?;
    Ok((unix_secs, first))
}

/// Looks until it is finished.
pub(super) struct GpuMonitor {
    stop: Sender<()>,
    thread: JoinHandle<Vec<Look>>,
}

impl GpuMonitor {
    /// Begins.
    ///
    /// # Errors
    /// When the first look fails: a run should not go on for an hour and then have no figure.
    pub(super) fn start(interval: Duration) -> Result<Self, String> {
        let first = look()?;
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("gpu-monitor".into());
        let thread = thread.spawn(move || {
            let mut looks = vec![first];
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                // One that fails in between leaves a gap in the times, which the file shows.
                looks.extend(look());
            }
            looks
        });
        Ok(Self { stop, thread: thread.map_err(|error| error.to_string())? })
    }

    /// Ends, and returns what was seen in the order of time.
    pub(super) fn finish(self) -> Vec<Look> {
        drop(self.stop);
        // A panic has been printed, and there is nothing to return.
        self.thread.join().unwrap_or_default()
    }
}

//! The first GPU of this machine, looked at on an interval.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::telemetry::gpu::{Gpu, gpus};
use crate::telemetry::{Repeated, When};

/// A look: seconds since 1970, and what was seen.
pub(super) type Look = (f64, Gpu);

fn look() -> Result<Look, String> {
    let unix_secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let first = gpus()?.into_iter().next().ok_or("the driver knows of no GPU")?;
    Ok((unix_secs, first))
}

/// Looks until it is finished.
pub(super) struct GpuMonitor(Repeated<Vec<Look>>);

impl GpuMonitor {
    /// Begins.
    ///
    /// # Errors
    /// When the first look fails: a run should not go on for an hour and then have no figure.
    pub(super) fn start(interval: Duration) -> Result<Self, String> {
        let more = |looks: &mut Vec<Look>, when| {
            if when == When::Meanwhile {
                // One that fails in between leaves a gap in the times, which the file shows.
                looks.extend(look());
            }
        };
        let looks = Repeated::start("gpu-monitor", interval, vec![look()?], more);
        Ok(Self(looks.map_err(|error| error.to_string())?))
    }

    /// Ends, and returns what was seen in the order of time.
    pub(super) fn finish(self) -> Vec<Look> {
        // A panic has been printed, and there is nothing to return.
        self.0.finish().unwrap_or_default()
    }
}

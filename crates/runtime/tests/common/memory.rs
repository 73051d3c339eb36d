//! The memory of this process, for the tests and the measure of attacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Bytes of the process that are in memory.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    // Zero where there is no such file.
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
}

/// The most memory that the process had since it was made, sampled.
pub(crate) struct Peak(Arc<(AtomicBool, AtomicU64)>);

impl Peak {
    pub(crate) fn new() -> Peak {
        let shared = Arc::new((AtomicBool::new(true), AtomicU64::new(0)));
        let watched = shared.clone();
        std::thread::spawn(move || {
            while watched.0.load(Ordering::Relaxed) {
                watched.1.fetch_max(resident_bytes(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Peak(shared)
    }

    pub(crate) fn bytes(self) -> u64 {
        self.0.0.store(false, Ordering::Relaxed);
        self.0.1.load(Ordering::Relaxed)
    }
}

//! Memory and CPU of a process, from `/proc`. Other systems have no such files, and get no figures.

/// The value of a line of `/proc/PID/status` in bytes.
fn status_bytes(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim_start_matches(':').trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The largest resident memory so far.
pub fn peak_memory_bytes(pid: u32) -> Option<u64> {
    status_bytes(pid, "VmHWM")
}

/// The resident memory now.
pub fn memory_bytes(pid: u32) -> Option<u64> {
    status_bytes(pid, "VmRSS")
}

/// Seconds of CPU so far, of all threads.
pub fn cpu_secs(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program is in brackets and may hold any character.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    // Linux counts these in hundredths of a second on every architecture.
    Some(ticks / 100.0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_figures() {
        let pid = std::process::id();
        // Read first: other tests take memory meanwhile.
        let now = memory_bytes(pid);
        assert!(peak_memory_bytes(pid) >= now);
        assert!(memory_bytes(pid).is_some_and(|bytes| bytes > 100_000));
        assert!(cpu_secs(pid).is_some_and(|secs| secs >= 0.0));
        assert_eq!(memory_bytes(u32::MAX), None);
    }
}

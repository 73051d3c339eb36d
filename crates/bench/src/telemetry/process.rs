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

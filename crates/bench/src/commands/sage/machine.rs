//! The machine that a server on it runs on: processor, memory, GPU, system. What is not known is null.

use serde_json::{Value, json};

use crate::telemetry::gpu::{Cards, cards};

fn line_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|own| own.trim() == name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

/// What of the machine computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chip {
    /// The processor.
    Cpu,
    /// The GPUs, where there are some; else the processor.
    Any,
    /// Another machine's.
    Elsewhere,
}

/// The GPUs; none where there are none, or nothing says so.
fn gpu() -> Option<Cards> {
    cards().ok().flatten()
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The member `hardware` of a leaderboard entry.
pub(super) fn hardware(chip: Chip) -> Value {
    if let (Chip::Any, Some(gpu)) = (chip, gpu()) {
        let memory_gb = gpu.memory_mb.map(|memory| memory / 1024.0);
        let all = memory_gb.map(|memory| rounded(memory * f64::from(gpu.count)));
        // How several are connected, nothing here tells.
        let link = (gpu.count == 1).then_some("None");
        return json!({
            "vendor": "NVIDIA", "chip_model": gpu.name, "chip_count": gpu.count, "interconnect": link,
            "chips_per_node": gpu.count, "intra_node_interconnect": link,
            "memory_per_chip_gb": memory_gb.map(rounded), "total_memory_gb": all,
        });
    }
    if chip == Chip::Elsewhere {
        return json!({
            "vendor": "Unknown", "chip_model": null, "chip_count": null, "interconnect": null,
            "chips_per_node": null, "intra_node_interconnect": null, "memory_per_chip_gb": null, "total_memory_gb": null,
        });
    }
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let vendor = match line_of(&processor, "vendor_id") {
        Some("GenuineIntel") => "Intel",
        Some("AuthenticAMD") => "AMD",
        Some(_) => "Other",
        None => "Unknown",
    };
    let kilobytes =
        line_of(&memory, "MemTotal").and_then(|value| value.split(' ').next()?.parse::<f64>().ok());
    let memory_gb = kilobytes.map(|kilobytes| rounded(kilobytes / 1024.0 / 1024.0));
    json!({
        "vendor": vendor, "chip_model": line_of(&processor, "model name"), "chip_count": 1, "interconnect": "None",
        "chips_per_node": 1, "intra_node_interconnect": "None", "memory_per_chip_gb": memory_gb,
        "total_memory_gb": memory_gb,
    })
}

/// The member `environment` of a leaderboard entry. Python and its libraries are not used here.
pub(super) fn environment(chip: Chip) -> Value {
    let kernel = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
    let os = kernel("ostype").zip(kernel("osrelease"));
    let os = os.map(|(kind, release)| format!("{} {}", kind.trim(), release.trim()));
    let driver = if chip == Chip::Any { gpu().and_then(|gpu| gpu.driver) } else { None };
    json!({
        "os": os.filter(|_| chip != Chip::Elsewhere).unwrap_or_else(|| std::env::consts::OS.into()), "python_version": "N/A", "pytorch_version": "", "cuda_version": "",
        "cann_version": "", "driver_version": driver.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        let text = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Some CPU @ 2 GHz\nMemTotal:  1048576 kB\n";
        assert_eq!(line_of(text, "model name"), Some("Some CPU @ 2 GHz"));
        assert_eq!((line_of(text, "MemTotal"), line_of(text, "model")), (Some("1048576 kB"), None));
    }
}

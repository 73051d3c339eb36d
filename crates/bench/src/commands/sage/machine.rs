//! The machine that a server on it runs on: processor, memory, GPU, system. What is not known is null.

use std::process::Command;

use serde_json::{Value, json};

fn line_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.split(':').next().is_some_and(|own| own.trim() == name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

/// The first GPU: its name, its memory in GB, how many there are, the driver's version.
struct Gpu {
    name: String,
    memory_gb: Option<f64>,
    count: usize,
    driver: String,
}

fn gpu() -> Option<Gpu> {
    let query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"];
    let output =
        Command::new("nvidia-smi").args(query).output().ok().filter(|output| output.status.success())?;
    parse_gpus(&String::from_utf8_lossy(&output.stdout))
}

fn parse_gpus(text: &str) -> Option<Gpu> {
    let fields: Vec<&str> = text.lines().next()?.split(',').map(str::trim).collect();
    let [name, memory, driver] = fields[..] else { return None };
    let memory_gb = memory.parse::<f64>().ok().map(|mb| mb / 1024.0);
    Some(Gpu { name: name.into(), memory_gb, count: text.lines().count(), driver: driver.into() })
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

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The member `hardware` of a leaderboard entry.
pub(super) fn hardware(chip: Chip) -> Value {
    if let (Chip::Any, Some(gpu)) = (chip, gpu()) {
        let all = gpu.memory_gb.map(|memory| rounded(memory * gpu.count as f64));
        // How several are connected, nothing here tells.
        let link = (gpu.count == 1).then_some("None");
        return json!({
            "vendor": "NVIDIA", "chip_model": gpu.name, "chip_count": gpu.count, "interconnect": link,
            "chips_per_node": gpu.count, "intra_node_interconnect": link,
            "memory_per_chip_gb": gpu.memory_gb.map(rounded), "total_memory_gb": all,
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
    let driver = if chip == Chip::Any { gpu().map(|gpu| gpu.driver) } else { None };
    json!({
        "os": os.filter(|_| chip != Chip::Elsewhere).unwrap_or_else(|| std::env::consts::OS.into()), "python_version": "N/A", "pytorch_version": "", "cuda_version": "",
        "cann_version": "", "driver_version": driver.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_and_of_nvidia_smi_are_read() {
        let text = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Some CPU @ 2 GHz\nMemTotal:  1048576 kB\n";
        assert_eq!(line_of(text, "model name"), Some("Some CPU @ 2 GHz"));
        assert_eq!((line_of(text, "MemTotal"), line_of(text, "model")), (Some("1048576 kB"), None));
        let gpu = parse_gpus("NVIDIA H100, 81920, 550.1\nNVIDIA H100, 81920, 550.1\n").unwrap();
        assert_eq!((gpu.name.as_str(), gpu.memory_gb, gpu.count), ("NVIDIA H100", Some(80.0), 2));
        assert_eq!(parse_gpus("A, [N/A], 1\n").unwrap().memory_gb, None);
        assert!(parse_gpus("").is_none() && parse_gpus("error").is_none());
    }
}

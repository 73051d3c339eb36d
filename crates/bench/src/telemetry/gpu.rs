//! GPUs, as `nvidia-smi` tells of them.

use std::process::Command;

use serde_json::{Value, json};

/// A GPU at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpu {
    /// Its number.
    pub index: u32,
    /// Memory in use, in MB.
    pub memory_used_mb: f64,
    /// All its memory, in MB.
    pub memory_total_mb: f64,
    /// Share of time that it computed, in percent.
    pub busy_percent: f64,
    /// Share of time that its memory was read or written, in percent.
    pub memory_busy_percent: f64,
    /// Watts; none where it does not tell.
    pub power_watts: Option<f64>,
}

impl Gpu {
    /// Its figures by name.
    pub fn json(&self) -> Value {
        json!({
            "index": self.index, "memory_used_mb": self.memory_used_mb, "memory_total_mb": self.memory_total_mb,
            "busy_percent": self.busy_percent, "memory_busy_percent": self.memory_busy_percent,
            "power_watts": self.power_watts,
        })
    }
}

/// The GPUs of this machine.
///
/// # Errors
/// Says why there are no figures.
pub fn gpus() -> Result<Vec<Gpu>, String> {
    let query = "--query-gpu=index,memory.used,memory.total,utilization.gpu,utilization.memory,power.draw";
    let output = Command::new("nvidia-smi").args([query, "--format=csv,noheader,nounits"]).output();
    let output = output.map_err(|error| format!("nvidia-smi: {error}"))?;
    if !output.status.success() {
        return Err(format!("nvidia-smi ended with {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| parse(line).ok_or_else(|| format!("nvidia-smi said `{line}`"))).collect()
}

fn parse(line: &str) -> Option<Gpu> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [index, used, total, busy, memory_busy, power] = fields[..] else { return None };
    // A part of a card (MIG) has no utilization: `[N/A]`.
    let percent = |text: &str| text.parse().unwrap_or(0.0);
    Some(Gpu {
        index: index.parse().ok()?,
        memory_used_mb: used.parse().ok()?,
        memory_total_mb: total.parse().ok()?,
        busy_percent: percent(busy),
        memory_busy_percent: percent(memory_busy),
        power_watts: power.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_nvidia_smi_are_read() {
        let gpu = parse("0, 512, 81559, 37, 12, 103.22").unwrap();
        assert_eq!((gpu.memory_used_mb, gpu.busy_percent, gpu.power_watts), (512.0, 37.0, Some(103.22)));
        assert_eq!(parse("1, 5, 10, [N/A], [N/A], [N/A]").unwrap().power_watts, None);
        assert_eq!(parse("nothing"), None);
    }
}

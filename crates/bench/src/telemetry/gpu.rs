//! GPUs, as `nvidia-smi` tells of them.

use std::process::Command;

use serde_json::{Value, json};

/// A GPU at one moment. What it does not tell is none and not zero: a part of a card (MIG) has no utilization, and
/// `nvidia-smi` says `[N/A]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpu {
    /// Its number.
    pub index: u32,
    /// Memory in use, in MB.
    pub memory_used_mb: Option<f64>,
    /// All its memory, in MB.
    pub memory_total_mb: Option<f64>,
    /// Share of time that it computed, in percent.
    pub busy_percent: Option<f64>,
    /// Share of time that its memory was read or written, in percent.
    pub memory_busy_percent: Option<f64>,
    /// Watts.
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
    // In brackets is why there is no number; anything else is a line of something else.
    let number = |text: &str| match text.parse::<f64>() {
        Ok(number) => Some(Some(number)),
        Err(_) => (text.starts_with('[') && text.ends_with(']')).then_some(None),
    };
    Some(Gpu {
        index: index.parse().ok()?,
        memory_used_mb: number(used)?,
        memory_total_mb: number(total)?,
        busy_percent: number(busy)?,
        memory_busy_percent: number(memory_busy)?,
        power_watts: number(power)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_nvidia_smi_are_read() {
        let gpu = parse("0, 512, 81559, 37, 12, 103.22").unwrap();
        assert_eq!(
            (gpu.memory_used_mb, gpu.busy_percent, gpu.power_watts),
            (Some(512.0), Some(37.0), Some(103.22))
        );
        let part = parse("1, 5, 10, [N/A], [Not Supported], [N/A]").unwrap();
        assert_eq!(
            (part.memory_used_mb, part.busy_percent, part.memory_busy_percent),
            (Some(5.0), None, None)
        );
        assert_eq!((part.power_watts, &part.json()["busy_percent"]), (None, &Value::Null));
        assert_eq!((parse("nothing"), parse("0, 1, 2, x, 4, 5")), (None, None));
    }
}

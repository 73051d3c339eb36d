//! The leaderboard entry of a workload, as sageLLM's website reads it. What was not measured is null and never zero, and
//! what no server tells can be said with `--entry`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use model::gguf::Gguf;
use serde_json::{Map, Value, json};

use super::machine::{self, Chip};
use super::workloads::Workload;
use crate::client::{ClientOptions, fetch};
use crate::clock::{Clock, Nanos, iso};
use crate::commands::{command_line, uuid};

/// What all entries of a run have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) engine: String,
    pub(super) engine_version: Option<String>,
    pub(super) model: Value,
    pub(super) chip: Chip,
    pub(super) dataset: String,
    /// What the user says of the entry: path of a member, value.
    pub(super) given: Vec<(String, String)>,
}

/// The engine, and its version where the server tells: pie and vLLM do.
pub(super) fn engine(options: &ClientOptions, named: &str) -> (String, Option<String>) {
    let options = super::e2e::root(options);
    let get = |route: &str| {
        let fetched = fetch(&options, "GET", route, None, Duration::from_secs(5)).ok();
        let fetched = fetched.filter(|fetched| fetched.status == 200)?;
        Some(String::from_utf8_lossy(&fetched.body).into_owned())
    };
    let metrics = get("/metrics").unwrap_or_default();
    if let Some(version) = version_of_pie(&metrics) {
        return ("pie".into(), Some(version));
    }
    let version = get("/version").and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let version = version.and_then(|version| Some(version["version"].as_str()?.to_string()));
    let name = if metrics.contains("\nvllm:") { "vllm" } else { named };
    (name.into(), version)
}

/// The version that `pie_build_info` has as a label.
fn version_of_pie(metrics: &str) -> Option<String> {
    let line = metrics.lines().find(|line| line.starts_with("pie_build_info{"))?;
    let (_, rest) = line.split_once("version=\"")?;
    rest.split('"').next().map(str::to_string)
}

/// The member `model`, with what its file tells where there is one.
pub(super) fn model_of(name: &str, file: Option<&Path>) -> anyhow::Result<Value> {
    let mut facts = json!({"name": name, "parameters": null, "precision": null, "quantization": null});
    let Some(file) = file.filter(|file| file.extension().is_some_and(|end| end == "gguf")) else {
        return Ok(facts);
    };
    let gguf = Gguf::open(file).with_context(|| format!("`{}`", file.display()))?;
    let parameters: usize = gguf.tensors().iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    let mut bytes = std::collections::BTreeMap::<&str, usize>::new();
    for tensor in gguf.tensors() {
        *bytes.entry(tensor.dtype.name()).or_default() += tensor.range.len();
    }
    // The format that most of the weights have; norms and the like are always floats.
    let format = bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(name, _)| name.to_uppercase());
    facts["parameters"] = json!(short_count(parameters));
    if let Some(format) = format {
        let (precision, quantization) = match format.as_str() {
            "F32" => (Some("FP32"), "None"),
            "F16" => (Some("FP16"), "None"),
            "BF16" => (Some("BF16"), "None"),
            other if other.starts_with("Q8") => (Some("INT8"), other),
            other if other.starts_with("Q4") || other.starts_with("IQ4") => (Some("INT4"), other),
            other => (None, other),
        };
        facts["precision"] = json!(precision);
        facts["quantization"] = json!(quantization);
    }
    Ok(facts)
}

/// A count with three digits that matter: 135M, 7.62B.
fn short_count(count: usize) -> String {
    let count = count as f64;
    let (value, unit) = if count >= 1e9 { (count / 1e9, "B") } else { (count / 1e6, "M") };
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{unit}")
}

/// The entry of a workload.
///
/// # Errors
/// When what the user says of it is of no member.
pub(super) fn entry(
    common: &Common,
    workload: &Workload,
    record: &Map<String, Value>,
) -> anyhow::Result<Value> {
    let figure = |name: &str| record.get(name).cloned().unwrap_or_default();
    let now = iso(Clock::start().unix_secs(Nanos(0)));
    let chips = machine::hardware(common.chip);
    let several = chips["chip_count"].as_u64().is_some_and(|count| count > 1);
    // Components of sageLLM, none of which is here.
    let absent =
        ["protocol", "backend", "core", "control_plane", "gateway", "kv_cache", "comm", "compression"];
    let mut versions: Map<String, Value> =
        absent.iter().map(|name| ((*name).to_string(), json!("N/A"))).collect();
    versions.insert("benchmark".into(), json!(format!("pie-bench {}", env!("CARGO_PKG_VERSION"))));
    let version = common.engine_version.clone().unwrap_or_else(|| "unknown".into());
    let mut entry = json!({
        "entry_id": uuid(&mut fastrand::Rng::new()),
        "engine": common.engine,
        "engine_version": version,
        "sagellm_version": "N/A",
        "config_type": if several { "multi_gpu" } else { "single_gpu" },
        "hardware": chips,
        "model": common.model,
        "workload": {
            "name": workload.name,
            "input_length": workload.prompt_tokens,
            "output_length": workload.max_tokens,
            "batch_size": 1,
            "concurrent_requests": workload.at_once(),
            "dataset": common.dataset,
        },
        "metrics": {
            "ttft_ms": figure("avg_ttft_ms"),
            "tbt_ms": figure("avg_tbt_ms"),
            "tpot_ms": figure("avg_tpot_ms"),
            "throughput_tps": figure("output_throughput_tps"),
            "peak_mem_mb": figure("peak_mem_mb"),
            "error_rate": figure("error_rate"),
            "prefix_hit_rate": figure("prefix_hit_rate"),
            "kv_used_tokens": figure("kv_used_tokens"),
            "kv_used_bytes": figure("kv_used_bytes"),
            "evict_count": figure("evict_count"),
            "evict_ms": figure("evict_ms"),
            "spec_accept_rate": figure("spec_accept_rate"),
        },
        "cluster": null,
        "versions": versions,
        "environment": machine::environment(common.chip),
        "kv_cache_config": {
            "enabled": null, "eviction_policy": null, "budget_tokens": null,
            "prefix_cache_enabled": figure("prefix_hit_rate").as_f64().map(|_| true),
        },
        "metadata": {
            "submitted_at": now,
            "submitter": null,
            "data_source": "pie-bench sage run",
            "engine": common.engine,
            "engine_version": version,
            "reproducible_cmd": command_line(),
            "git_commit": null,
            "release_date": now.split('T').next(),
            "changelog_url": null,
            "notes": format!("Benchmark run: {}", workload.name),
            "verified": false,
        },
    });
    for (path, value) in &common.given {
        set(&mut entry, path, value)?;
    }
    Ok(entry)
}

/// Sets a member that an entry has: to a number, true, false or null where the text is one, else to the text.
///
/// # Errors
/// When there is no such member.
pub(super) fn set(entry: &mut Value, path: &str, text: &str) -> anyhow::Result<()> {
    let mut place = entry;
    for name in path.split('.') {
        let known = place.as_object().map(|members| members.keys().cloned().collect::<Vec<_>>().join(", "));
        let Some(next) = place.get_mut(name) else {
            bail!("--entry: found `{path}`, expected a member of an entry: {}", known.unwrap_or_default())
        };
        place = next;
    }
    if place.is_object() {
        bail!("--entry: `{path}` has members, expected one of them");
    }
    *place = serde_json::from_str(text)
        .ok()
        .filter(|value: &Value| !value.is_object() && !value.is_array())
        .unwrap_or_else(|| json!(text));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short_and_versions_are_found() {
        assert_eq!([134_515_008, 7_615_616_512, 1_500_000].map(short_count), ["135M", "7.62B", "1.50M"]);
        let page = "# TYPE pie_build_info gauge\npie_build_info{commit=\"c\",version=\"0.1.0\"} 1\n";
        assert_eq!(version_of_pie(page).as_deref(), Some("0.1.0"));
        assert_eq!(version_of_pie("vllm:x 1\n"), None);
    }

    #[test]
    fn what_the_user_says_goes_to_its_member() {
        let mut entry = json!({"hardware": {"chip_model": null, "chip_count": 1}, "engine": "a"});
        set(&mut entry, "hardware.chip_model", "H100").unwrap();
        set(&mut entry, "hardware.chip_count", "8").unwrap();
        assert_eq!(entry["hardware"], json!({"chip_model": "H100", "chip_count": 8}));
        let error = set(&mut entry, "hardware.colour", "red").unwrap_err().to_string();
        assert!(
            error.contains("chip_model, chip_count") || error.contains("chip_count, chip_model"),
            "{error}"
        );
        assert!(set(&mut entry, "hardware", "1").is_err());
    }
}

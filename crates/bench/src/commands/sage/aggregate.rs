//! `sage aggregate`: the leaderboard entries of many runs as the two files of the website, the best of each kind.
//!
//! Nothing is sent or fetched: what is in the folder of the two files already is merged with what was measured, so the
//! files of a dataset are put there first, and sent from there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::clock::{Clock, Nanos, iso};
use crate::report::files;

/// What is merged.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pie-bench sage aggregate --input ./benchmark_results --output-dir ./hf_data")]
pub(super) struct AggregateFlags {
    /// Folder below which every *_leaderboard.json is read.
    #[arg(long, default_value = "./benchmark_results", value_name = "FOLDER")]
    input: PathBuf,
    /// Folder of leaderboard_single.json and leaderboard_multi.json, whose entries stay unless better ones come.
    #[arg(long, default_value = "./hf_data", value_name = "FOLDER")]
    output_dir: PathBuf,
}

/// A share by which a figure must be better to count: what is nearer is noise.
const MARGIN: f64 = 0.05;
/// Folders below the input are followed so deep.
const DEPTH: usize = 16;

/// The files of entries below a folder, by name.
fn entries_below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let unreadable = || format!("cannot read `{}`", folder.display());
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let (path, kind) = (entry.path(), entry.file_type().with_context(unreadable)?);
        // A link may lead back up.
        if kind.is_dir() && depth > 0 {
            entries_below(&path, depth - 1, found)?;
        } else if kind.is_file() && path.to_string_lossy().ends_with("_leaderboard.json") {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

/// Reads a file of one entry or of a list.
fn read(path: &Path) -> anyhow::Result<Vec<Value>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{shown}`"))?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("`{shown}` is no JSON"))?;
    let entries = if let Value::Array(entries) = value { entries } else { vec![value] };
    for entry in &entries {
        let named = ["entry_id", "engine", "config_type"].iter().all(|name| entry[*name].is_string());
        let whole = ["hardware", "model", "workload", "metrics"].iter().all(|name| entry[*name].is_object());
        ensure!(
            named && whole,
            "`{shown}` has an entry that is none, expected entry_id, engine, config_type, hardware, model, workload and metrics"
        );
    }
    Ok(entries)
}

/// What two entries must have in common to be of one kind.
fn key(entry: &Value) -> String {
    let nodes = entry["cluster"]["node_count"].as_u64().unwrap_or(1).into();
    let parts = [
        &entry["engine"],
        &entry["engine_version"],
        &entry["sagellm_version"],
        &entry["workload"]["name"],
        &entry["model"]["name"],
        &entry["model"]["precision"],
        &entry["hardware"]["chip_model"],
        &entry["hardware"]["chip_count"],
        &nodes,
        &entry["config_type"],
    ];
    let part = |value: &&Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        let text = text.trim().to_lowercase();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c));
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
    };
    parts.iter().map(part).collect::<Vec<_>>().join("|")
}

/// Whether an entry is better than another of its kind: by throughput, else by TTFT, else by failures.
fn is_better(new: &Value, old: &Value) -> bool {
    let both = |name: &str| new["metrics"][name].as_f64().zip(old["metrics"][name].as_f64());
    if let Some((new, old)) = both("throughput_tps")
        && (new > old * (1.0 + MARGIN) || old > new * (1.0 + MARGIN))
    {
        return new > old;
    }
    if let Some((new, old)) = both("ttft_ms")
        && (new < old * (1.0 - MARGIN) || old < new * (1.0 - MARGIN))
    {
        return new < old;
    }
    both("error_rate").is_some_and(|(new, old)| new < old)
}

/// The best entry of each kind, in the order of their kinds; how many are new and how many have replaced one.
fn merge(existing: Vec<Value>, new: Vec<Value>) -> (Vec<Value>, usize, usize) {
    let mut best: BTreeMap<String, Value> = existing.into_iter().map(|entry| (key(&entry), entry)).collect();
    let (mut added, mut replaced) = (0, 0);
    for entry in new {
        let key = key(&entry);
        match best.get(&key) {
            None => added += 1,
            // The same entry from an earlier aggregation.
            Some(old) if old["entry_id"] == entry["entry_id"] || !is_better(&entry, old) => continue,
            Some(_) => replaced += 1,
        }
        best.insert(key, entry);
    }
    (best.into_values().collect(), added, replaced)
}

/// Reads, merges and writes.
///
/// # Errors
/// When there is no entry, or a file is none or cannot be written.
pub(super) fn run(flags: &AggregateFlags) -> anyhow::Result<ExitCode> {
    let mut paths = Vec::new();
    entries_below(&flags.input, DEPTH, &mut paths)?;
    ensure!(
        !paths.is_empty(),
        "found no *_leaderboard.json below `{}`: `pie-bench sage run` writes them",
        flags.input.display()
    );
    let mut entries = Vec::new();
    for path in &paths {
        entries.extend(read(path)?);
    }
    let several = |entry: &Value| entry["cluster"]["node_count"].as_u64().unwrap_or(1) > 1;
    let (multi, single): (Vec<Value>, Vec<Value>) = entries.into_iter().partition(several);
    for (name, new) in [("leaderboard_single.json", single), ("leaderboard_multi.json", multi)] {
        let path = flags.output_dir.join(name);
        let existing = if path.exists() { read(&path)? } else { Vec::new() };
        let (merged, added, replaced) = merge(existing, new);
        let count = merged.len();
        files::write(&path, format!("{:#}\n", Value::Array(merged)).as_bytes())?;
        println!("{}: {count} entries, {added} new, {replaced} better than before", path.display());
    }
    let marker = json!({"last_updated": iso(Clock::start().unix_secs(Nanos(0)))});
    files::write(&flags.output_dir.join("last_updated.json"), format!("{marker:#}\n").as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, chip: &str, throughput: f64, ttft: f64) -> Value {
        json!({
            "entry_id": id, "engine": "pie", "config_type": "single_gpu", "hardware": {"chip_model": chip},
            "model": {"name": "m"}, "workload": {"name": "Q1"},
            "metrics": {"throughput_tps": throughput, "ttft_ms": ttft, "error_rate": 0.0},
        })
    }

    #[test]
    fn the_best_of_each_kind_stays_and_noise_replaces_nothing() {
        let old =
            vec![entry("a", "X", 100.0, 10.0), entry("b", "Y", 100.0, 10.0), entry("c", "Z", 100.0, 10.0)];
        let new = vec![
            entry("d", "X", 104.0, 9.9),
            entry("e", "Y", 110.0, 50.0),
            entry("f", "Z", 99.0, 5.0),
            entry("g", "W (R)", 1.0, 1.0),
            entry("g", "w r", 1.0, 1.0),
        ];
        let (merged, added, replaced) = merge(old, new);
        let mut ids: Vec<&str> = merged.iter().filter_map(|entry| entry["entry_id"].as_str()).collect();
        ids.sort_unstable();
        assert_eq!((ids, added, replaced), (vec!["a", "e", "f", "g"], 1, 2));
    }
}

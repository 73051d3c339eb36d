//! `sage convergence`: a comparison, with what the servers say of themselves kept beside it, so that a reader can see
//! that each took the path that it was meant to take.

use std::fmt::Write;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use super::compare::{TargetsFlags, measured};
use super::e2e::{label_and, root, slug};
use crate::client::{ClientOptions, fetch};
use crate::report::files;

/// What is compared and kept.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pie-bench sage convergence --target before=http://127.0.0.1:8901/v1 --target after=http://127.0.0.1:8902/v1 \\
      --log-file before=/tmp/before.log --log-file after=/tmp/after.log

Lines with a marker are counted in logs, /info and /metrics. Markers are words with `|` between them, whatever their case;
SHARED_STREAM_MARKERS, PAGED_PATH_MARKERS and BLOCK_TABLE_MARKERS replace them.")]
pub(super) struct ConvergenceFlags {
    #[command(flatten)]
    targets: TargetsFlags,
    /// The log of a server as LABEL=FILE, in which markers are counted.
    #[arg(long, value_name = "LABEL=FILE", value_parser = label_and)]
    log_file: Vec<(String, String)>,
}

/// Kinds of markers: their name in files, the variable that replaces them, and those of sageLLM, pie and vLLM.
const MARKERS: [(&str, &str, &str); 3] = [
    (
        "shared_stream_markers",
        "SHARED_STREAM_MARKERS",
        "shared_batched_stream_worker|cross_request_batching|SharedStreamBatchStart|pie_batches_total|vllm:iteration_tokens_total",
    ),
    (
        "paged_path_markers",
        "PAGED_PATH_MARKERS",
        "block_tables|paged_attention|paged:implementation|native-ascend|native-kunlun|native-musa|torch-fallback|pie_kv_pages|vllm:kv_cache_usage_perc",
    ),
    (
        "block_table_markers",
        "BLOCK_TABLE_MARKERS",
        "block_tables|has_block_tables|slot_mapping|context_lens|pie_kv_pages_pool|num_gpu_blocks",
    ),
];

/// Lines with a marker, for each kind, over the texts.
fn hits(texts: &[&str]) -> Map<String, Value> {
    let one = |(name, variable, default): &(&str, &str, &str)| {
        let set = std::env::var(variable).ok().filter(|set| !set.is_empty());
        let pattern = set.unwrap_or_else(|| (*default).to_string());
        let words: Vec<String> =
            pattern.split('|').map(str::to_lowercase).filter(|word| !word.is_empty()).collect();
        let lines = texts.iter().flat_map(|text| text.lines()).map(str::to_lowercase);
        let count = lines.filter(|line| words.iter().any(|word| line.contains(word))).count();
        ((*name).to_string(), json!({"pattern": pattern, "hits": count}))
    };
    MARKERS.iter().map(one).collect()
}

fn all_zero(hits: &Map<String, Value>) -> bool {
    hits.values().all(|kind| kind["hits"] == 0)
}

/// What a server says of itself, each kept as a file where it says it: name of the probe, file, text.
fn probes(
    options: &ClientOptions,
    folder: &Path,
    slug: &str,
) -> anyhow::Result<Vec<(&'static str, String, String)>> {
    let server = root(options);
    let mut found = Vec::new();
    for (name, route, end) in [
        ("info", "/info", "info.json"),
        ("models", "/v1/models", "models.json"),
        ("metrics", "/metrics", "metrics.prom"),
    ] {
        // The list of models is for servers without /info.
        if name == "models" && !found.is_empty() {
            continue;
        }
        let answer = fetch(&server, "GET", route, None, Duration::from_secs(10));
        let Some(answer) = answer.ok().filter(|answer| answer.status == 200) else { continue };
        let file = format!("{slug}_{end}");
        files::write(&folder.join(&file), &answer.body)?;
        found.push((name, file, String::from_utf8_lossy(&answer.body).into_owned()));
    }
    Ok(found)
}

/// The entry of a target in validation_summary.json.
fn validation(target: &Value, slug: &str, probes: &[(&str, String, String)], log: Option<&Value>) -> Value {
    let file = |name: &str| probes.iter().find(|(probe, ..)| *probe == name).map(|(_, file, _)| file);
    let texts: Vec<&str> = probes.iter().map(|(_, _, text)| text.as_str()).collect();
    let surface = hits(&texts);
    let mut gaps = Vec::new();
    if file("info").is_none() && file("models").is_none() {
        gaps.push("missing_endpoint_identity_probe");
    }
    if file("metrics").is_none() {
        gaps.push("missing_metrics_probe");
    }
    let in_log = log.and_then(Value::as_object);
    match in_log {
        None => gaps.push("missing_log_probe"),
        Some(log) if MARKERS.iter().all(|(name, ..)| log[*name]["hits"] == 0) => {
            gaps.push("log_probe_marker_hits_zero");
        }
        Some(_) => {}
    }
    if all_zero(&surface) {
        gaps.push("runtime_surface_marker_hits_zero");
    }
    let figures = [
        "avg_ttft_ms",
        "avg_tbt_ms",
        "avg_throughput_tps",
        "output_throughput_tps",
        "request_throughput_rps",
    ];
    let mut summary: Map<String, Value> =
        figures.iter().map(|name| ((*name).to_string(), target[*name].clone())).collect();
    summary.insert("total_rows".into(), target["rows"].clone());
    json!({
        "label": target["label"],
        "url": target["url"],
        "summary": summary,
        "delta_vs_baseline": target["delta_vs_baseline"],
        "artifacts": {
            "target_json": format!("{slug}.json"),
            "target_markdown": format!("{slug}.md"),
            "info_json": file("info"),
            "models_json": file("models"),
            "metrics_prom": file("metrics"),
            "log_probe_json": log.map(|_| format!("{slug}_log_probe.json")),
        },
        "probe_coverage": {
            "info": file("info").is_some(),
            "models": file("models").is_some(),
            "metrics": file("metrics").is_some(),
            "log_probe": log.is_some(),
        },
        "runtime_surface_markers": surface,
        "evidence_gaps": gaps,
        "log_probe": log,
    })
}

/// The object of validation_summary.json.
fn summary(comparison: &Value, targets: &[Value]) -> Value {
    json!({
        "profile": "convergence",
        "baseline": comparison["baseline"],
        "model": comparison["model"],
        "batch_sizes": comparison["batch_sizes"],
        "result_fields": [
            "avg_ttft_ms", "avg_tbt_ms", "avg_throughput_tps", "output_throughput_tps", "request_throughput_rps",
            "shared_stream_markers.hits", "paged_path_markers.hits", "block_table_markers.hits",
        ],
        "validation_checks": {
            "shared_stream_concurrent_batching": "compare avg_ttft_ms, avg_tbt_ms and output_throughput_tps at batch sizes of 2 or more, then shared_stream_markers.hits of *_log_probe.json",
            "paged_or_native_path_usage": "paged_path_markers.hits of *_log_probe.json, *_info.json and *_metrics.prom",
            "formal_block_table_usage": "block_table_markers.hits of *_log_probe.json, with *_metrics.prom",
        },
        "targets": targets,
    })
}

/// The page of VALIDATION.md.
fn page(summary: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_string();
    let list = |value: &Value| {
        let items = value.as_array().into_iter().flatten();
        let items: Vec<String> =
            items.map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_string)).collect();
        items.join(", ")
    };
    let number = |value: &Value| value.as_f64().map_or_else(|| "-".into(), |value| format!("{value:.2}"));
    let mut out = String::from("# Convergence validation\n\n");
    // Writing to a string does not fail.
    let _ = writeln!(out, "- Baseline: {}", word(&summary["baseline"]));
    let _ = writeln!(out, "- Model: {}", word(&summary["model"]));
    let _ = writeln!(out, "- Batch sizes: {}", list(&summary["batch_sizes"]));
    let _ = writeln!(out, "- Result fields: {}\n\n## Targets\n", list(&summary["result_fields"]));
    for target in summary["targets"].as_array().into_iter().flatten() {
        let (figures, log) = (&target["summary"], &target["log_probe"]);
        let marker = |of: &Value| {
            let counts = MARKERS.map(|(name, ..)| {
                let hits = of[name]["hits"].as_u64();
                format!(
                    "{} {}",
                    name.trim_end_matches("_markers"),
                    hits.map_or_else(|| "-".into(), |hits| hits.to_string())
                )
            });
            counts.join(", ")
        };
        let _ = writeln!(
            out,
            "- {}: TTFT {} ms, TBT {} ms, output {} tok/s",
            word(&target["label"]),
            number(&figures["avg_ttft_ms"]),
            number(&figures["avg_tbt_ms"]),
            number(&figures["output_throughput_tps"])
        );
        let _ = writeln!(out, "  - markers in the log: {}", marker(log));
        let _ = writeln!(
            out,
            "  - markers in /info, /v1/models and /metrics: {}",
            marker(&target["runtime_surface_markers"])
        );
        let covered = target["probe_coverage"].as_object().into_iter().flatten();
        let covered: Vec<&str> =
            covered.filter(|(_, is)| **is == true).map(|(name, _)| name.as_str()).collect();
        let _ = writeln!(
            out,
            "  - probes: {}",
            if covered.is_empty() { "none".into() } else { covered.join(", ") }
        );
        let gaps = list(&target["evidence_gaps"]);
        if !gaps.is_empty() {
            let _ = writeln!(out, "  - evidence that is missing: {gaps}");
        }
    }
    out
}

/// Compares, asks and writes.
///
/// # Errors
/// When a server cannot be measured, or a file not read or written.
pub(super) fn run(mut flags: ConvergenceFlags) -> anyhow::Result<ExitCode> {
    for (label, path) in &flags.log_file {
        let known = flags.targets.target.iter().any(|(target, _)| target == label);
        ensure!(known, "--log-file: found the label `{label}`, expected that of a --target");
        // Servers that are started here may write theirs later.
        ensure!(
            Path::new(path).parent().is_none_or(|folder| folder.as_os_str().is_empty() || folder.is_dir()),
            "--log-file: `{path}` is in no folder"
        );
    }
    let e2e = &mut flags.targets.e2e;
    e2e.request_timeout.get_or_insert(180.0);
    e2e.server_wait.get_or_insert(120.0);
    e2e.max_output_tokens.get_or_insert(64);
    let sizes = flags.targets.e2e.batch_sizes(&[1, 2, 4]);
    let compared = measured(&flags.targets, flags.targets.folder("convergence"), &sizes)?;
    let folder = &compared.folder;
    let mut targets = Vec::new();
    for (index, (label, url)) in flags.targets.target.iter().enumerate() {
        let slug = slug(label);
        let probes = probes(&flags.targets.e2e.options(url)?, folder, &slug)?;
        let log = flags.log_file.iter().find(|(own, _)| own == label).map(|(_, path)| {
            let bytes = std::fs::read(path).with_context(|| format!("--log-file: cannot read `{path}`"))?;
            let mut probe =
                Map::from_iter([("label".into(), json!(label)), ("log_file".into(), json!(path))]);
            probe.extend(hits(&[&String::from_utf8_lossy(&bytes)]));
            let probe = Value::Object(probe);
            files::write(&folder.join(format!("{slug}_log_probe.json")), format!("{probe:#}\n").as_bytes())?;
            anyhow::Ok(probe)
        });
        let target = &compared.comparison["targets"][index];
        targets.push(validation(target, &slug, &probes, log.transpose()?.as_ref()));
    }
    let summary = summary(&compared.comparison, &targets);
    files::write(&folder.join("validation_summary.json"), format!("{summary:#}\n").as_bytes())?;
    files::write(&folder.join("VALIDATION.md"), page(&summary).as_bytes())?;
    let script = folder.join("REPRODUCE.sh");
    files::write(&script, reproduction(std::env::args()).as_bytes())?;
    std::fs::set_permissions(&script, Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make `{}` run", script.display()))?;
    print!("{}", page(&summary));
    compared.clean_up(flags.targets.asks());
    Ok(ExitCode::SUCCESS)
}

/// A script that does the same again. A key that was given is not in it.
fn reproduction(arguments: impl Iterator<Item = String>) -> String {
    let mut hides = false;
    let mut line = String::from("pie-bench");
    for argument in arguments.skip(1) {
        if std::mem::take(&mut hides) || argument.starts_with("--api-key=") {
            continue;
        }
        if argument == "--api-key" {
            hides = true;
            continue;
        }
        // In single quotes only a single quote has a meaning.
        line += &format!(" '{}'", argument.replace('\'', "'\\''"));
    }
    format!("#!/bin/sh\n# The key is that of OPENAI_API_KEY or LLM_API_KEY.\nset -eu\n{line}\n")
}

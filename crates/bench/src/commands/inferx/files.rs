//! The files of a run: metrics.csv, metrics.json, gpu_memory.csv, summary.json, throughput_latency.png.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::gpu::Look;
use super::plot;
use super::row::{HEADER, Row, quoted};
use crate::clock::iso;
use crate::metrics::Distribution;
use crate::report::chart::{Format, Theme, render};
use crate::report::{Report, files};

/// The head of gpu_memory.csv, and of one without figures.
const GPU_HEADER: &str = "ts,mem_used_mb,mem_total_mb,gpu_util,gpu_mem_util";
const GPU_ERROR_HEADER: &str = "ts,mem_used_mb,error";

/// Dots per inch of the picture.
const DPI: u32 = 144;

/// What a GPU did, or why that is not known.
pub(super) type Gpu = Result<Vec<Look>, String>;

/// Whether the run's rows can be added to what is in the folder; asked before the run.
///
/// # Errors
/// When a metrics.csv is there that is none.
pub(super) fn check_folder(folder: &Path) -> anyhow::Result<()> {
    existing(&folder.join("metrics.csv")).map(drop)
}

/// Rows of earlier runs, with the head.
fn existing(path: &Path) -> anyhow::Result<String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(format!("{HEADER}\n")),
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    };
    let head = text.lines().next().unwrap_or_default();
    ensure!(
        head == HEADER,
        "`{}` begins with `{head}`, expected `{HEADER}`; another --outdir?",
        path.display()
    );
    let end = if text.ends_with('\n') { "" } else { "\n" };
    Ok(text + end)
}

/// Writes all files of the run and says which.
///
/// # Errors
/// The first that cannot be written.
pub(super) fn write(folder: &Path, report: &Report, gpu: Option<&Gpu>) -> anyhow::Result<Vec<PathBuf>> {
    let rows = rows(report);
    let lines: String = rows.iter().map(|row| row.csv() + "\n").collect();
    let metrics = existing(&folder.join("metrics.csv"))? + &lines;
    let chart = render(&plot::chart(&rows).svg(Theme::Light), Format::Png, DPI)?;
    let mut contents = vec![
        ("metrics.csv", metrics.into_bytes()),
        ("metrics.json", serde_json::to_vec_pretty(&rows)?),
        ("summary.json", serde_json::to_vec_pretty(&summary(report, &rows, gpu))?),
        ("throughput_latency.png", chart),
    ];
    if let Some(gpu) = gpu {
        contents.insert(2, ("gpu_memory.csv", gpu_csv(gpu, report.started_unix()).into_bytes()));
    }
    let mut paths = Vec::new();
    for (name, content) in contents {
        let path = folder.join(name);
        files::write(&path, &content)?;
        paths.push(path);
    }
    Ok(paths)
}

/// The rows of a run.
pub(super) fn rows(report: &Report) -> Vec<Row> {
    // Unique among runs whose rows are in one file: from the moment of the start, and the request's number.
    let start = (report.run.clock.unix_secs(crate::clock::Nanos(0)) * 1e6) as u64;
    let id = |index: usize| {
        let mut rng = fastrand::Rng::with_seed(start ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        super::super::uuid(&mut rng)
    };
    report.run.records.iter().map(|record| Row::new(record, &report.run.clock, id(record.index))).collect()
}

pub(super) fn gpu_csv(gpu: &Gpu, at: f64) -> String {
    match gpu {
        Ok(samples) => {
            let line = |(unix_secs, gpu): &Look| {
                let figures =
                    [gpu.memory_used_mb, gpu.memory_total_mb, gpu.busy_percent, gpu.memory_busy_percent];
                let cells = figures.map(|figure| figure.map_or(String::new(), |figure| figure.to_string()));
                format!("{unix_secs:.6},{}\n", cells.join(","))
            };
            format!("{GPU_HEADER}\n") + &samples.iter().map(line).collect::<String>()
        }
        Err(why) => format!("{GPU_ERROR_HEADER}\n{at:.6},,{}\n", quoted(why)),
    }
}

fn seconds(values: impl Iterator<Item = f64>) -> Value {
    let values = Distribution::new(values);
    json!({
        "count": values.count(),
        "mean": values.mean(),
        "p50": values.percentile(50.0),
        "p90": values.percentile(90.0),
        "p99": values.percentile(99.0),
        "max": values.max(),
    })
}

/// The object of summary.json. What has no value is null, never zero.
pub(super) fn summary(report: &Report, rows: &[Row], gpu: Option<&Gpu>) -> Value {
    let (context, summary) = (&report.context, &report.summary);
    let complete: Vec<&Row> = rows.iter().filter(|row| row.is_complete()).collect();
    let of = |value: fn(&Row) -> Option<f64>| seconds(complete.iter().filter_map(|row| value(row)));
    let gpu = gpu.map(|gpu| match gpu {
        Ok(samples) => {
            let used = Distribution::new(samples.iter().filter_map(|(_, gpu)| gpu.memory_used_mb));
            json!({"samples": used.count(), "peak_mem_used_mb": used.max(), "mean_mem_used_mb": used.mean()})
        }
        Err(why) => json!({"error": why}),
    });
    json!({
        "date": iso(report.started_unix()),
        "command": context.command,
        "endpoint": context.url,
        "rate": context.request_rate,
        "concurrency": context.max_concurrency,
        "seed": context.seed,
        "duration_s": summary.duration_secs,
        "requests": rows.len(),
        "completed": summary.completed,
        "failed": summary.failed,
        "cancelled": summary.cancelled,
        "skipped": summary.skipped,
        "interrupted": report.run.interrupted,
        "errors": crate::report::json::errors(summary),
        "throughput_rps": summary.throughput.requests,
        "prompt_tokens": complete.iter().map(|row| u64::from(row.prompt_tokens)).sum::<u64>(),
        "resp_tokens": complete.iter().filter_map(|row| row.resp_tokens.map(u64::from)).sum::<u64>(),
        "ttft_s": of(Row::ttft),
        "tpot_s": of(Row::tpot),
        "latency_s": of(Row::latency),
        "queue_wait_s": of(Row::queue_wait),
        "gpu": gpu,
        "verdict": report.verdict.to_string(),
        "definitions": {
            "ttft_s": "first_byte_time - send_time; first_byte_time is the first chunk with a token, and the end of an answer in one piece",
            "tpot_s": "(end_time - first_byte_time) / resp_tokens; none for an answer in one piece",
            "latency_s": "end_time - send_time",
            "queue_wait_s": "send_time - enqueue_time",
            "percentiles": "linear interpolation, completed requests only",
        },
    })
}

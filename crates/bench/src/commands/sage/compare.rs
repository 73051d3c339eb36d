//! `sage compare`, `compare-record` and `compare-offline`: servers side by side, the first of them the baseline.

use std::fmt::Write;
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::e2e::{E2eFlags, Target, label_and, slug};
use super::payload::Payload;
use super::plots::{PlotFlags, speedup};
use crate::client::Stop;
use crate::clock::{Clock, Nanos, compact};
use crate::commands::child::{Children, Process, last_lines};
use crate::commands::interrupt;
use crate::report::files;

/// Which servers are compared, and how.
#[derive(Debug, Args)]
pub(super) struct TargetsFlags {
    /// A server as LABEL=URL, two or more; the first is the baseline.
    #[arg(long, required = true, value_name = "LABEL=URL", value_parser = label_and)]
    pub(super) target: Vec<(String, String)>,
    /// A command that starts the server of a label, as LABEL=COMMAND. It is stopped in the end.
    #[arg(long, value_name = "LABEL=COMMAND", value_parser = label_and)]
    target_command: Vec<(String, String)>,
    /// Model to name in requests; the first that each server lists by default.
    #[arg(long)]
    pub(super) model: Option<String>,
    #[command(flatten)]
    pub(super) e2e: E2eFlags,
    /// Folder of the files; benchmark_results/compare_DATE by default.
    #[arg(long, value_name = "FOLDER")]
    output_dir: Option<PathBuf>,
    /// Ask at the terminal whether servers that were started here are stopped.
    #[arg(long, overrides_with = "no_prompt_cleanup")]
    prompt_cleanup: bool,
    /// Stop them without asking, which is the default. Servers that ran before are never stopped.
    #[arg(long, overrides_with = "prompt_cleanup")]
    no_prompt_cleanup: bool,
    #[command(flatten)]
    plots: PlotFlags,
}

/// What is compared.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pie-bench sage compare --target vllm=http://127.0.0.1:8000/v1 --target pie=http://127.0.0.1:8080/v1 --batch-size 1,2,4")]
pub(super) struct CompareFlags {
    #[command(flatten)]
    targets: TargetsFlags,
}

/// Which server is recorded.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pie-bench sage compare-record --label vllm --url http://127.0.0.1:8000/v1 --output-dir ./captured")]
pub(super) struct RecordFlags {
    /// Name of the server in comparisons.
    #[arg(long)]
    label: String,
    /// Its address.
    #[arg(long)]
    url: String,
    /// Model to name in requests; the first that it lists by default.
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    e2e: E2eFlags,
    /// Folder of the files; benchmark_results/compare_record_DATE by default.
    #[arg(long, value_name = "FOLDER")]
    output_dir: Option<PathBuf>,
}

/// Which records are compared.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pie-bench sage compare-offline --result vllm=captured/vllm.json --result pie=captured/pie.json")]
pub(super) struct OfflineFlags {
    /// A file of `compare` or `compare-record` as LABEL=FILE, two or more; the first is the baseline.
    #[arg(long, required = true, value_name = "LABEL=FILE", value_parser = label_and)]
    result: Vec<(String, String)>,
    /// Folder of the files; benchmark_results/compare_offline_DATE by default.
    #[arg(long, value_name = "FOLDER")]
    output_dir: Option<PathBuf>,
    #[command(flatten)]
    plots: PlotFlags,
}

/// What was measured of all targets, with the servers that were started for it.
pub(super) struct Compared {
    pub(super) folder: PathBuf,
    pub(super) comparison: Value,
    started: Vec<(String, Process)>,
}

pub(super) fn folder(named: Option<&PathBuf>, prefix: &str) -> PathBuf {
    let now = compact(Clock::start().unix_secs(Nanos(0))).replace('-', "_");
    named.cloned().unwrap_or_else(|| Path::new("benchmark_results").join(format!("{prefix}_{now}")))
}

/// Labels must be of different files.
fn check_labels<'a>(labels: impl Iterator<Item = &'a String>, flag: &str) -> anyhow::Result<()> {
    let slugs: Vec<String> = labels.map(|label| slug(label)).collect();
    ensure!(slugs.len() >= 2, "--{flag}: found {}, expected two or more to compare", slugs.len());
    let reserved = ["comparison", "validation_summary"];
    for (index, one) in slugs.iter().enumerate() {
        ensure!(!slugs[..index].contains(one), "--{flag}: two labels make the file `{one}.json`: rename one");
        ensure!(!reserved.contains(&one.as_str()), "--{flag}: `{one}` is another file here: rename it");
    }
    Ok(())
}

/// Measures every target and writes what came of it.
///
/// # Errors
/// When a server cannot be started or measured, or a file not written.
pub(super) fn measured(
    flags: &TargetsFlags,
    folder: PathBuf,
    batch_sizes: &[u32],
) -> anyhow::Result<Compared> {
    check_labels(flags.target.iter().map(|(label, _)| label), "target")?;
    for (label, _) in &flags.target_command {
        let known = flags.target.iter().any(|(target, _)| target == label);
        ensure!(known, "--target-command: found the label `{label}`, expected that of a --target");
    }
    let (stop, children) = (Stop::default(), Children::default());
    interrupt::watch_both(&stop, &children)?;
    let log = |label: &str| folder.join(format!("{}.log", slug(label)));
    let mut started = Vec::new();
    for (label, line) in &flags.target_command {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        started.push((label.clone(), Process::start(command, &log(label), &children)?));
    }
    let mut payloads = Vec::new();
    for (label, url) in &flags.target {
        eprintln!("{label}: {url}");
        let target = Target { url, model: flags.model.as_deref(), precision: "live" };
        let mut own = started.iter_mut().find(|(name, _)| name == label);
        let mut alive = || match own.as_mut().map(|(_, process)| process.ended()).transpose()?.flatten() {
            Some(status) => bail!("its command ended with {status}: {}", last_lines(&log(label))),
            None => Ok(()),
        };
        let rows = flags.e2e.measure(batch_sizes, &target, &stop, &mut alive);
        payloads.push(write_target(label, url, rows.with_context(|| label.clone())?, batch_sizes, &folder)?);
        ensure!(
            !stop.is_stopped(),
            "stopped before all targets were measured; what was is in `{}`",
            folder.display()
        );
    }
    let comparison = write_comparison(&payloads, &folder, &flags.plots)?;
    Ok(Compared { folder, comparison, started })
}

impl Compared {
    /// Stops the servers that were started, or leaves those that the user wants to keep.
    pub(super) fn clean_up(self, asks: bool) {
        for (label, process) in self.started {
            if asks && std::io::stdin().is_terminal() {
                eprint!("Stop the server of {label} (process {})? [Y/n] ", process.id());
                let mut answer = String::new();
                let read = std::io::stdin().lock().read_line(&mut answer);
                if read.is_ok() && answer.trim().to_ascii_lowercase().starts_with('n') {
                    process.leave();
                    continue;
                }
            }
            // Which stops it.
            drop(process);
        }
    }
}

impl TargetsFlags {
    /// Whether to ask before servers are stopped.
    pub(super) fn asks(&self) -> bool {
        self.prompt_cleanup
    }

    /// The folder of the files.
    pub(super) fn folder(&self, prefix: &str) -> PathBuf {
        folder(self.output_dir.as_ref(), prefix)
    }
}

/// Writes the files of a target.
fn write_target(
    label: &str,
    url: &str,
    rows: Vec<super::e2e::Row>,
    batch_sizes: &[u32],
    folder: &Path,
) -> anyhow::Result<Payload> {
    let payload = Payload {
        mode: Some("live-compare".into()),
        label: Some(label.into()),
        url: Some(url.into()),
        ..Payload::new(rows, batch_sizes)
    };
    ensure!(payload.has_answers(), "{label}: no request was answered");
    let path = |end: &str| folder.join(format!("{}.{end}", slug(label)));
    files::write(&path("json"), &payload.json()?)?;
    files::write(&path("md"), payload.text(true).as_bytes())?;
    Ok(payload)
}

/// The object of comparison.json.
pub(super) fn comparison(payloads: &[Payload]) -> Value {
    let base = &payloads[0];
    let difference = |own: Option<f64>, base: Option<f64>| own.zip(base).map(|(own, base)| own - base);
    let targets = payloads.iter().map(|payload| {
        let (own, base) = (&payload.summary, &base.summary);
        let rates = own.output_throughput_tps.zip(base.output_throughput_tps);
        json!({
            "label": payload.label,
            "url": payload.url,
            "rows": own.total_rows,
            "failed_requests": payload.rows.iter().map(|row| row.failed_requests).sum::<u64>(),
            "avg_ttft_ms": own.avg_ttft_ms,
            "avg_tbt_ms": own.avg_tbt_ms,
            "avg_throughput_tps": own.avg_throughput_tps,
            "output_throughput_tps": own.output_throughput_tps,
            "request_throughput_rps": own.request_throughput_rps,
            "speedup": rates.filter(|(_, base)| *base > 0.0).map(|(own, base)| own / base),
            "delta_vs_baseline": {
                "ttft_ms": difference(own.avg_ttft_ms, base.avg_ttft_ms),
                "tbt_ms": difference(own.avg_tbt_ms, base.avg_tbt_ms),
                "throughput_tps": difference(own.avg_throughput_tps, base.avg_throughput_tps),
            },
        })
    });
    let targets: Vec<Value> = targets.collect();
    // Servers may name the same model differently; that of the baseline is the comparison's.
    json!({
        "kind": "compare",
        "model": base.models.first(),
        "batch_sizes": base.batch_sizes,
        "baseline": base.label,
        "targets": targets,
    })
}

/// The page of a comparison.
fn page(comparison: &Value) -> String {
    let number = |value: &Value| value.as_f64().map_or_else(|| "-".into(), |value| format!("{value:.2}"));
    let signed = |value: &Value| value.as_f64().map_or_else(|| "-".into(), |value| format!("{value:+.2}"));
    let word = |value: &Value| value.as_str().unwrap_or("-").to_string();
    let targets = comparison["targets"].as_array().map_or(&[][..], Vec::as_slice);
    let sizes = comparison["batch_sizes"].as_array().into_iter().flatten().map(Value::to_string);
    let mut out = String::from("# Endpoint comparison\n\n");
    // Writing to a string does not fail.
    let _ = writeln!(out, "- Model: {}", word(&comparison["model"]));
    let _ = writeln!(out, "- Baseline: {}", word(&comparison["baseline"]));
    let _ = writeln!(out, "- Batch sizes: {}\n", sizes.collect::<Vec<_>>().join(", "));
    let head = [
        "Target",
        "Rows",
        "Avg TTFT (ms)",
        "Avg TBT (ms)",
        "Avg TPS",
        "Delta TTFT",
        "Delta TBT",
        "Delta TPS",
        "Speedup",
    ];
    let mut lines = vec![head.map(str::to_string)];
    lines.extend(targets.iter().map(|target| {
        let delta = &target["delta_vs_baseline"];
        [
            word(&target["label"]),
            target["rows"].to_string(),
            number(&target["avg_ttft_ms"]),
            number(&target["avg_tbt_ms"]),
            number(&target["avg_throughput_tps"]),
            signed(&delta["ttft_ms"]),
            signed(&delta["tbt_ms"]),
            signed(&delta["throughput_tps"]),
            number(&target["speedup"]),
        ]
    }));
    out += &super::report::table(&lines, 1, true);
    out += "\nTPS is the throughput of a request, the mean of the rows; the speedup is of the output of whole batches.\n\n";
    out += "## Targets\n\n";
    for target in targets {
        let _ = writeln!(out, "- {}: {}", word(&target["label"]), word(&target["url"]));
    }
    out
}

fn write_comparison(payloads: &[Payload], folder: &Path, plots: &PlotFlags) -> anyhow::Result<Value> {
    let comparison = comparison(payloads);
    let page = page(&comparison);
    files::write(&folder.join("comparison.json"), format!("{comparison:#}\n").as_bytes())?;
    files::write(&folder.join("comparison.md"), page.as_bytes())?;
    print!("{page}");
    println!("\nWritten: {}", folder.display());
    if plots.plot {
        let of = |target: &Value| {
            (target["label"].as_str().unwrap_or("-").to_string(), target["speedup"].as_f64())
        };
        let bars: Vec<(String, Option<f64>)> =
            comparison["targets"].as_array().into_iter().flatten().map(of).collect();
        for path in plots.write(&folder.join("comparison.md"), &[("speedup_bar", speedup(&bars))])? {
            println!("Written: {path}");
        }
    }
    Ok(comparison)
}

/// Compares servers.
///
/// # Errors
/// See [`measured`].
pub(super) fn run(flags: &CompareFlags) -> anyhow::Result<ExitCode> {
    let flags = &flags.targets;
    let sizes = flags.e2e.batch_sizes(&[1, 2, 4]);
    measured(flags, flags.folder("compare"), &sizes)?.clean_up(flags.asks());
    Ok(ExitCode::SUCCESS)
}

/// Measures one server, to be compared later.
///
/// # Errors
/// When it cannot be measured, or a file not written.
pub(super) fn record(flags: &RecordFlags) -> anyhow::Result<ExitCode> {
    let stop = Stop::default();
    interrupt::watch(&stop)?;
    let folder = folder(flags.output_dir.as_ref(), "compare_record");
    let sizes = flags.e2e.batch_sizes(&[1, 2, 4]);
    let target = Target { url: &flags.url, model: flags.model.as_deref(), precision: "live" };
    let rows = flags.e2e.measure(&sizes, &target, &stop, &mut || Ok(()))?;
    let payload = write_target(&flags.label, &flags.url, rows, &sizes, &folder)?;
    print!("{}", payload.text(false));
    println!("Written: {}", folder.join(format!("{}.json", slug(&flags.label))).display());
    Ok(ExitCode::SUCCESS)
}

/// Compares what was recorded.
///
/// # Errors
/// When a file is no record, or one cannot be written.
pub(super) fn offline(flags: &OfflineFlags) -> anyhow::Result<ExitCode> {
    check_labels(flags.result.iter().map(|(label, _)| label), "result")?;
    let payloads = flags.result.iter().map(|(label, path)| {
        let payload = Payload::read(Path::new(path))?;
        let url = payload.url.clone().or_else(|| Some("offline-captured".into()));
        Ok(Payload { label: Some(label.clone()), url, ..payload })
    });
    let payloads: Vec<Payload> = payloads.collect::<anyhow::Result<_>>()?;
    for payload in &payloads {
        if payload.batch_sizes != payloads[0].batch_sizes {
            let (label, own) = (payload.label.as_deref().unwrap_or_default(), &payload.batch_sizes);
            bail!(
                "{label} has the batch sizes {own:?}, expected {:?}, those of the baseline",
                payloads[0].batch_sizes
            );
        }
        ensure!(
            !payload.simulate,
            "`{}` has simulated figures",
            payload.label.as_deref().unwrap_or_default()
        );
    }
    write_comparison(&payloads, &folder(flags.output_dir.as_ref(), "compare_offline"), &flags.plots)?;
    Ok(ExitCode::SUCCESS)
}

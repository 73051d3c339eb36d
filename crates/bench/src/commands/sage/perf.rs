//! `sage perf`: models of a server at several batch sizes.
//!
//! Nothing is simulated, and operators are not measured: they are parts of an engine, and a server's API does not reach
//! them. The flags of both are refused with what does it instead.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};

use super::e2e::{E2eFlags, Target};
use super::payload::Payload;
use super::plots::{PlotFlags, figures};
use crate::client::Stop;
use crate::commands::interrupt;
use crate::report::files;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Requests to a server.
    E2e,
    /// Refused: `cargo bench -p kernels` measures them.
    Operator,
}

/// What is measured, and where it is written.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PerfFlags {
    /// What is measured.
    #[arg(long = "type", value_enum, default_value_t = Kind::E2e)]
    kind: Kind,
    /// Models to name in requests, several times for several; the first that the server lists by default.
    #[arg(long)]
    model: Vec<String>,
    /// A word for how each model's numbers are stored, which no API tells: one for all, or one for each --model.
    #[arg(long, value_delimiter = ',', value_name = "WORD")]
    precision: Vec<String>,
    /// Address of the server.
    #[arg(long, default_value = "http://localhost:8000/v1", value_name = "URL")]
    backend_url: String,
    #[command(flatten)]
    e2e: E2eFlags,
    /// Measure, which is what is always done.
    #[arg(long)]
    live: bool,
    /// Refused: made-up figures say nothing of a server.
    #[arg(long, conflicts_with = "live")]
    simulate: bool,
    /// Of operators, refused with them.
    #[arg(long, hide = true)]
    device: Option<String>,
    /// Of operators, refused with them.
    #[arg(long, hide = true)]
    iterations: Option<u32>,
    /// Of operators, refused with them.
    #[arg(long, hide = true)]
    warmup: Option<u32>,
    /// File of the rows.
    #[arg(long, default_value = "./benchmark_results/perf_results.json", value_name = "FILE")]
    output_json: PathBuf,
    /// File for people.
    #[arg(long, default_value = "./benchmark_results/perf_report.md", value_name = "FILE")]
    output_markdown: PathBuf,
    #[command(flatten)]
    plots: PlotFlags,
}

const EXAMPLES: &str = "\
Examples:
  pie-bench sage perf --backend-url http://127.0.0.1:8080/v1
  pie-bench sage perf --backend-url http://127.0.0.1:8080/v1 --batch-size 1,2,4 --max-output-tokens 64 --plot --theme dark
  pie-bench sage report --input ./benchmark_results/perf_results.json --plot --plot-format pdf";

impl PerfFlags {
    fn check(&self) -> anyhow::Result<()> {
        let operators = "operators are measured within an engine: pie's by `cargo bench -p kernels`, a model without a server by `pie bench MODEL`";
        ensure!(self.kind == Kind::E2e, "--type operator: {operators}");
        let given = [
            ("device", self.device.is_some()),
            ("iterations", self.iterations.is_some()),
            ("warmup", self.warmup.is_some()),
        ];
        if let Some((name, _)) = given.iter().find(|(_, given)| *given) {
            bail!("--{name}: {operators}");
        }
        ensure!(!self.simulate, "--simulate: figures are measured here; leave it out, or give --live");
        let (models, words) = (self.model.len().max(1), self.precision.len());
        ensure!(
            words <= 1 || words == models,
            "--precision: found {words} for {models} models, expected one for all or one for each"
        );
        Ok(())
    }
}

/// Measures, prints the table and writes the files.
///
/// # Errors
/// When a model cannot be measured, or a file not written.
pub(super) fn run(flags: &PerfFlags) -> anyhow::Result<ExitCode> {
    flags.check()?;
    let stop = Stop::default();
    interrupt::watch(&stop)?;
    let batch_sizes = flags.e2e.batch_sizes(&[1, 4, 8]);
    let models: Vec<Option<&str>> = match &flags.model[..] {
        [] => vec![None],
        named => named.iter().map(|model| Some(model.as_str())).collect(),
    };
    let mut rows = Vec::new();
    for (index, model) in models.into_iter().enumerate() {
        let word = flags.precision.get(index).or(flags.precision.first());
        let precision = word.map_or("live", String::as_str);
        let target = Target { url: &flags.backend_url, model, precision };
        rows.extend(flags.e2e.measure(&batch_sizes, &target, &stop, &mut || Ok(()))?);
    }
    let mut payload = Payload::new(rows, &batch_sizes);
    if flags.plots.plot {
        payload.plots = flags.plots.write(&flags.output_markdown, &figures(&payload))?;
    }
    print!("{}", payload.text(false));
    files::write(&flags.output_json, &payload.json()?)?;
    files::write(&flags.output_markdown, payload.text(true).as_bytes())?;
    let written = [flags.output_json.display().to_string(), flags.output_markdown.display().to_string()];
    for path in written.iter().chain(&payload.plots) {
        println!("Written: {path}");
    }
    Ok(if payload.has_answers() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

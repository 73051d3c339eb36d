//! `pie-bench replay`: send a trace at the moments that it has, faster or slower.

use std::process::ExitCode;

use clap::Args;

use super::interrupt;
use super::prepare::MeasureFlags;
use crate::client::Stop;
use crate::report::{self, terminal};

/// Which trace, and how fast.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pie-bench replay --dataset-name mooncake --dataset-path conversation_trace.jsonl --num-prompts 500 --speed 4
  pie-bench replay --dataset-name azure --dataset-path conv.csv --max-input-len 4000 --duration 60")]
pub struct ReplayFlags {
    #[command(flatten)]
    measure: MeasureFlags,
    /// How many times as fast as it was recorded.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
}

/// Replays, prints the report and writes what was asked for.
///
/// # Errors
/// When the trace cannot be read or has no moments.
pub fn run(mut flags: ReplayFlags) -> anyhow::Result<ExitCode> {
    flags.measure.load.arrival = Some(format!("trace:{}", flags.speed).parse()?);
    let prepared = flags.measure.prepare()?;
    let stop = Stop::default();
    interrupt::watch(&stop)?;
    let report = prepared.measure(&prepared.load(), prepared.samples.len(), &stop)?;
    print!("{}", terminal::text(&report));
    for path in report::write_all(&report, &prepared.output().files(), None)? {
        println!("Written: {}", path.display());
    }
    Ok(if report.summary.completed == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

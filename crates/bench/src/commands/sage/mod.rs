//! `pie-bench sage`: workloads, files and reports of the sageLLM benchmark.
//!
//! Differences from the program that it takes the place of: prompts have the lengths that their workload says,
//! `--mode` is followed, requests of a workload overlap, failures are counted, and what is not measured is null and
//! not zero.

mod contract;
mod gate;
mod measures;
mod report;
mod run;
mod telemetry;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

/// What is done.
#[derive(Debug, Args)]
pub struct SageFlags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run workloads.
    Run(Box<run::RunFlags>),
    /// Show the results of a run.
    Report(report::ReportFlags),
    /// Compare the results of two runs, and fail when the second is worse.
    Gate(gate::GateFlags),
    /// Write a file of workloads to begin with.
    WorkloadTemplate {
        /// The file; to stdout without it.
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
}

/// Does what was asked.
///
/// # Errors
/// What went wrong, for people.
pub fn run(flags: SageFlags) -> anyhow::Result<ExitCode> {
    match flags.command {
        Command::Run(flags) => run::run(&flags),
        Command::Report(flags) => report::run(&flags),
        Command::Gate(flags) => gate::run(&flags),
        Command::WorkloadTemplate { output } => {
            let text = serde_json::to_string_pretty(&workloads::named("mixed")?)?;
            match output {
                Some(path) => crate::report::files::write(&path, format!("{text}\n").as_bytes())?,
                None => println!("{text}"),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(test)]
mod tests;

//! `pie-bench sage`: workloads, files and reports of the sageLLM benchmark.
//!
//! Differences from the program that it takes the place of: prompts have the lengths that their workload says,
//! `--mode` is followed, requests of a workload overlap, failures are counted, nothing is simulated, and what is not
//! measured is null and not zero.

mod aggregate;
mod compare;
mod contract;
mod convergence;
mod e2e;
mod gate;
mod leaderboard;
mod machine;
mod measures;
mod payload;
mod perf;
mod plots;
mod report;
mod run;
mod telemetry;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use workloads::FileFormat;

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
    /// Measure the models of a server at several batch sizes.
    Perf(Box<perf::PerfFlags>),
    /// Measure servers side by side.
    Compare(Box<compare::CompareFlags>),
    /// Measure one server, to be compared later.
    CompareRecord(Box<compare::RecordFlags>),
    /// Compare what was recorded.
    CompareOffline(compare::OfflineFlags),
    /// Compare servers, and keep what they say of themselves.
    Convergence(Box<convergence::ConvergenceFlags>),
    /// Merge the leaderboard entries of many runs, the best of each kind.
    Aggregate(aggregate::AggregateFlags),
    /// Show the results of a run.
    Report(report::ReportFlags),
    /// Compare the results of two runs, and fail when the second is worse.
    Gate(gate::GateFlags),
    /// Write a file of workloads to begin with.
    WorkloadTemplate {
        /// The file; to stdout without it.
        #[arg(long, short)]
        output: Option<PathBuf>,
        /// Its format; that of its name by default, else JSON.
        #[arg(long, value_enum)]
        format: Option<workloads::FileFormat>,
    },
}

/// Does what was asked.
///
/// # Errors
/// What went wrong, for people.
pub fn run(flags: SageFlags) -> anyhow::Result<ExitCode> {
    match flags.command {
        Command::Run(flags) => run::run(&flags),
        Command::Perf(flags) => perf::run(&flags),
        Command::Compare(flags) => compare::run(&flags),
        Command::CompareRecord(flags) => compare::record(&flags),
        Command::CompareOffline(flags) => compare::offline(&flags),
        Command::Convergence(flags) => convergence::run(*flags),
        Command::Aggregate(flags) => aggregate::run(&flags),
        Command::Report(flags) => report::run(&flags),
        Command::Gate(flags) => gate::run(&flags),
        Command::WorkloadTemplate { output, format } => {
            let of_name = || output.as_deref().map_or(FileFormat::Json, FileFormat::of);
            let text = workloads::file_of(&workloads::named("mixed")?, format.unwrap_or_else(of_name))?;
            match output {
                Some(path) => crate::report::files::write(&path, text.as_bytes())?,
                None => print!("{text}"),
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(test)]
mod tests;

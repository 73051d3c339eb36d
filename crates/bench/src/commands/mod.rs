//! The command line. One file or folder for each command, and a row of [`Command`].

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "these are the commands of a program for terminals"
)]

pub mod aibrix;
pub mod child;
pub mod compare;
pub mod flags;
pub mod inferx;
pub mod interrupt;
pub mod lengths;
pub mod mock;
pub mod paper;
pub mod prepare;
pub mod progress;
pub mod regression;
pub mod replay;
pub mod sage;
pub mod selftest;
pub mod serve;
pub mod session;
pub mod slo;
pub mod sweep;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Put load on a server of language models, and see what it does.
#[derive(Debug, Parser)]
#[command(name = "pie-bench", version, after_help = EXAMPLES)]
pub struct Flags {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pie-bench mock --port 8000 --ttft 50 --gap 10
  pie-bench serve --base-url http://127.0.0.1:8000 --dataset-name random --num-prompts 100 --request-rate 5
  pie-bench paper fig6 --baseline http://127.0.0.1:8081

Keys come from --api-key, OPENAI_API_KEY or LLM_API_KEY.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure a server under a load; takes the flags of `vllm bench serve`.
    Serve(Box<serve::ServeFlags>),
    /// Repeat the experiments of the paper, beside a baseline.
    Paper(Box<paper::PaperFlags>),
    /// Send a trace at the moments that it has.
    Replay(Box<replay::ReplayFlags>),
    /// Measure a server at several loads.
    Sweep(Box<sweep::SweepFlags>),
    /// Search the highest load at which promises are kept.
    Slo(Box<slo::SloFlags>),
    /// Show reports side by side.
    Compare(compare::CompareFlags),
    /// Judge a report by another one: an exit code for pipelines.
    Gate(compare::GateFlags),
    /// Find out how much this client can take on this machine.
    Selftest(selftest::SelftestFlags),
    /// Measure with the flags and files of the InferX benchmark framework.
    Inferx(Box<inferx::InferxFlags>),
    /// Run the workloads of the sageLLM benchmark, with its files.
    Sage(sage::SageFlags),
    /// Run the stages of AIBrix's benchmark: dataset, workload, client, analysis.
    Aibrix(aibrix::AibrixFlags),
    /// Be a server whose answers follow a script.
    Mock(mock::MockFlags),
}

impl Flags {
    /// Does what was asked. The exit code is that of the command.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(flags) => serve::run(*flags),
            Command::Paper(flags) => paper::run(*flags),
            Command::Replay(flags) => replay::run(*flags),
            Command::Sweep(flags) => sweep::run(*flags),
            Command::Slo(flags) => slo::run(*flags),
            Command::Compare(flags) => compare::compare(&flags),
            Command::Gate(flags) => compare::gate(&flags),
            Command::Selftest(flags) => selftest::run(&flags),
            Command::Inferx(flags) => inferx::run(*flags),
            Command::Sage(flags) => sage::run(flags),
            Command::Aibrix(flags) => aibrix::run(&flags),
            Command::Mock(flags) => mock::run(flags),
        }
    }
}

/// Names of flags with dashes in place of underscores, which other tools take: `--result_dir` is `--result-dir`.
pub fn with_dashes(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let dashed = |argument: OsString| match argument.to_str() {
        Some(text) if text.starts_with("--") => {
            let (name, value) =
                text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
            let name = name.replace('_', "-");
            OsString::from(value.map_or_else(|| name.clone(), |value| format!("{name}={value}")))
        }
        _ => argument,
    };
    arguments.map(dashed).collect()
}

/// What the user typed, for a report: without the keys in it.
pub fn command_line() -> String {
    let mut hide = false;
    let masked = std::env::args().map(|argument| {
        let is_key = |name: &str| matches!(name.replace('_', "-").as_str(), "--api-key" | "--header");
        let shown = match argument.split_once('=') {
            _ if hide && !argument.starts_with("--") => "***".to_string(),
            Some((name, _)) if is_key(name) => format!("{name}=***"),
            _ => argument.clone(),
        };
        // `--header` takes several values.
        hide = is_key(&argument) || (hide && !argument.starts_with("--"));
        shown
    });
    masked.collect::<Vec<_>>().join(" ")
}

/// A random identifier of version 4, as text.
fn uuid(rng: &mut fastrand::Rng) -> String {
    let bits = (rng.u128(..) & !(0xf << 76) & !(0x3 << 62)) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

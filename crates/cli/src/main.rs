//! The `pie` binary: flags, config file, wiring, exit codes. The only place that reads the environment, names
//! the CPU backend and prints.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the program that talks to a terminal"
)]

mod api;
mod assemble;
mod bundled;
mod commands;
mod config;
mod develop;
mod fingerprint;
mod home;
mod keys;
mod kv_events;
mod logging;
mod output;
mod progress;
mod telemetry;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use commands::remote::{Elsewhere, OnServer};
use logging::LogFormat;

/// Run programs next to a language model.
///
/// An inferlet is a small WebAssembly program that runs next to the model and drives each forward pass.
#[derive(Parser)]
#[command(name = "pie", version, after_help = EXAMPLES)]
struct Flags {
    #[command(subcommand)]
    command: Command,
    /// Say more of what happens; twice for even more. Also: PIE_LOG=scheduler=debug.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  pie model add smollm2-135m-instruct
  pie run text-completion -- --prompt \"What is the capital of France?\"
  pie new my-program
  pie run --watch my-program -- --my-flag 3
  pie serve --no-auth
  pie key add ann
  pie serve --host 0.0.0.0
  pie run --server http://10.0.0.2:8080 my_program.wasm -- --my-flag 3
  pie ps --server http://10.0.0.2:8080
  pie stats
  pie start --config config.toml
  pie bench smollm2-135m-instruct --prompt 128,512 --generate 128 --batch 1,8

Files live in PIE_HOME (default: the user's data directory).";

#[derive(Subcommand)]
enum Command {
    /// Load a model, run one inferlet on it, and stream what it sends.
    Run(commands::run::RunFlags),
    /// The inferlets of a user on a server.
    Ps(OnServer<commands::ps::Ps>),
    /// What an inferlet on a server has said and nobody has taken yet.
    Logs(OnServer<commands::logs::Logs>),
    /// Go on with an inferlet on a server.
    Attach(OnServer<commands::attach::Attach>),
    /// End an inferlet on a server.
    Kill(OnServer<commands::kill::Kill>),
    /// Install a program under a name and a version, on this machine or on a server.
    Install(Elsewhere<commands::install::Install>),
    /// List the programs that can be launched by name, on this machine or on a server.
    Programs(Elsewhere<commands::programs::Programs>),
    /// Remove an installed program, on this machine or on a server.
    Remove(Elsewhere<commands::remove::Remove>),
    /// Start the server, and a shell to run inferlets in it.
    Start(commands::start::StartFlags),
    /// Serve the OpenAI API: the same server, without a shell.
    #[command(after_help = commands::start::SERVE_EXAMPLES)]
    Serve(commands::start::StartFlags),
    /// A shell for a server: the commands that take `--server`, a line each.
    Shell(commands::shell::ShellFlags),
    /// Make, list and revoke the keys that requests come with.
    Key(commands::key::KeyFlags),
    /// Show what a server does: its models, programs and routes.
    Stats(commands::stats::StatsFlags),
    /// Make the folder of a new program, with a test.
    New(commands::new::NewFlags),
    /// Build a program from its folder, and check that it fits this server.
    Build(commands::build::BuildFlags),
    /// Run the tests of a program.
    Test(commands::build::TestFlags),
    /// Add, list, remove and describe models.
    Model(commands::model::ModelFlags),
    /// Measure how fast a model computes here, beside what the machine allows.
    Bench(commands::bench::BenchFlags),
    /// Record what a running server does, as a file for Perfetto.
    Trace(commands::trace::TraceFlags),
    /// Check that everything is in place, and say what to do where it is not.
    Doctor(commands::doctor::DoctorFlags),
    /// Print what a shell needs to complete commands and flags.
    Completions(commands::shell_files::CompletionFlags),
    /// Write the manual pages.
    Man(commands::shell_files::ManFlags),
}

fn main() -> ExitCode {
    without_backtraces();
    let flags = Flags::parse();
    let verbose = flags.verbose;
    if matches!(&flags.command, Command::Run(run) if run.asks_own_help()) {
        let mut command = Flags::command();
        command.build();
        let run = command.find_subcommand_mut("run").expect("it is a command");
        return match run.print_long_help() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(output::CLOSED),
        };
    }
    // The commands that read a config file start the log when they know its format.
    if !matches!(flags.command, Command::Run(_) | Command::Start(_) | Command::Serve(_)) {
        logging::start(verbose, LogFormat::Text);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let result = runtime.block_on(async {
            match flags.command {
                Command::Run(flags) => commands::run::run(flags, verbose).await,
                Command::Ps(flags) => flags.perform().await,
                Command::Logs(flags) => flags.perform().await,
                Command::Attach(flags) => flags.perform().await,
                Command::Kill(flags) => flags.perform().await,
                Command::Install(flags) => flags.perform().await,
                Command::Programs(flags) => flags.perform().await,
                Command::Remove(flags) => flags.perform().await,
                Command::Start(flags) => commands::start::start(flags, verbose).await,
                Command::Serve(flags) => commands::start::serve(flags, verbose).await,
                Command::Shell(flags) => commands::shell::shell(flags).await,
                Command::Key(flags) => commands::key::key(flags),
                Command::Stats(flags) => commands::stats::stats(flags).await,
                Command::New(flags) => commands::new::new(&flags),
                Command::Build(flags) => commands::build::build(&flags).await,
                Command::Test(flags) => commands::build::test(&flags),
                Command::Model(flags) => commands::model::model(flags).await,
                Command::Bench(flags) => commands::bench::bench(flags),
                Command::Trace(flags) => commands::trace::trace(flags).await,
                Command::Doctor(flags) => commands::doctor::doctor(&flags).await,
                Command::Completions(flags) => commands::shell_files::completions::<Flags>(&flags),
                Command::Man(flags) => commands::shell_files::man::<Flags>(&flags),
            }
        });
        // A thread that waits for a line of a terminal cannot be ended; it must not keep the process.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<output::Closed>() => ExitCode::from(output::CLOSED),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Errors keep no backtraces, whatever `RUST_BACKTRACE` asks for panics. The library of grammars makes an error anew for
/// every rule on the way back to the first one, and a backtrace for each takes half a minute where the error takes a
/// twentieth of a second.
fn without_backtraces() {
    if std::env::var_os("RUST_LIB_BACKTRACE").is_none() {
        // SAFETY: no other thread runs yet that could read the environment.
        #[expect(unsafe_code, reason = "the standard library asks the environment alone")]
        unsafe {
            std::env::set_var("RUST_LIB_BACKTRACE", "0");
        }
    }
}

//! `pie-bench aibrix`: the stages of AIBrix's benchmark, with its configuration, its files and its plots.
//!
//! ```text
//! dataset -> dataset_file -> workload -> workload_file, workload.pdf -> client -> output.jsonl -> analysis
//! ```
//!
//! Nothing is measured here: the client is that of `pie-bench serve`, and its records are written in this format.

pub mod analysis;
pub mod client;
pub mod config;
pub mod dataset;
pub mod keys;
pub mod plots;
pub mod rows;
pub mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use self::config::Config;
use super::interrupt;
use crate::client::Stop;
use crate::dataset::DatasetError;
use crate::dataset::tokens::{ServerTokens, Tokens};
use crate::report::files;

/// A stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Every stage, in this order.
    All,
    /// Make or convert prompts.
    Dataset,
    /// Say when which prompt is sent.
    Workload,
    /// Send them.
    Client,
    /// Figures and plots of what came back.
    Analysis,
}

/// What is done.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct AibrixFlags {
    /// The stage.
    #[arg(long, value_enum, required_unless_present_any = ["write_config", "overrides"])]
    stage: Option<Stage>,
    /// The configuration in YAML; what it leaves out has its default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set a key, with dots between levels: workload_configs.constant.target_qps=4. `help` lists the keys.
    #[arg(long = "override", value_name = "KEY=VALUE", num_args = 1..)]
    overrides: Vec<String>,
    /// Write a configuration with every key and its default, and do nothing else.
    #[arg(long, value_name = "FILE")]
    write_config: Option<PathBuf>,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  pie-bench aibrix --write-config config.yaml
  pie-bench aibrix --stage all --config config.yaml --override endpoint=http://localhost:8000
  pie-bench aibrix --stage workload --override workload_type=azure workload_configs.azure.trace_path=conv.csv
  pie-bench aibrix --override help";

/// Runs the stages.
///
/// # Errors
/// What is wrong with the configuration, a file or the server.
pub fn run(flags: &AibrixFlags) -> anyhow::Result<ExitCode> {
    if flags.overrides.iter().any(|text| text == "help") {
        print!("{}", config::help());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(path) = &flags.write_config {
        anyhow::ensure!(!path.exists(), "`{}` is there already: name another file", path.display());
        files::write(path, config::example().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let environment = |name: &str| std::env::var(name).ok();
    let config = Config::load(flags.config.as_deref(), &flags.overrides, &environment)?;
    for name in &config.unknown {
        eprintln!("note: nothing reads the key `{name}`; `--override help` lists the keys");
    }
    let Some(stage) = flags.stage else {
        anyhow::bail!("--stage: found none, expected all, dataset, workload, client or analysis");
    };
    let runs = |one: Stage| stage == one || stage == Stage::All;
    let stop = Stop::default();
    if runs(Stage::Dataset) || runs(Stage::Workload) {
        let tokens = tokens(&config)?;
        if runs(Stage::Dataset) {
            dataset::run(&config, &tokens)?;
        }
        if runs(Stage::Workload) {
            workload::run(&config, &tokens)?;
        }
    }
    if runs(Stage::Client) {
        interrupt::watch(&stop)?;
        client::run(&config, &stop, flags.quiet)?;
    }
    if runs(Stage::Analysis) {
        analysis::run(&config)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What counts tokens: the tokenizer's file, else the server, else words.
fn tokens(config: &Config) -> anyhow::Result<Tokens> {
    let name = config.text("tokenizer")?;
    let path = PathBuf::from(&name);
    if path.exists() {
        return Ok(Tokens::open(&path)?);
    }
    // A path that is not there is a mistake; a name of a hub is what a server would know.
    anyhow::ensure!(
        !(path.is_absolute() || name.starts_with('.')),
        "`tokenizer`: `{name}` does not exist; expected a folder with a tokenizer.json, that file or a .gguf"
    );
    match ServerTokens::open(&client::options(config)?) {
        Ok(server) => Ok(Tokens::Server(Box::new(server))),
        Err(DatasetError::Tokenizer(why)) => {
            eprintln!("note: `{name}` is no file here, and {why}: lengths are counted in words");
            Ok(Tokens::Words)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;

//! `pie-bench paper`: the experiments of the paper *Pie: A Programmable Serving System for Emerging LLM Applications*.
//!
//! On pie a program does the work within the server, started by one request; the baseline does the same as an application
//! would over the OpenAI API. Sizes are the paper's times `--scale`. Each experiment prints its table, and writes it with
//! every value as JSON, and its figure as SVG.

pub mod api;
pub mod counters;
pub mod experiments;
pub mod markup;
pub mod measure;
pub mod pie;
pub mod progress;
pub mod session;
pub mod setting;
pub mod table;
pub mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use crate::client::ClientOptions;
use crate::clock::{Clock, Nanos, iso};
use crate::commands::child::{self, Children};
use crate::commands::interrupt;
use crate::report::chart::Theme;
use crate::report::files;
use experiments::{Experiment, TABLE};
use setting::{Servers, Setting};

/// What is measured, and on which servers.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PaperFlags {
    /// Which of the experiments: fig6 to fig11, table2 to table5, or all.
    #[arg(required = true, value_name = "EXPERIMENT")]
    experiments: Vec<String>,
    /// A pie that runs, with `--serve /launch=launch-server`; else one is started for each experiment.
    #[arg(long, value_name = "URL")]
    pie: Option<String>,
    /// Server for the same work over the OpenAI API: llama.cpp's, vLLM, pie. For table4 one for each model.
    #[arg(long, value_name = "URL")]
    baseline: Vec<String>,
    /// Factor on the paper's number of instances; 1 is the paper's, for a GPU.
    #[arg(long, default_value_t = 0.0625)]
    scale: f64,
    /// Repetitions of each measurement.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Only these workloads or variants of an experiment, such as react.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Model for a pie that is started: a name of `pie model list`, or a file. For table4 several.
    #[arg(long, default_value = "smollm2-135m-instruct")]
    model: Vec<String>,
    /// Threads for a pie that is started; the machine's cores by default.
    #[arg(long)]
    threads: Option<usize>,
    /// The binary that is started; PIE_BIN, the `pie` beside this program or that of the path by default.
    #[arg(long, value_name = "FILE")]
    pie_binary: Option<PathBuf>,
    /// Sources of the programs, for table2.
    #[arg(long, default_value = "inferlets", value_name = "FOLDER")]
    inferlets: PathBuf,
    /// Built programs that a pie that is started runs instead of its own; PIE_PROGRAMS by default. table2 has the sizes
    /// of these, or of what was built in the folder of the sources.
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// Folder for the files.
    #[arg(long, default_value = "paper-results", value_name = "FOLDER")]
    output_dir: PathBuf,
    /// Colours of the figures.
    #[arg(long, value_enum, default_value_t)]
    theme: Theme,
    /// Key for all servers; else OPENAI_API_KEY or LLM_API_KEY.
    #[arg(long)]
    api_key: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  pie-bench paper fig8 --only text                                pie alone, started for it
  pie-bench paper fig6 --baseline http://127.0.0.1:8081           beside llama.cpp's server
  pie-bench paper all --scale 1 --pie http://gpu:8080 --baseline http://gpu:8000

docs/benchmarks.md has the paper's commands beside these.";

/// Measures, prints and writes.
///
/// # Errors
/// What is wrong with the flags, a server or a file.
pub fn run(flags: PaperFlags) -> anyhow::Result<ExitCode> {
    let chosen = chosen(&flags.experiments)?;
    if !(flags.scale.is_finite() && flags.scale > 0.0 && flags.scale <= 8.0) {
        bail!("--scale: found {}, expected a number above 0, 8 at most", flags.scale);
    }
    let setting = Setting {
        servers: Servers {
            pie: flags.pie,
            baselines: flags.baseline,
            api_key: flags.api_key.or_else(ClientOptions::key_of_environment),
            binary: child::binary(flags.pie_binary),
            models: flags.model,
            threads: flags.threads,
            programs: programs(flags.programs),
            children: Children::default(),
        },
        scale: flags.scale,
        repeats: flags.repeats as usize,
        only: flags.only,
        inferlets: flags.inferlets,
    };
    interrupt::end_at_once(&setting.servers.children)?;
    for experiment in chosen {
        let started = Clock::start();
        eprintln!("{}: {}", experiment.name, experiment.about);
        let outcome = (experiment.run)(&setting).with_context(|| experiment.name)?;
        println!("## {}\n", outcome.title);
        for table in &outcome.tables {
            println!("{table}");
        }
        for note in &outcome.notes {
            println!("- {note}");
        }
        println!();
        let report = json!({
            "experiment": experiment.name, "title": outcome.title, "date": iso(started.unix_secs(Nanos(0))),
            "seconds": started.now().secs(), "scale": setting.scale, "repeats": setting.repeats,
            "pie": setting.servers.pie, "baseline": setting.servers.baselines, "models": setting.servers.models,
            "notes": outcome.notes, "data": outcome.data,
        });
        let file = |ending: &str| flags.output_dir.join(format!("{}.{ending}", experiment.name));
        files::write(&file("json"), format!("{report:#}\n").as_bytes())?;
        eprintln!("written: {}", file("json").display());
        if let Some(figure) = &outcome.figure {
            files::write(&file("svg"), figure.svg(flags.theme).as_bytes())?;
            eprintln!("written: {}", file("svg").display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder that is named, or `$PIE_PROGRAMS`.
fn programs(named: Option<PathBuf>) -> Option<PathBuf> {
    let set = || std::env::var_os("PIE_PROGRAMS").filter(|value| !value.is_empty()).map(PathBuf::from);
    named.or_else(set)
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Experiment>> {
    if names.iter().any(|name| name == "all") {
        return Ok(TABLE.iter().collect());
    }
    let find = |name: &String| {
        let known = || TABLE.map(|experiment| experiment.name).join(", ");
        let found = TABLE.iter().find(|experiment| experiment.name == name);
        found.with_context(|| format!("no experiment is named `{name}`; expected {} or all", known()))
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experiments_are_known_by_name() {
        let names =
            |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_string()).collect() };
        assert_eq!(chosen(&names(&["fig8", "table2"])).unwrap().len(), 2);
        assert_eq!(chosen(&names(&["all"])).unwrap().len(), TABLE.len());
        let error = chosen(&names(&["fig5"])).unwrap_err().to_string();
        assert!(error.contains("`fig5`") && error.contains("fig6, fig7"), "{error}");
    }
}

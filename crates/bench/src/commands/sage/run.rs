//! `sage run`: the workloads, one after the other, against a server that is there or one that is started for it.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::leaderboard::{self, Common};
use super::machine::Chip;
use super::telemetry::Watch;
use super::workloads::{self, Workload};
use super::{contract, measures, report as shown};
use crate::client::api::Api;
use crate::client::{ClientOptions, Stop};
use crate::clock::{Clock, Nanos, iso};
use crate::commands::child::{self, Children, Server, Start};
use crate::commands::flags::{first_model, key_value};
use crate::commands::{command_line, interrupt, session, uuid};
use crate::dataset::tokens::Tokens;
use crate::dataset::{DatasetOptions, load};
use crate::report::{Context as About, files};
use crate::workload::{Arrival, Limit, Plan};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Backend {
    /// `pie serve` on this machine's processor, started for the run.
    Cpu,
    /// The server at --base-url.
    Http,
    /// The same, of vLLM.
    Vllm,
    /// The same, of LMDeploy.
    Lmdeploy,
}

/// Where prompts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DatasetName {
    /// Made up, of the lengths that workloads say.
    Default,
    /// The first questions of recorded conversations, whatever their length: --dataset-path names the file.
    Sharegpt,
    /// The same as default.
    Synthetic,
}

/// How requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// As the workload says: one after the other, or so many at once.
    Traffic,
    /// All at once.
    Batch,
}

/// What is run.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunFlags {
    /// m1 (short, long, stress), year1, year2, year3, query (Q1 to Q8), streaming, batch, mixed, one of these
    /// workloads, or a file.
    #[arg(long, default_value = "m1")]
    workload: String,
    /// A file of workloads, JSON or YAML.
    #[arg(long, value_name = "FILE", conflicts_with = "workload")]
    workload_file: Option<PathBuf>,
    /// Where prompts come from.
    #[arg(long, value_enum, default_value_t = DatasetName::Default)]
    dataset: DatasetName,
    /// The file of `sharegpt`.
    #[arg(long, value_name = "FILE")]
    dataset_path: Option<PathBuf>,
    /// Prompts to take out of it; they are used in turn.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    num_samples: u32,
    /// Which server.
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    backend: Backend,
    /// cpu: the model to serve, a name of `pie model list` or a file. Else the model to name in requests.
    #[arg(long)]
    model: Option<String>,
    /// How requests are sent.
    #[arg(long, value_enum, default_value_t = Mode::Traffic)]
    mode: Mode,
    /// Folder of the results.
    #[arg(long, short, default_value = "./benchmark_results")]
    output: PathBuf,
    /// Write the records of all workloads here as well.
    #[arg(long, value_name = "FILE")]
    output_json: Option<PathBuf>,
    /// Say more, on stderr.
    #[arg(long, short)]
    verbose: bool,
    /// Address of the server.
    #[arg(long, default_value = "http://127.0.0.1:8000", value_name = "URL")]
    base_url: String,
    /// Folder or file of a tokenizer, for prompts of exact lengths; --model by default, where that is a file.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Key; else OPENAI_API_KEY or LLM_API_KEY.
    #[arg(long)]
    api_key: Option<String>,
    /// Requests a second of a traffic of Poisson's, in place of what the workload says.
    #[arg(long)]
    request_rate: Option<f64>,
    /// Stop answers where the model ends them, before the number of tokens that was asked for.
    #[arg(long)]
    stop_at_eos: bool,
    /// What no server tells of a leaderboard entry, as MEMBER=VALUE: hardware.chip_model=H100 model.precision=FP16.
    #[arg(long, num_args = 1.., value_parser = key_value, value_name = "MEMBER=VALUE")]
    entry: Vec<(String, String)>,
    /// Seconds to wait for the server that is started.
    #[arg(long, default_value_t = 120, value_name = "SECS")]
    server_wait: u64,
    /// Where random numbers start.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

const EXAMPLES: &str = "\
Examples:
  pie-bench sage run --workload m1 --backend cpu
  pie-bench sage run --workload stress --backend http --base-url http://127.0.0.1:8080 -v -o ./my_results
  pie-bench sage run --workload m1 --backend cpu --mode batch --output-json batch_results.json";

impl RunFlags {
    fn tokens(&self) -> anyhow::Result<Tokens> {
        let model = self.model.as_deref().map(Path::new).filter(|path| path.exists());
        Ok(match self.tokenizer.as_deref().or(model) {
            Some(path) => Tokens::open(path)?,
            None => Tokens::Words,
        })
    }

    fn workloads(&self) -> anyhow::Result<Vec<Workload>> {
        match &self.workload_file {
            Some(path) => workloads::of_file(path),
            None => workloads::named(&self.workload),
        }
    }

    /// Prompts of a dataset; none where they are made up.
    fn prompts(&self, tokens: &Tokens) -> anyhow::Result<Vec<String>> {
        if self.dataset != DatasetName::Sharegpt {
            ensure!(self.dataset_path.is_none(), "--dataset-path is for --dataset sharegpt");
            return Ok(Vec::new());
        }
        let options = DatasetOptions {
            name: "sharegpt".into(),
            path: Some(
                self.dataset_path.clone().context("--dataset sharegpt: name its file with --dataset-path")?,
            ),
            count: self.num_samples as usize,
            seed: self.seed,
            shuffle: true,
            oversample: false,
            ..DatasetOptions::default()
        };
        let dataset = load(&options, tokens)?;
        dataset.notes.iter().for_each(|note| eprintln!("{note}"));
        Ok(dataset.samples.iter().filter_map(|sample| sample.prompt.text()).collect())
    }

    fn plan(&self, workload: &Workload, tokens: &Tokens, prompts: &[String]) -> anyhow::Result<Plan> {
        let arrival = match (self.mode, self.request_rate) {
            (Mode::Batch, Some(_)) => bail!("--request-rate and --mode batch contradict each other"),
            (Mode::Batch, None) => "instant".parse()?,
            (Mode::Traffic, Some(rate)) => Arrival::poisson(rate)?,
            (Mode::Traffic, None) => Arrival::closed(workload.at_once(), 0.0)?,
        };
        Ok(Plan::new(workload.samples(tokens, self.seed, prompts)?, &arrival, None, Limit::NONE, self.seed)?)
    }

    /// What the leaderboard entries of this run have in common.
    fn common(&self, options: &ClientOptions) -> anyhow::Result<Common> {
        let named = match self.backend {
            Backend::Cpu => "pie",
            Backend::Vllm => "vllm",
            Backend::Lmdeploy => "lmdeploy",
            Backend::Http => "unknown",
        };
        let (engine, engine_version) = leaderboard::engine(options, named);
        let host = options.address.host.as_str();
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let chip = match self.backend {
            Backend::Cpu => Chip::Cpu,
            _ if is_here => Chip::Any,
            _ => Chip::Elsewhere,
        };
        let file = self.model.as_deref().map(Path::new).filter(|path| path.is_file());
        let model = leaderboard::model_of(options.model.as_deref().unwrap_or_default(), file)?;
        let dataset = format!("{:?}", self.dataset).to_lowercase();
        let common = Common { engine, engine_version, model, chip, dataset, given: self.entry.clone() };
        // What is wrong with --entry is said before an hour of measuring.
        leaderboard::entry(&common, &workloads::named("short")?[0], &Map::new())?;
        Ok(common)
    }

    fn options(&self, url: &str) -> anyhow::Result<ClientOptions> {
        let mut options = ClientOptions::new(url.parse().context("--base-url")?, Api::COMPLETIONS);
        options.api_key = self.api_key.clone().or_else(ClientOptions::key_of_environment);
        let in_lines = options.api_key.as_deref().is_some_and(|key| key.contains(char::is_control));
        ensure!(!in_lines, "the key has a control character in it, expected a key in one line");
        options.model = match self.backend {
            // The server that was started has one model, whose name is not that of its file.
            Backend::Cpu => Some(first_model(&options)?),
            _ => self.model.clone().map_or_else(|| first_model(&options), Ok).map(Some)?,
        };
        if !self.stop_at_eos {
            options.extra_body.insert("ignore_eos".into(), json!(true));
        }
        Ok(options)
    }
}

/// Runs the workloads, writes their files and prints the table.
///
/// # Errors
/// When a workload cannot be run, or a file not written.
pub(super) fn run(flags: &RunFlags) -> anyhow::Result<ExitCode> {
    let workloads = flags.workloads()?;
    let tokens = flags.tokens()?;
    let mut prompts = flags.prompts(&tokens)?;
    let (stop, children) = (Stop::default(), Children::default());
    interrupt::watch_both(&stop, &children)?;
    let patience = Duration::from_secs(flags.server_wait);
    let server = match flags.backend {
        Backend::Cpu => {
            let log = flags.output.join("server.log");
            let model = flags.model.iter().flat_map(|model| ["--model", model].map(OsStr::new)).collect();
            let binary = child::binary(None);
            let start = Start {
                binary,
                arguments: model,
                programs: None,
                log: &log,
                patience,
                stop: &stop,
                children: &children,
            };
            Some(Server::start(&start)?)
        }
        _ => None,
    };
    let url = server.as_ref().map_or(flags.base_url.as_str(), |server| server.url.as_str());
    let options = Arc::new(flags.options(url)?);
    let common = flags.common(&options)?;
    let mut records = Map::new();
    for workload in &workloads {
        if stop.is_stopped() {
            eprintln!("stopped before `{}`", workload.name);
            break;
        }
        let pid = server.as_ref().map(Server::pid);
        let record = measured(flags, workload, (&tokens, &prompts), &options, pid, &stop)?;
        // The next workload has other prompts, as far as there are some.
        let used = workload.num_requests.checked_rem(prompts.len()).unwrap_or(0);
        prompts.rotate_left(used);
        let path = flags.output.join(format!("{}_metrics.json", workload.name));
        files::write(&path, &serde_json::to_vec_pretty(&record)?)?;
        if record["successful_requests"] != 0 {
            let entry = leaderboard::entry(&common, workload, &record)?;
            let path = flags.output.join(format!("{}_leaderboard.json", workload.name));
            files::write(&path, &serde_json::to_vec_pretty(&entry)?)?;
        }
        records.insert(workload.name.clone(), Value::Object(record));
    }
    let summary = summary(&records);
    files::write(&flags.output.join("benchmark_summary.json"), &serde_json::to_vec_pretty(&summary)?)?;
    files::write(
        &flags.output.join("config.json"),
        &serde_json::to_vec_pretty(&config(flags, &options, &tokens))?,
    )?;
    files::write(&flags.output.join("REPORT.md"), shown::text(&summary, true).as_bytes())?;
    if let Some(path) = &flags.output_json {
        files::write(path, &serde_json::to_vec_pretty(&records)?)?;
    }
    print!("{}", shown::text(&summary, false));
    println!("Written: {}", flags.output.display());
    let nothing = summary["overall"]["successful_requests"] == 0;
    Ok(if nothing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs one workload.
fn measured(
    flags: &RunFlags,
    workload: &Workload,
    (tokens, prompts): (&Tokens, &[String]),
    options: &Arc<ClientOptions>,
    pid: Option<u32>,
    stop: &Stop,
) -> anyhow::Result<Map<String, Value>> {
    let plan = Arc::new(flags.plan(workload, tokens, prompts)?);
    if flags.verbose {
        let (prompt, output, count) = (workload.prompt_tokens, workload.max_tokens, workload.num_requests);
        eprintln!("{}: {count} requests of {prompt} and {output} tokens, {}", workload.name, plan.about);
    }
    if workload.warmup_rounds > 0 {
        // Of another seed: a warm-up must not leave the prompts of the measurement in a cache.
        let samples = workload.samples(tokens, flags.seed ^ 0x5eed, prompts)?;
        let samples: Vec<_> = samples.into_iter().cycle().take(workload.warmup_rounds).collect();
        session::warm_up(&samples, workload.at_once(), options)?;
    }
    let watch = Watch::start(options, pid)?;
    let about = About { command: command_line(), seed: flags.seed, ..About::default() };
    let report = session::measure(&plan, options, about, &[], stop, false)?;
    let seen = watch.finish();
    let mut record = measures::record(&report, &seen);
    if let Some(contract) = contract::check(&flags.workload, &record) {
        record.insert("contract".into(), contract);
    }
    if flags.verbose {
        eprint!("{}", crate::report::terminal::text(&report));
    }
    Ok(record)
}

/// The object of benchmark_summary.json.
pub(super) fn summary(records: &Map<String, Value>) -> Value {
    let sum = |name: &str| records.values().filter_map(|record| record[name].as_u64()).sum::<u64>();
    json!({
        "workloads": records,
        "overall": {
            "total_workloads": records.len(),
            "total_requests": sum("total_requests"),
            "successful_requests": sum("successful_requests"),
            "failed_requests": sum("failed_requests"),
        },
    })
}

fn config(flags: &RunFlags, options: &ClientOptions, tokens: &Tokens) -> Value {
    let now = iso(Clock::start().unix_secs(Nanos(0)));
    json!({
        "run_id": uuid(&mut fastrand::Rng::new()),
        "date": now.split('T').next(),
        "timestamp": now,
        "dataset": format!("{:?}", flags.dataset).to_lowercase(),
        "num_samples": flags.num_samples,
        "backend": format!("{:?}", flags.backend).to_lowercase(),
        "model": options.model,
        "model_path": flags.model,
        "workload": flags.workload_file.as_ref().map_or_else(|| flags.workload.clone(), |path| path.display().to_string()),
        "mode": format!("{:?}", flags.mode).to_lowercase(),
        "url": options.address.to_string(),
        "token_source": tokens.source(),
        "ignore_eos": !flags.stop_at_eos,
        "seed": flags.seed,
        "command": command_line(),
        "versions": {"pie-bench": env!("CARGO_PKG_VERSION")},
    })
}

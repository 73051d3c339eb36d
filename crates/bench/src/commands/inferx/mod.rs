//! `pie-bench inferx`: the flags and files of the InferX benchmark framework, phase 2.
//!
//! Requests come as a Poisson process and wait for one of `--concurrency` slots. What is measured, and how, is the
//! client's of this crate; here are names, defaults and files.
//!
//! Differences from the program that it takes the place of:
//!
//! 1. Templates are JSON whose strings are filled, so its default and its examples work; `{{` for a brace works too.
//! 2. `first_byte_time` is the first chunk with a token, not the first packet.
//! 3. `resp_tokens` is the server's count, else chunks, else words.
//! 4. What a request waits for a slot is reported.
//! 5. Arrivals are absolute moments of a seed, so what the client is late does not add up.

mod files;
mod gpu;
mod plot;
mod prompts;
mod row;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Map, json};

use super::{interrupt, session};
use crate::client::api::Api;
use crate::client::{Address, ClientOptions, Stop, Timeouts};
use crate::clock::Nanos;
use crate::dataset::tokens::Tokens;
use crate::report::{self, terminal};
use crate::workload::{Arrival, Limit, Plan};
use gpu::GpuMonitor;

/// How long prompts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PromptDist {
    /// Every length between --min-tokens and --max-tokens alike.
    Uniform,
    /// Zipf's law with exponent 2 from --min-tokens on, cut at --max-tokens.
    Zipf,
    /// One of --choices-tokens.
    Choices,
}

/// What is measured.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct InferxFlags {
    /// Whole address that requests are sent to, with its route.
    #[arg(long)]
    endpoint: String,
    /// Seconds in which requests arrive.
    #[arg(long, default_value_t = 60.0, value_name = "SECS")]
    duration: f64,
    /// Requests a second, as a Poisson process.
    #[arg(long, default_value_t = 10.0)]
    rate: f64,
    /// Requests under way at most; others wait.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,
    /// How long prompts are.
    #[arg(long, value_enum, default_value_t = PromptDist::Uniform)]
    prompt_dist: PromptDist,
    /// Shortest prompt, in words; in tokens with --tokenizer.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    min_tokens: u32,
    /// Longest prompt.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// Lengths to choose from, such as 32,64,128.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    choices_tokens: Vec<u32>,
    /// Body of requests; {prompt}, {max_tokens} and {model} are replaced.
    #[arg(long, default_value = prompts::TEMPLATE, value_name = "TEXT")]
    request_body_template: String,
    /// Send an object with the prompt as this member, in place of a template.
    #[arg(long, value_name = "NAME", conflicts_with = "request_body_template")]
    json_field: Option<String>,
    /// Folder of the files.
    #[arg(long, default_value = "./results")]
    outdir: PathBuf,
    /// Watch the first GPU of this machine.
    #[arg(long)]
    gpu_monitor: bool,
    /// Seconds between two looks at it.
    #[arg(long, default_value_t = 0.5, value_name = "SECS")]
    gpu_poll_interval: f64,
    /// File of prompts, one a line, drawn evenly.
    #[arg(long, value_name = "FILE")]
    sample_prompts_file: Option<PathBuf>,
    /// Ask for a stream, so that there is a first token to time.
    #[arg(long, help_heading = "Beyond InferX")]
    stream: bool,
    /// Tokens to request, for {max_tokens}.
    #[arg(long, default_value_t = 128, help_heading = "Beyond InferX")]
    output_tokens: u32,
    /// Model, for {model}.
    #[arg(long, help_heading = "Beyond InferX")]
    model: Option<String>,
    /// Folder or file of a tokenizer, for lengths in tokens.
    #[arg(long, help_heading = "Beyond InferX")]
    tokenizer: Option<PathBuf>,
    /// Key; else OPENAI_API_KEY or LLM_API_KEY.
    #[arg(long, help_heading = "Beyond InferX")]
    api_key: Option<String>,
    /// Seconds of a whole request.
    #[arg(long, default_value_t = 60.0, value_name = "SECS", help_heading = "Beyond InferX")]
    timeout: f64,
    /// Cancel what is left after this.
    #[arg(long, value_name = "SECS", help_heading = "Beyond InferX")]
    stop_after: Option<f64>,
    /// Where random numbers start.
    #[arg(long, default_value_t = 0, help_heading = "Beyond InferX")]
    seed: u64,
    /// Show no progress.
    #[arg(long, help_heading = "Beyond InferX")]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  pie-bench inferx --endpoint http://localhost:8000/v1/completions --duration 60 --rate 20 --concurrency 8 \\
      --prompt-dist uniform --min-tokens 8 --max-tokens 128 --outdir ./results/run1 --gpu-monitor
  pie-bench inferx --endpoint http://localhost:8000/v1/completions --rate 50 --stream \\
      --request-body-template '{\"model\":\"m\",\"prompt\":\"{prompt}\",\"max_tokens\":128}'";

/// Most requests that are planned: a gigabyte of prompts.
const REQUESTS_LIMIT: f64 = 1e6;

impl InferxFlags {
    fn options(&self) -> anyhow::Result<ClientOptions> {
        let mut address: Address = self.endpoint.parse().context("--endpoint")?;
        let route = std::mem::take(&mut address.base);
        let template = match &self.json_field {
            Some(field) => json!({ field: "{prompt}" }).to_string(),
            None => prompts::with_single_braces(&self.request_body_template),
        };
        ensure!(
            template.contains("{prompt}"),
            "--request-body-template: expected {{prompt}} in `{template}`"
        );
        let mut options = ClientOptions::new(address, Api::Template(template));
        options.route = Some(if route.is_empty() { "/".into() } else { route });
        options.api_key = self.api_key.clone().or_else(ClientOptions::key_of_environment);
        let masked = options.api_key.as_deref().is_some_and(|key| key.contains(char::is_control));
        ensure!(!masked, "the key has a control character in it, expected a key in one line");
        options.model.clone_from(&self.model);
        options.stream = self.stream;
        if self.stream {
            let usage = json!({"include_usage": true});
            options.extra_body =
                Map::from_iter([("stream".into(), json!(true)), ("stream_options".into(), usage)]);
        }
        let total = Duration::try_from_secs_f64(self.timeout).ok().filter(|total| !total.is_zero());
        let total =
            total.with_context(|| format!("--timeout: found {}, expected seconds above 0", self.timeout))?;
        options.timeouts = Timeouts { total: Some(total), ..Timeouts::default() };
        // For the count of words where the server does not count tokens.
        options.keep_text = true;
        options.seed = self.seed;
        Ok(options)
    }

    fn tokens(&self) -> anyhow::Result<Tokens> {
        Ok(match &self.tokenizer {
            Some(path) => Tokens::open(path)?,
            None => Tokens::Words,
        })
    }

    fn plan(&self, tokens: &Tokens) -> anyhow::Result<Plan> {
        for (value, name) in [(self.duration, "duration"), (self.rate, "rate")] {
            ensure!(value.is_finite() && value > 0.0, "--{name}: found {value}, expected a number above 0");
        }
        let mean = self.duration * self.rate;
        if mean > REQUESTS_LIMIT {
            bail!("--duration times --rate is {mean}, expected {REQUESTS_LIMIT} requests or fewer");
        }
        // Ten deviations above the mean, so that the schedule ends by its time and not for want of prompts.
        let count = (mean + 10.0 * mean.sqrt() + 10.0) as usize;
        let samples = prompts::samples(self, tokens, count)?;
        let duration = Some(Nanos::from_secs(self.duration));
        let limit = Limit::queue(self.concurrency as usize);
        let mut plan = Plan::new(samples, &Arrival::poisson(self.rate)?, duration, limit, self.seed)?;
        plan.stop_at = self.stop_after.map(Nanos::from_secs);
        ensure!(!plan.requests.is_empty(), "no request arrived within --duration {}", self.duration);
        Ok(plan)
    }
}

/// Measures, prints the report and writes the files.
///
/// # Errors
/// When nothing could be measured or written.
pub fn run(flags: InferxFlags) -> anyhow::Result<ExitCode> {
    let options = Arc::new(flags.options()?);
    let tokens = flags.tokens()?;
    let plan = Arc::new(flags.plan(&tokens)?);
    files::check_folder(&flags.outdir)?;
    let interval =
        Duration::try_from_secs_f64(flags.gpu_poll_interval.max(0.01)).context("--gpu-poll-interval")?;
    let monitor = flags.gpu_monitor.then(|| GpuMonitor::start(interval));
    if let Some(Err(why)) = &monitor {
        eprintln!("no figures of a GPU: {why}");
    }
    let stop = Stop::default();
    interrupt::watch(&stop)?;
    let context = report::Context {
        backend: "inferx".into(),
        url: flags.endpoint.clone(),
        model: flags.model.clone().unwrap_or_default(),
        dataset: flags.sample_prompts_file.as_ref().map_or("lorem", |_| "prompts file").into(),
        token_source: tokens.source(),
        num_prompts: plan.requests.len(),
        request_rate: flags.rate,
        burstiness: 1.0,
        max_concurrency: Some(flags.concurrency as usize),
        seed: flags.seed,
        command: super::command_line(),
        ..report::Context::default()
    };
    let report = session::measure(&plan, &options, context, &[], &stop, flags.quiet)?;
    let gpu = monitor.map(|monitor| monitor.map(GpuMonitor::finish));
    print!("{}", terminal::text(&report));
    if !flags.stream && report.summary.completed > 0 {
        println!("Note: without --stream an answer comes in one piece, and TTFT is its whole time.");
    }
    for path in files::write(&flags.outdir, &report, gpu.as_ref())? {
        println!("Written: {}", path.display());
    }
    Ok(if report.summary.completed == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests;

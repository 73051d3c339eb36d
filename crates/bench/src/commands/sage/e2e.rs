//! The measurement of `perf`, `compare` and `convergence`: for each batch size a short and a long scenario, all requests
//! of a batch at once, through the pipeline of every other command.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::measures;
use super::telemetry::Watch;
use crate::client::api::Api;
use crate::client::{ClientOptions, Stop, Timeouts, fetch};
use crate::commands::{command_line, session};
use crate::dataset::tokens::{ServerTokens, Tokens};
use crate::dataset::{Prompt, Sample, text};
use crate::report::Context as About;
use crate::workload::{Limit, Plan};

/// How servers are asked.
#[derive(Clone, Debug, Args)]
pub(super) struct E2eFlags {
    /// Requests at once, several times or with commas; 1,4,8 for perf, 1,2,4 else.
    #[arg(long, value_delimiter = ',', value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) batch_size: Vec<u32>,
    /// Key; else OPENAI_API_KEY or LLM_API_KEY.
    #[arg(long)]
    api_key: Option<String>,
    /// Seconds of a whole request; 120, for convergence 180.
    #[arg(long, value_name = "SECS")]
    pub(super) request_timeout: Option<f64>,
    /// Seconds to wait for a server; 30, for convergence 120.
    #[arg(long, value_name = "SECS")]
    pub(super) server_wait: Option<f64>,
    /// Tokens of prompt and answer together that the model can take; what the server says by default, else 1024.
    #[arg(long, value_name = "TOKENS")]
    max_seq_len: Option<u32>,
    /// Bound on the tokens of an answer; for convergence 64.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_output_tokens: Option<u32>,
    /// Folder or file of a tokenizer, for prompts of exact lengths; the server's /tokenize by default.
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Stop answers where the model ends them.
    #[arg(long)]
    stop_at_eos: bool,
    /// Where random numbers start.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Which server, and which of its models.
#[derive(Clone, Debug)]
pub(super) struct Target<'a> {
    pub(super) url: &'a str,
    /// The first that the server lists by default.
    pub(super) model: Option<&'a str>,
    /// A word for how its numbers are stored, which no API tells.
    pub(super) precision: &'a str,
}

/// A scenario with a batch size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Row {
    pub(super) model: String,
    pub(super) effective_model: String,
    pub(super) precision: String,
    pub(super) scenario: String,
    pub(super) batch_size: usize,
    pub(super) prompt_tokens: u32,
    pub(super) output_tokens: u32,
    pub(super) ttft_ms: Option<f64>,
    pub(super) tbt_ms: Option<f64>,
    pub(super) throughput_tps: Option<f64>,
    pub(super) output_throughput_tps: Option<f64>,
    pub(super) request_throughput_rps: Option<f64>,
    pub(super) latency_p50_ms: Option<f64>,
    pub(super) latency_p95_ms: Option<f64>,
    pub(super) latency_p99_ms: Option<f64>,
    pub(super) memory_mb: Option<f64>,
    pub(super) mode: String,
    pub(super) successful_requests: u64,
    pub(super) failed_requests: u64,
    pub(super) verdict: String,
}

/// Name, tokens of the prompt, tokens to request.
const SCENARIOS: [(&str, u32, u32); 2] = [("short", 128, 128), ("long", 2048, 512)];
/// What a model can take where neither the user nor the server says.
const SEQUENCE_TOKENS: u32 = 1024;
/// Left between prompt and answer, for tokens that a server adds.
const SPARE_TOKENS: u32 = 10;
/// Between two tries to reach a server.
const PAUSE: Duration = Duration::from_millis(200);

impl E2eFlags {
    /// The batch sizes, each once.
    pub(super) fn batch_sizes(&self, default: &[u32]) -> Vec<u32> {
        let mut sizes = if self.batch_size.is_empty() { default.to_vec() } else { self.batch_size.clone() };
        let mut seen = std::collections::HashSet::new();
        sizes.retain(|size| seen.insert(*size));
        sizes
    }

    pub(super) fn options(&self, url: &str) -> anyhow::Result<ClientOptions> {
        let address = url.parse().with_context(|| format!("server `{url}`"))?;
        let mut options = ClientOptions::new(address, Api::COMPLETIONS);
        options.api_key = self.api_key.clone().or_else(ClientOptions::key_of_environment);
        let in_lines = options.api_key.as_deref().is_some_and(|key| key.contains(char::is_control));
        ensure!(!in_lines, "the key has a control character in it, expected a key in one line");
        let total = seconds(self.request_timeout.unwrap_or(120.0), "request-timeout")?;
        options.timeouts = Timeouts { total: Some(total), ..Timeouts::default() };
        options.seed = self.seed;
        if !self.stop_at_eos {
            options.extra_body.insert("ignore_eos".into(), json!(true));
        }
        Ok(options)
    }

    /// Measures all scenarios, those of the smallest batch first. `alive` is asked while the server is waited for, and
    /// ends the wait with its error.
    ///
    /// # Errors
    /// When the server does not answer in time, has no such model, or takes no such prompts.
    pub(super) fn measure(
        &self,
        batch_sizes: &[u32],
        target: &Target<'_>,
        stop: &Stop,
        alive: &mut dyn FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<Row>> {
        let mut options = self.options(target.url)?;
        let patience = seconds(self.server_wait.unwrap_or(30.0), "server-wait")?;
        let listed = models(&options, patience, stop, alive)?;
        let model = match target.model {
            // A server that lists none may still know the name.
            Some(name) if listed.is_empty() || listed.iter().any(|(id, _)| id == name) => name.to_string(),
            Some(name) => {
                let ids: Vec<&str> = listed.iter().map(|(id, _)| id.as_str()).collect();
                bail!("--model: found `{name}`, expected a model that {} has: {}", target.url, ids.join(", "))
            }
            None => listed
                .first()
                .map(|(id, _)| id.clone())
                .context("no model is listed: name it with --model")?,
        };
        options.model = Some(model.clone());
        let own = listed.iter().find(|(id, _)| *id == model).and_then(|(_, limit)| *limit);
        let limit = self.max_seq_len.or(own).or_else(|| of_info(&options)).unwrap_or_else(|| {
            eprintln!("{} does not say how long its sequences may be: {SEQUENCE_TOKENS} tokens are taken; --max-seq-len says it", target.url);
            SEQUENCE_TOKENS
        });
        let tokens = self.tokens(&options)?;
        let options = Arc::new(options);
        let mut rows = Vec::new();
        for batch_size in batch_sizes {
            for scenario in SCENARIOS {
                if stop.is_stopped() {
                    return Ok(rows);
                }
                let (prompt, output) = self.lengths(scenario, limit)?;
                let samples = self.samples(&tokens, *batch_size, prompt, output)?;
                if rows.is_empty() {
                    // The first answer may wait for what a server does once.
                    session::wait_until_ready(&samples[0], &options, patience)?;
                }
                let name = format!("{}_b{batch_size}", scenario.0);
                let shape = (name.as_str(), *batch_size as usize, prompt, output);
                rows.push(run(samples, &options, target, shape, self.seed, stop)?);
            }
        }
        Ok(rows)
    }

    fn tokens(&self, options: &ClientOptions) -> anyhow::Result<Tokens> {
        if let Some(path) = &self.tokenizer {
            return Ok(Tokens::open(path)?);
        }
        if let Ok(server) = ServerTokens::open(options) {
            return Ok(Tokens::Server(Box::new(server)));
        }
        eprintln!(
            "{} has no /tokenize: prompts have words in place of tokens; --tokenizer makes them exact",
            options.address
        );
        Ok(Tokens::Words)
    }

    /// The lengths of a scenario that the model can take.
    fn lengths(&self, (name, prompt, output): (&str, u32, u32), limit: u32) -> anyhow::Result<(u32, u32)> {
        let output = output.min(self.max_output_tokens.unwrap_or(output));
        let room = limit.saturating_sub(output.saturating_add(SPARE_TOKENS));
        ensure!(
            room >= SPARE_TOKENS,
            "the model takes {limit} tokens, expected {} or more for `{name}`: lower --max-output-tokens",
            output + 2 * SPARE_TOKENS
        );
        if room < prompt {
            eprintln!(
                "{name}: a prompt of {room} tokens in place of {prompt}, since the model takes {limit}"
            );
        }
        Ok((prompt.min(room), output))
    }

    /// No two prompts are alike, or the second would come out of the server's cache.
    fn samples(&self, tokens: &Tokens, count: u32, prompt: u32, output: u32) -> anyhow::Result<Vec<Sample>> {
        let mut rng = fastrand::Rng::with_seed(self.seed ^ (u64::from(count) << 32) ^ u64::from(prompt));
        let samples = (0..count).map(|_| {
            let text = text::make(&mut rng, tokens, prompt)?;
            Ok(Sample::new(Prompt::Text(text), prompt, output))
        });
        samples.collect()
    }
}

fn seconds(value: f64, name: &str) -> anyhow::Result<Duration> {
    let duration = Duration::try_from_secs_f64(value).ok().filter(|duration| !duration.is_zero());
    duration.with_context(|| format!("--{name}: found {value}, expected seconds above 0"))
}

/// Sends a batch, and says what it came to.
fn run(
    samples: Vec<Sample>,
    options: &Arc<ClientOptions>,
    target: &Target<'_>,
    (scenario, batch_size, prompt_tokens, output_tokens): (&str, usize, u32, u32),
    seed: u64,
    stop: &Stop,
) -> anyhow::Result<Row> {
    let plan = Arc::new(Plan::new(samples, &"instant".parse()?, None, Limit::NONE, seed)?);
    let watch = Watch::start(options, None)?;
    let about = About { command: command_line(), seed, ..About::default() };
    let report = session::measure(&plan, options, about, &[], stop, false)?;
    let record = measures::record(&report, &watch.finish());
    let figure = |name: &str| record[name].as_f64();
    let latency = |p| report.summary.figures["e2el"].percentile(p).map(|secs| secs * 1e3);
    let model = options.model.clone().unwrap_or_default();
    let row = Row {
        model: model.clone(),
        effective_model: model,
        precision: target.precision.into(),
        scenario: scenario.into(),
        batch_size,
        prompt_tokens,
        output_tokens,
        ttft_ms: figure("avg_ttft_ms"),
        tbt_ms: figure("avg_tbt_ms"),
        throughput_tps: figure("avg_throughput_tps"),
        output_throughput_tps: figure("output_throughput_tps"),
        request_throughput_rps: figure("request_throughput_rps"),
        latency_p50_ms: latency(50.0),
        latency_p95_ms: latency(95.0),
        latency_p99_ms: latency(99.0),
        memory_mb: figure("peak_mem_mb"),
        mode: "live".into(),
        successful_requests: record["successful_requests"].as_u64().unwrap_or(0),
        failed_requests: record["failed_requests"].as_u64().unwrap_or(0),
        verdict: report.verdict.to_string(),
    };
    let of = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.1}"));
    eprintln!(
        "{scenario}: {} of {batch_size} answered, TTFT {} ms, TBT {} ms, {} tokens/s",
        row.successful_requests,
        of(row.ttft_ms),
        of(row.tbt_ms),
        of(row.output_throughput_tps)
    );
    Ok(row)
}

/// The models that a server lists, with the tokens that each can take where it says so; waits for the server.
fn models(
    options: &ClientOptions,
    patience: Duration,
    stop: &Stop,
    alive: &mut dyn FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<(String, Option<u32>)>> {
    let start = Instant::now();
    loop {
        let why = match fetch(options, "GET", "/v1/models", None, Duration::from_secs(5)) {
            // A server without the list is there; one that cannot answer yet, or not at all, is not.
            Ok(fetched) if fetched.status < 500 => {
                let list: Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
                let one = |model: &Value| {
                    let limit = model["max_model_len"].as_u64().and_then(|limit| u32::try_from(limit).ok());
                    Some((model["id"].as_str()?.to_string(), limit))
                };
                return Ok(list["data"].as_array().into_iter().flatten().filter_map(one).collect());
            }
            Ok(fetched) => format!("status {}", fetched.status),
            Err(failure) => format!("{}: {}", failure.class.name(), failure.message),
        };
        alive()?;
        ensure!(!stop.is_stopped(), "stopped before {} answered", options.address);
        if start.elapsed() >= patience {
            bail!(
                "{} does not answer after {patience:?} ({why}); --server-wait waits longer",
                options.address
            );
        }
        std::thread::sleep(PAUSE);
    }
}

/// What sageLLM's server says of its sequences.
fn of_info(options: &ClientOptions) -> Option<u32> {
    let fetched = fetch(&root(options), "GET", "/info", None, Duration::from_secs(5)).ok()?;
    let info: Value = serde_json::from_slice(&fetched.body).ok().filter(|_| fetched.status == 200)?;
    let names = ["max_model_len", "max_position_embeddings", "max_seq_len", "n_positions"];
    names.iter().find_map(|name| u32::try_from(info[*name].as_u64()?).ok())
}

/// The server itself, for routes that are not below /v1.
pub(super) fn root(options: &ClientOptions) -> ClientOptions {
    let mut options = options.clone();
    options.address.base = options.address.base.trim_end_matches("/v1").to_string();
    options
}

/// A name of a file made of a label.
pub(super) fn slug(label: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let slug: String = label.chars().map(plain).collect();
    let slug = slug.trim_matches(['-', '.']);
    if slug.is_empty() { "target".into() } else { slug.to_string() }
}

/// Reads a label and what belongs to it.
///
/// # Errors
/// Says what was found.
pub(super) fn label_and(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(label, value)| (label.trim(), value.trim()));
    let pair = pair.filter(|(label, value)| !label.is_empty() && !value.is_empty());
    let (label, value) = pair.ok_or_else(|| format!("found `{text}`, expected LABEL=VALUE"))?;
    Ok((label.into(), value.into()))
}

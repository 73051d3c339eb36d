//! Which server, and how it is asked.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::key_value;
use crate::client::api::{Api, Launch};
use crate::client::{Abandon, Address, ClientOptions, Timeouts, fetch};
use crate::dataset::Sample;

/// Which of several adapters a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoraAssignment {
    /// One by chance, from --seed.
    Random,
    /// One after the other.
    RoundRobin,
}

/// Flags that say how a backend is asked, and have no meaning for a program: it has its arguments.
const NOT_OF_PROGRAMS: [&str; 26] = [
    "backend",
    "session_header",
    "request_id_prefix",
    "endpoint",
    "body_template",
    "lora_modules",
    "header",
    "extra_body",
    "chat_template_kwargs",
    "no_stream",
    "no_reuse",
    "insecure",
    "ca_cert",
    "ignore_eos",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logprobs",
    "use_beam_search",
    "served_model_name",
    "lora_assignment",
    "profile",
];

/// Which server, and how it is asked.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Server")]
pub struct TargetFlags {
    /// Its address, such as http://127.0.0.1:8000; replaces --host and --port.
    #[arg(long)]
    pub base_url: Option<String>,
    /// Its host.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: String,
    /// Its port.
    #[arg(long, default_value_t = 8000)]
    pub port: u16,
    /// What is spoken: openai (completions), openai-chat, sglang (/generate), and their other names.
    #[arg(long, alias = "endpoint-type", default_value = "openai")]
    pub backend: String,
    /// Route; that of the backend by default.
    #[arg(long)]
    pub endpoint: Option<String>,
    /// A body with {prompt}, {max_tokens} and {model} in place of that of the backend.
    #[arg(long, value_name = "TEXT")]
    pub body_template: Option<String>,
    /// Launch this program of pie for each request, over a session, in place of asking a backend: its name, or the hash of
    /// one that was uploaded. What it sends and writes to stdout is the answer, each event counted as a token.
    #[arg(long, value_name = "NAME", conflicts_with_all = NOT_OF_PROGRAMS)]
    pub program: Option<String>,
    /// An argument of the program, with {prompt}, {max_tokens} and {model} in it; once for each, in their order.
    #[arg(long, value_name = "TEXT", requires = "program", allow_hyphen_values = true)]
    pub program_argument: Vec<String>,
    /// Model to name; the first that the server lists by default.
    #[arg(long)]
    pub model: Option<String>,
    /// Model to name in requests, where --model names a folder with its tokenizer.
    #[arg(long)]
    pub served_model_name: Option<String>,
    /// Names of adapters that the server has, one of which each request names in place of the model.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    pub lora_modules: Vec<String>,
    /// Which of them.
    #[arg(long, value_enum, default_value_t = LoraAssignment::Random)]
    pub lora_assignment: LoraAssignment,
    /// Let the server record what it does: asks /start_profile before the load and /stop_profile after it.
    #[arg(long)]
    pub profile: bool,
    /// Key; else OPENAI_API_KEY or LLM_API_KEY.
    #[arg(long)]
    pub api_key: Option<String>,
    /// Headers of every request.
    #[arg(long, num_args = 1.., value_parser = key_value, value_name = "NAME=VALUE")]
    pub header: Vec<(String, String)>,
    /// JSON object whose members are added to every body; null takes a member away.
    #[arg(long, value_name = "JSON")]
    pub extra_body: Option<String>,
    /// JSON object for the template of a chat, sent as chat_template_kwargs.
    #[arg(long, value_name = "JSON")]
    pub chat_template_kwargs: Option<String>,
    /// Header that names the session of a turn.
    #[arg(long, default_value = "x-session-id")]
    pub session_header: String,
    /// In front of the number of a request, as x-request-id.
    #[arg(long, default_value = "bench-")]
    pub request_id_prefix: String,
    /// Ask for answers in one piece.
    #[arg(long)]
    pub no_stream: bool,
    /// Open a connection for each request.
    #[arg(long)]
    pub no_reuse: bool,
    /// Take any certificate.
    #[arg(long)]
    pub insecure: bool,
    /// PEM file of certificates to trust besides those of the system.
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// Seconds to connect.
    #[arg(long, default_value_t = 10.0, value_name = "SECS")]
    pub connect_timeout: f64,
    /// Seconds from the request to the first byte of the answer.
    #[arg(long, value_name = "SECS")]
    pub first_byte_timeout: Option<f64>,
    /// Seconds without a byte in the middle of an answer.
    #[arg(long, value_name = "SECS")]
    pub stall_timeout: Option<f64>,
    /// Seconds of a whole request.
    #[arg(long, default_value_t = 21_600.0, value_name = "SECS")]
    pub timeout: f64,
    /// Share of requests that their users give up, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub abandon_share: f64,
    /// Seconds after which they do.
    #[arg(long, default_value_t = 1.0, value_name = "SECS")]
    pub abandon_after: f64,
    /// Threads of the client; one for each core up to 8 by default.
    #[arg(long)]
    pub client_threads: Option<usize>,
    /// Go on generating after the end of the text.
    #[arg(long)]
    pub ignore_eos: bool,
    /// Sampling temperature; the server's by default.
    #[arg(long, help_heading = "Sampling")]
    pub temperature: Option<f64>,
    /// Sampling: share of the probability.
    #[arg(long, help_heading = "Sampling")]
    pub top_p: Option<f64>,
    /// Sampling: number of tokens.
    #[arg(long, help_heading = "Sampling")]
    pub top_k: Option<i64>,
    /// Sampling: smallest share of the likeliest token's probability.
    #[arg(long, help_heading = "Sampling")]
    pub min_p: Option<f64>,
    /// Sampling: penalty for frequent tokens.
    #[arg(long, help_heading = "Sampling")]
    pub frequency_penalty: Option<f64>,
    /// Sampling: penalty for tokens that occurred.
    #[arg(long, help_heading = "Sampling")]
    pub presence_penalty: Option<f64>,
    /// Sampling: factor for tokens that occurred.
    #[arg(long, help_heading = "Sampling")]
    pub repetition_penalty: Option<f64>,
    /// Log-probabilities to request for each token.
    #[arg(long, help_heading = "Sampling")]
    pub logprobs: Option<u32>,
    /// Search with beams in place of sampling.
    #[arg(long, help_heading = "Sampling")]
    pub use_beam_search: bool,
}

fn secs(value: f64, name: &str) -> anyhow::Result<Duration> {
    let duration = Duration::try_from_secs_f64(value).ok().filter(|duration| !duration.is_zero());
    duration.with_context(|| format!("--{name}: found {value}, expected seconds above 0"))
}

fn object(text: &str, name: &str) -> anyhow::Result<Map<String, Value>> {
    let value: Value = serde_json::from_str(text).with_context(|| format!("--{name}: found `{text}`"))?;
    let Value::Object(members) = value else { bail!("--{name}: found `{text}`, expected a JSON object") };
    Ok(members)
}

impl TargetFlags {
    /// Lets each sample name one of the adapters, where there are some. The turns of a session name the same one.
    pub fn assign_adapters(&self, samples: &mut [Sample], seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut next, mut of_session) = (0, std::collections::HashMap::new());
        for sample in samples.iter_mut().filter(|_| !self.lora_modules.is_empty()) {
            let mut draw = || match self.lora_assignment {
                LoraAssignment::Random => rng.usize(..self.lora_modules.len()),
                LoraAssignment::RoundRobin => {
                    next += 1;
                    (next - 1) % self.lora_modules.len()
                }
            };
            let index = match sample.session {
                Some(session) => *of_session.entry(session).or_insert_with(draw),
                None => draw(),
            };
            sample.extra_body.insert("model".into(), json!(self.lora_modules[index]));
        }
    }

    /// The options of the client. Asks the server for its model where none is named.
    ///
    /// # Errors
    /// What is wrong with a flag, or that the server lists no model.
    pub fn options(&self) -> anyhow::Result<ClientOptions> {
        let text = self.base_url.clone().unwrap_or_else(|| {
            let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
            format!("http://{host}:{}", self.port)
        });
        let address: Address = text.parse()?;
        let api = match (&self.program, &self.body_template) {
            (Some(program), _) => {
                Api::Program(Launch { program: program.clone(), arguments: self.program_argument.clone() })
            }
            (None, Some(template)) => Api::Template(template.clone()),
            (None, None) => Api::find(&self.backend).with_context(|| {
                format!("--backend: found `{}`, expected one of {}", self.backend, Api::names().join(", "))
            })?,
        };
        let mut options = ClientOptions::new(address, api);
        options.route = self.endpoint.as_ref().map(|route| format!("/{}", route.trim_start_matches('/')));
        options.api_key = self.api_key.clone().or_else(ClientOptions::key_of_environment);
        let key = options.api_key.as_ref().map(|key| ("authorization".to_string(), key.clone()));
        for (name, value) in self.header.iter().chain(&key) {
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if !name.chars().all(token) || value.contains(['\r', '\n', '\0']) {
                bail!("header `{name}`: expected a name of letters and dashes and a value in one line");
            }
        }
        options.headers = self.header.clone();
        options.extra_body = self.body()?;
        options.stream = !self.no_stream;
        options.reuse_connections = !self.no_reuse;
        options.session_header = Some(self.session_header.clone()).filter(|name| !name.is_empty());
        options.request_id_prefix.clone_from(&self.request_id_prefix);
        options.insecure = self.insecure;
        options.ca_file.clone_from(&self.ca_cert);
        options.threads = self.client_threads;
        let optional = |value: Option<f64>, name| value.map(|value| secs(value, name)).transpose();
        options.timeouts = Timeouts {
            connect: secs(self.connect_timeout, "connect-timeout")?,
            first_byte: optional(self.first_byte_timeout, "first-byte-timeout")?,
            stall: optional(self.stall_timeout, "stall-timeout")?,
            total: Some(secs(self.timeout, "timeout")?),
        };
        if !(0.0..=1.0).contains(&self.abandon_share) {
            bail!("--abandon-share: found {}, expected 0 to 1", self.abandon_share);
        }
        let after = secs(self.abandon_after, "abandon-after")?;
        options.abandon = (self.abandon_share > 0.0).then_some(Abandon { share: self.abandon_share, after });
        options.model = self.served_model_name.clone().or_else(|| self.model.clone());
        Ok(options)
    }

    /// What the flags add to every body.
    fn body(&self) -> anyhow::Result<Map<String, Value>> {
        let numbers = [
            ("temperature", self.temperature.map(|value| json!(value))),
            ("top_p", self.top_p.map(|value| json!(value))),
            ("top_k", self.top_k.map(|value| json!(value))),
            ("min_p", self.min_p.map(|value| json!(value))),
            ("frequency_penalty", self.frequency_penalty.map(|value| json!(value))),
            ("presence_penalty", self.presence_penalty.map(|value| json!(value))),
            ("repetition_penalty", self.repetition_penalty.map(|value| json!(value))),
            ("logprobs", self.logprobs.map(|value| json!(value))),
            ("ignore_eos", self.ignore_eos.then(|| json!(true))),
            ("use_beam_search", self.use_beam_search.then(|| json!(true))),
        ];
        let given = numbers.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
        let mut body: Map<String, Value> = given.collect();
        if let Some(text) = &self.chat_template_kwargs {
            body.insert("chat_template_kwargs".into(), Value::Object(object(text, "chat-template-kwargs")?));
        }
        if let Some(text) = &self.extra_body {
            body.extend(object(text, "extra-body")?);
        }
        Ok(body)
    }
}

/// The first model that the server lists.
///
/// # Errors
/// When it lists none.
pub fn first_model(options: &ClientOptions) -> anyhow::Result<String> {
    let advice = "name one with --model";
    let fetched = fetch(options, "GET", "/v1/models", None, Duration::from_secs(10));
    let fetched = fetched.map_err(|failure| {
        anyhow::anyhow!(
            "{} lists no models ({}: {}); {advice}",
            options.address,
            failure.class.name(),
            failure.message
        )
    })?;
    let list: Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
    let model = list["data"][0]["id"].as_str();
    let status = fetched.status;
    Ok(model
        .with_context(|| format!("{} lists no models (status {status}); {advice}", options.address))?
        .to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::dataset::Prompt;

    #[derive(Parser)]
    struct Target {
        #[command(flatten)]
        flags: TargetFlags,
    }

    fn models(arguments: &[&str], sessions: &[Option<u32>]) -> Vec<String> {
        let sample = |session: &Option<u32>| Sample {
            session: *session,
            ..Sample::new(Prompt::Text("x".into()), 1, 1)
        };
        let mut samples: Vec<Sample> = sessions.iter().map(sample).collect();
        let arguments = ["target"].iter().chain(arguments);
        Target::parse_from(arguments).flags.assign_adapters(&mut samples, 1);
        samples
            .iter()
            .map(|sample| sample.extra_body.get("model").cloned().unwrap_or_default().to_string())
            .collect()
    }

    #[test]
    fn adapters_are_named_in_turn_or_by_chance_and_a_session_keeps_its_own() {
        let turns = ["--lora-modules", "a", "b", "--lora-assignment", "round-robin"];
        assert_eq!(models(&turns, &[None; 3]), ["\"a\"", "\"b\"", "\"a\""]);
        assert_eq!(models(&turns, &[Some(0), Some(1), Some(0)]), ["\"a\"", "\"b\"", "\"a\""]);
        let drawn = models(&["--lora-modules", "a", "b"], &[None; 64]);
        assert_eq!(drawn, models(&["--lora-modules", "a", "b"], &[None; 64]));
        let count = drawn.iter().filter(|name| *name == "\"a\"").count();
        assert!((16..48).contains(&count), "{count} of 64");
        assert_eq!(models(&[], &[None]), ["null"]);
    }
}

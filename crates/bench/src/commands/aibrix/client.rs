//! Stage `client`: the workload as a plan for the client, and its records as output.jsonl.
//!
//! The first turn of a session is due at its moment, later ones at theirs, and no earlier than the answer before, which
//! is sent with them. Every request asks for what the workload says, `output_token_limit` at most.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::config::Config;
use super::rows::{self, Group, OutputRow};
use crate::client::api::Api;
use crate::client::{self, ClientOptions, Run, Stop};
use crate::clock::Nanos;
use crate::commands::progress::Bar;
use crate::dataset::{Message, Prompt, Sample};
use crate::metrics::{Limits, TpotDefinition, verdict};
use crate::record::{Outcome, Record};
use crate::workload::{Limit, Plan, PlannedRequest, WhenFull};

/// Headers of answers that tell which server behind a gateway answered.
const TARGET_HEADERS: [&str; 2] = ["target-pod", "request-id"];

/// The server, and how it is asked.
///
/// # Errors
/// What is wrong with the configuration.
pub fn options(config: &Config) -> anyhow::Result<ClientOptions> {
    let address = config.text("endpoint")?.parse()?;
    let mut options = ClientOptions::new(address, Api::CHAT);
    options.model = config.optional_text("target_model")?;
    options.api_key = config.optional_text("api_key")?.filter(|key| !key.is_empty());
    options.api_key = options.api_key.or_else(ClientOptions::key_of_environment);
    if let Some(strategy) = config.optional_text("routing_strategy")? {
        let is_plain = !strategy.is_empty() && strategy.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        anyhow::ensure!(is_plain, "`routing_strategy`: found `{strategy}`, expected a value of a header");
        options.headers.push(("routing-strategy".into(), strategy));
    }
    options.extra_body = Map::from_iter([("temperature".to_string(), json!(0.0))]);
    options.stream = config.flag("streaming_enabled")?;
    options.timeouts.total = Some(Duration::try_from_secs_f64(config.positive("timeout_second")?)?);
    options.keep_text = true;
    options.response_headers = TARGET_HEADERS.map(String::from).to_vec();
    if config.flag("client_session_key_header")? {
        options.session_header = Some("x-aibrix-session-key".into());
        options.session_prefix = String::new();
    }
    options.seed = config.count("seed")?;
    let retries = config.count("max_retries")?;
    anyhow::ensure!(
        retries == 0,
        "`max_retries`: found {retries}, expected 0: a request that is sent again hides a failure of the server"
    );
    Ok(options)
}

/// The workload as a plan, with the session of each sample.
///
/// # Errors
/// What is wrong with the configuration.
pub fn plan(config: &Config, groups: &[Group]) -> anyhow::Result<(Plan, Vec<Option<Value>>)> {
    let scale = config.number("time_scale")?;
    let limit = config.optional_number("output_token_limit")?.map(|limit| limit as u32);
    let mut planned: Vec<(f64, &rows::Request)> = groups
        .iter()
        .flat_map(|group| {
            group.requests.iter().map(|request| (group.timestamp as f64 * scale / 1000.0, request))
        })
        .collect();
    planned.sort_by(|a, b| a.0.total_cmp(&b.0));
    let numbers = session_numbers(&planned);
    // The request before of each session, and its turn.
    let mut before: HashMap<u32, (usize, u32)> = HashMap::new();
    let (mut samples, mut requests, mut sessions) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (at, request)) in planned.into_iter().enumerate() {
        let output = match (request.output_length, limit) {
            (Some(length), Some(limit)) => Some(length.min(limit)),
            (length, limit) => length.or(limit),
        };
        let prompt = Prompt::Chat(vec![Message::user(request.prompt.as_str())]);
        let mut sample = Sample::new(prompt, request.prompt_length.unwrap_or(0), output.unwrap_or(0));
        // The older name of the member, which servers of this format know.
        sample.extra_body.insert("max_completion_tokens".into(), Value::Null);
        if let Some(output) = output {
            sample.extra_body.insert("max_tokens".into(), json!(output));
        }
        if let (Some(_), Some(output)) = (request.output_length, output) {
            sample.extra_body.insert("min_tokens".into(), json!(output));
        }
        let mut after = None;
        if let Some(id) = &request.session_id {
            let session = numbers[&id.to_string()];
            sample.session = Some(session);
            if let Some((last, turn)) = before.get(&session) {
                (after, sample.turn) = (Some(*last), turn + 1);
            }
            before.insert(session, (index, sample.turn));
        }
        sessions.push(request.session_id.clone());
        samples.push(sample);
        requests.push(PlannedRequest {
            sample: index,
            at: Some(Nanos::from_secs(at)),
            after,
            think: Nanos(0),
        });
    }
    let most = config.optional_number("client_max_concurrent_sessions")?.map(|most| most as usize);
    anyhow::ensure!(most != Some(0), "`client_max_concurrent_sessions`: found 0, expected 1 or more");
    let plan = Plan {
        samples,
        requests,
        limit: Limit { requests: None, sessions: most, when_full: WhenFull::Queue },
        users: 0,
        offered_rate: None,
        about: format!("workload at {scale} of its time"),
        stop_at: config.optional_number("client_duration_limit")?.map(Nanos::from_secs),
    };
    Ok((plan, sessions))
}

/// A number for each session: its own where all are small numbers, else the order in which they begin.
fn session_numbers(planned: &[(f64, &rows::Request)]) -> HashMap<String, u32> {
    let ids = || planned.iter().filter_map(|(_, request)| request.session_id.as_ref());
    let own = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    let are_numbers = ids().all(|id| own(id).is_some());
    let mut numbers = HashMap::new();
    for id in ids() {
        let next = numbers.len() as u32;
        let number = own(id).filter(|_| are_numbers).unwrap_or(next);
        numbers.entry(id.to_string()).or_insert(number);
    }
    numbers
}

/// Sends the workload and writes what came back.
///
/// # Errors
/// When nothing could be sent, or every request failed.
pub fn run(config: &Config, stop: &Stop, quiet: bool) -> anyhow::Result<()> {
    let groups: Vec<Group> = rows::read(&config.path("workload_file")?, "workload")?;
    let (plan, sessions) = plan(config, &groups)?;
    anyhow::ensure!(!plan.requests.is_empty(), "the workload has no request");
    let (plan, options) = (Arc::new(plan), Arc::new(options(config)?));
    let bar = Bar::new(plan.requests.len(), quiet);
    let run = client::run(&plan, &options, &bar, stop);
    bar.finish();
    let run = run?;
    let path = config.path("client_output")?.join("output.jsonl");
    write(&path, &plan, &run, &sessions)?;
    let failed: Vec<&Record> = run.records.iter().filter(|record| record.failure().is_some()).collect();
    let completed = run.records.iter().filter(|record| record.completed()).count();
    println!(
        "client: {completed} requests completed, {} failed, written to {}",
        failed.len(),
        path.display()
    );
    println!("  {}", verdict(&run, &Limits::default()));
    if run.interrupted {
        let left = run.records.len() - completed - failed.len();
        println!(
            "  stopped before its end: {left} requests were cancelled or not sent, and are not in the file"
        );
    }
    if let (0, Some(failure)) = (completed, failed.first().and_then(|record| record.failure())) {
        anyhow::bail!(
            "no request succeeded; the first failed with {}: {}",
            failure.class.name(),
            failure.message
        );
    }
    anyhow::ensure!(completed > 0, "no request was answered before the run was stopped");
    Ok(())
}

/// The lines of output.jsonl, in the order of the workload. What the end of the run cut off has no line.
fn write(path: &Path, plan: &Plan, run: &Run, sessions: &[Option<Value>]) -> anyhow::Result<()> {
    let mut histories: HashMap<u32, Vec<Message>> = HashMap::new();
    let mut lines = Vec::new();
    for record in &run.records {
        let sample = &plan.samples[plan.requests[record.index].sample];
        let mut messages =
            record.session.and_then(|session| histories.get(&session).cloned()).unwrap_or_default();
        messages.extend(sample.prompt.messages().unwrap_or_default());
        if let (Some(session), true) = (record.session, record.completed()) {
            let mut history = messages.clone();
            history.push(Message::assistant(record.text.as_str()));
            histories.insert(session, history);
        }
        let is_cut_off = match record.outcome {
            Outcome::Cancelled => true,
            Outcome::Skipped => run.interrupted,
            Outcome::Completed | Outcome::Failed(_) | Outcome::Dropped => false,
        };
        if !is_cut_off {
            let session = sessions.get(record.index).cloned().flatten();
            lines.push(line(record, serde_json::to_value(messages)?, session));
        }
    }
    rows::write(path, &lines).context("what the client saw")
}

fn line(record: &Record, input: Value, session_id: Option<Value>) -> OutputRow {
    let start = record.service_start();
    let header = |name: &str| {
        let found = record.response_headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.clone())
    };
    let mut line = OutputRow {
        request_id: record.index as u64,
        status: "error".into(),
        input,
        output: None,
        prompt_tokens: 0,
        output_tokens: 0,
        total_tokens: 0,
        latency: 0.0,
        throughput: 0.0,
        start_time: start.secs(),
        end_time: record.end.secs(),
        ttft: None,
        tpot: None,
        target_pod: header(TARGET_HEADERS[0]),
        target_request_id: header(TARGET_HEADERS[1]),
        session_id,
        intended_time: Some(record.intended.secs()),
        error_type: None,
        error_message: None,
        error_traceback: None,
    };
    if record.completed() {
        let latency = record.end.since(start).secs();
        line.status = "success".into();
        line.output = Some(record.text.clone());
        line.prompt_tokens = u64::from(record.prompt_tokens());
        line.output_tokens = u64::from(record.output_tokens());
        line.total_tokens = line.prompt_tokens + line.output_tokens;
        line.latency = latency;
        line.throughput = if latency > 0.0 { line.output_tokens as f64 / latency } else { 0.0 };
        line.ttft = record.first_token.map(|first| first.since(start).secs());
        line.tpot = TpotDefinition::Aibrix.of(record);
    } else {
        let (kind, message) = match (&record.outcome, record.failure()) {
            (_, Some(failure)) => (failure.class.name(), failure.message.clone()),
            (Outcome::Dropped, _) => ("dropped", "no slot was free".to_string()),
            _ => ("skipped", "an earlier turn of its session failed".to_string()),
        };
        line.error_type = Some(kind.into());
        line.error_message = Some(message);
        line.error_traceback = Some(String::new());
    }
    line
}

//! The three files between the stages: datasets, workloads and what the client saw. One JSON object a line.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dataset::rows::Rows;
use crate::report::files;

/// A prompt of a dataset without sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlainRow {
    /// What is asked.
    pub prompt: String,
    /// The recorded answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<String>,
    /// Tokens of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_count: Option<u32>,
    /// Which prefix of its config it begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_group: Option<u32>,
    /// Which config it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_id: Option<u32>,
}

/// The prompts of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRow {
    /// A number, or a text of another tool.
    pub session_id: Value,
    /// What is asked, in order.
    pub prompts: Vec<String>,
    /// The recorded answers, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completions: Option<Vec<String>>,
}

/// A dataset.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompts {
    /// `{"prompt"}`
    Plain(Vec<PlainRow>),
    /// `{"session_id", "prompts"}`
    Sessions(Vec<SessionRow>),
}

/// What is sent at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Milliseconds from the start.
    pub timestamp: u64,
    /// The requests.
    pub requests: Vec<Request>,
    /// `aibrix.agent-session.v1` for workloads of agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<String>,
    /// What agents do besides: calls of tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<Value>>,
}

impl Group {
    /// Requests of a moment.
    pub fn new(timestamp: u64, requests: Vec<Request>) -> Self {
        Self { timestamp, requests, schema_version: None, events: None }
    }
}

/// A request of a workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// What is asked.
    pub prompt: String,
    /// Its tokens.
    #[serde(default)]
    pub prompt_length: Option<u32>,
    /// Tokens to request; null leaves them to the client's limit.
    #[serde(default)]
    pub output_length: Option<u32>,
    /// The session it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Value>,
    /// Which step of an agent it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Value>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputRow {
    /// Its place in the workload.
    pub request_id: u64,
    /// `success` or `error`.
    pub status: String,
    /// Its messages.
    pub input: Value,
    /// The answer.
    pub output: Option<String>,
    /// Tokens of the prompt, as the server counts them.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// Seconds from sending to the end.
    pub latency: f64,
    /// Tokens of the answer a second of that.
    pub throughput: f64,
    /// When it was sent, in seconds on the client's clock.
    pub start_time: f64,
    /// When it ended.
    pub end_time: f64,
    /// Seconds to the first token; null for an answer in one piece.
    pub ttft: Option<f64>,
    /// Seconds from there to the end over the tokens of the answer.
    pub tpot: Option<f64>,
    /// Header `target-pod` of the answer.
    #[serde(default)]
    pub target_pod: Option<String>,
    /// Header `request-id` of the answer.
    #[serde(default)]
    pub target_request_id: Option<String>,
    /// The session.
    #[serde(default)]
    pub session_id: Option<Value>,
    /// When the workload wanted it sent; a turn of a session no earlier than the end of the turn before. Not in the
    /// format of AIBrix, which therefore cannot show what was late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intended_time: Option<f64>,
    /// What failed, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Empty here; AIBrix has Python's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_traceback: Option<String>,
}

/// Writes lines.
///
/// # Errors
/// When the file cannot be written.
pub fn write<T: Serialize>(path: &Path, rows: &[T]) -> anyhow::Result<()> {
    let mut text = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut text, row)?;
        text.push(b'\n');
    }
    Ok(files::write(path, &text)?)
}

/// Reads lines or a list. `stage` makes such a file.
///
/// # Errors
/// What is wrong, with the line.
pub fn read<T: for<'a> Deserialize<'a>>(path: &Path, stage: &str) -> anyhow::Result<Vec<T>> {
    let rows = Rows::read(path).with_context(|| format!("--stage {stage} makes this file"))?;
    let parse = |row: &crate::dataset::rows::Row| {
        let value = Value::Object(row.values.clone());
        serde_json::from_value(value).with_context(|| format!("`{}`, line {}", path.display(), row.line))
    };
    let list = rows.rows.iter().map(parse).collect::<anyhow::Result<Vec<T>>>()?;
    anyhow::ensure!(!list.is_empty(), "`{}`: found no line, expected one or more", path.display());
    Ok(list)
}

/// Reads a dataset of either kind.
///
/// # Errors
/// What is wrong, with the line.
pub fn read_prompts(path: &Path) -> anyhow::Result<Prompts> {
    let rows: Vec<Value> = read(path, "dataset")?;
    if rows[0].get("prompts").is_some() {
        let sessions: Vec<SessionRow> = read(path, "dataset")?;
        for (index, session) in sessions.iter().enumerate() {
            let answers = session.completions.as_ref().map_or(session.prompts.len(), Vec::len);
            anyhow::ensure!(
                answers == session.prompts.len(),
                "`{}`, line {}: found {answers} completions, expected {} as there are prompts",
                path.display(),
                index + 1,
                session.prompts.len()
            );
        }
        Ok(Prompts::Sessions(sessions))
    } else {
        Ok(Prompts::Plain(read(path, "dataset")?))
    }
}

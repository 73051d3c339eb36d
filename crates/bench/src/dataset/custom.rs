//! `custom`: any file of rows, JSON lines or CSV, by the names of its columns.

use serde_json::Value;

use super::rows::{Row, Rows};
use super::tokens::Tokens;
use super::{Dataset, DatasetError, DatasetOptions, Message, Prompt, Sample, Spec, text};
use crate::clock::Nanos;

/// Rows by column names.
pub const SPEC: Spec = Spec {
    name: "custom",
    about: "JSON lines or CSV: prompt (text, ids or messages), output_tokens, timestamp, session; --column maps names",
    reads_file: true,
    load,
};

/// The names that are tried for a column that is not named by an option.
struct Names<'a> {
    prompt: Vec<&'a str>,
    prompt_tokens: Vec<&'a str>,
    output_tokens: Vec<&'a str>,
    timestamp: Vec<&'a str>,
    session: Vec<&'a str>,
}

fn choose<'a>(chosen: &'a Option<String>, otherwise: &[&'a str]) -> Vec<&'a str> {
    chosen.as_deref().map_or_else(|| otherwise.to_vec(), |name| vec![name])
}

fn load(options: &DatasetOptions, tokens: &Tokens) -> Result<Dataset, DatasetError> {
    let path = options.path.as_deref().ok_or(DatasetError::NoPath(SPEC.name))?;
    let rows = Rows::read(path)?;
    let columns = &options.columns;
    let names = Names {
        prompt: choose(&columns.prompt, &["prompt", "messages", "text", "instruction", "question"]),
        prompt_tokens: choose(&columns.prompt_tokens, &["prompt_tokens", "input_length", "prompt_len"]),
        output_tokens: choose(&columns.output_tokens, &["output_tokens", "output_length", "max_tokens"]),
        timestamp: choose(&columns.timestamp, &["timestamp", "time", "arrival"]),
        session: choose(&columns.session, &["session_id", "session", "conversation"]),
    };
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let mut sessions: Vec<(String, u32)> = Vec::new();
    let mut samples = Vec::new();
    let mut start = None;
    for row in &rows.rows {
        let mut sample = sample(&rows, row, &names, options, tokens, &mut rng)?;
        if names.timestamp.iter().any(|name| row.values.contains_key(*name)) {
            let at = rows.number(row, &names.timestamp)? * options.time_unit_secs.unwrap_or(1.0);
            let start = *start.get_or_insert(at);
            sample.at = Some(Nanos::from_secs(at - start));
        }
        if let Some(value) = names.session.iter().find_map(|name| row.values.get(*name)) {
            let name = value.to_string();
            let known = sessions.iter().position(|(known, _)| *known == name);
            let index = known.unwrap_or_else(|| {
                sessions.push((name, 0));
                sessions.len() - 1
            });
            sample.session = Some(index as u32);
            sample.turn = sessions[index].1;
            sessions[index].1 += 1;
        }
        samples.push(sample);
    }
    super::finish(samples, options, || rows.no_sample("it has no row"))
}

fn sample(
    rows: &Rows,
    row: &Row,
    names: &Names<'_>,
    options: &DatasetOptions,
    tokens: &Tokens,
    rng: &mut fastrand::Rng,
) -> Result<Sample, DatasetError> {
    let has = |names: &[&str]| names.iter().any(|name| row.values.contains_key(*name));
    let output = match options.output_tokens {
        Some(output) => output,
        None if has(&names.output_tokens) => rows.tokens(row, &names.output_tokens)?,
        None => 0,
    };
    let Some(value) = names.prompt.iter().find_map(|name| row.values.get(*name)) else {
        // A trace that has lengths only.
        if !has(&names.prompt_tokens) {
            let columns: Vec<&str> = row.values.keys().map(String::as_str).collect();
            let expected = format!("a column {}", names.prompt.join(" or "));
            return Err(rows.malformed(row, format!("columns {}", columns.join(", ")), expected));
        }
        let count = rows.tokens(row, &names.prompt_tokens)?.max(1);
        return Ok(Sample::new(Prompt::Text(text::make(rng, tokens, count)?), count, output));
    };
    let prompt = match value {
        Value::String(text) => Prompt::Text(text.clone()),
        Value::Array(items) if items.iter().all(Value::is_u64) => {
            let ids = items.iter().map(|item| item.as_u64().and_then(|id| u32::try_from(id).ok()));
            let ids = ids.collect::<Option<Vec<u32>>>();
            Prompt::Tokens(ids.ok_or_else(|| rows.malformed(row, "a token id above 4294967295", "ids"))?)
        }
        Value::Array(_) => {
            let messages: Result<Vec<Message>, _> = serde_json::from_value(value.clone());
            Prompt::Chat(messages.map_err(|error| {
                rows.malformed(row, error.to_string(), "messages with `role` and `content`, or token ids")
            })?)
        }
        other => return Err(rows.malformed(row, other.to_string(), "a text, messages or token ids")),
    };
    let count = match &prompt {
        _ if has(&names.prompt_tokens) => rows.tokens(row, &names.prompt_tokens)?,
        Prompt::Tokens(ids) => ids.len() as u32,
        other => tokens.count(&other.text().unwrap_or_default())?,
    };
    Ok(Sample::new(prompt, count, output))
}

//! `pie run --trace`: every pass as a line of JSON.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use backend::{TokenLogProb, Value};
use runtime::{ObservedPass, PassObserver, ServedModel};
use serde_json::{Map, Value as Json, json};

/// An observer that writes to a file, from its beginning.
///
/// # Errors
/// When the file cannot be made.
pub(super) fn observer(path: &Path) -> Result<PassObserver> {
    let file = File::create(path).with_context(|| format!("cannot write the trace to {}", path.display()))?;
    let (file, start) = (Mutex::new(BufWriter::new(file)), Instant::now());
    let path = path.to_path_buf();
    Ok(PassObserver::new(move |pass| {
        let line = line(pass, start);
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        // Whole lines at once: a program that is ended leaves a file that can be read.
        if let Err(error) = writeln!(file, "{line}").and_then(|()| file.flush()) {
            tracing::warn!(path = %path.display(), %error, "a pass is missing in the trace");
        }
    }))
}

fn line(pass: &ObservedPass<'_>, start: Instant) -> Json {
    let milliseconds = |time: std::time::Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    let mut line = Map::new();
    let mut put = |name: &str, value: Json| line.insert(name.to_string(), value);
    put("at_ms", json!(milliseconds(pass.began.saturating_duration_since(start))));
    put("ms", json!(milliseconds(pass.took)));
    put("inferlet", json!(pass.inferlet));
    put("program", json!(pass.program));
    put("model", json!(pass.model.name()));
    put("context", json!(pass.context));
    put("length", json!(pass.length));
    put("tokens", json!(pass.tokens));
    put("text", json!(pass.model.text_of(pass.tokens)));
    put("keep", json!(pass.keep));
    match &pass.result {
        Ok(result) => {
            put("computed", json!(result.computed));
            put("cached", json!(result.cached));
            let outputs: Vec<Json> = result.outputs.iter().map(|value| output(value, pass.model)).collect();
            put("outputs", json!(outputs));
        }
        Err(error) => {
            put("error", json!(error));
        }
    }
    Json::Object(line)
}

/// An output; long lists of numbers are only counted.
fn output(value: &Value, model: &ServedModel) -> Json {
    let token = |of: &TokenLogProb| json!({"token": of.token, "text": model.text_of(&[of.token]), "log_prob": of.log_prob});
    match value {
        Value::Token(sampled) => json!({ "token": token(sampled) }),
        Value::TopK(top) => json!({ "top_k": top.iter().map(token).collect::<Vec<_>>() }),
        Value::LogProbs(values) => json!({ "log_probs": values }),
        Value::Logits(values) => json!({ "logits": values.len() }),
        Value::Entropy(value) => json!({ "entropy": value }),
        Value::Hidden(values) => json!({ "hidden": values.len() }),
        Value::NoTokenAllowed => json!("no token is allowed"),
    }
}

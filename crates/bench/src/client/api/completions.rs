//! `/v1/completions` of the OpenAI API.

use serde_json::{Map, Value, json};

use super::{Ask, Spec, as_text};
use crate::dataset::Prompt;

pub(super) const SPEC: Spec = Spec {
    names: &["openai", "openai-completions", "completions", "vllm", "lmdeploy", "sglang-oai", "pie"],
    route: "/v1/completions",
    body,
};

fn body(ask: &Ask<'_>) -> Result<Map<String, Value>, String> {
    let prompt = match (ask.prompt, ask.history) {
        (Prompt::Tokens(ids), []) => json!(ids),
        (Prompt::Tokens(_), _) => return Err("token ids cannot continue a session".into()),
        _ => json!(as_text(ask)),
    };
    let mut body = Map::new();
    if let Some(model) = ask.model {
        body.insert("model".into(), json!(model));
    }
    body.insert("prompt".into(), prompt);
    if ask.output_tokens > 0 {
        body.insert("max_tokens".into(), json!(ask.output_tokens));
    }
    body.insert("stream".into(), json!(ask.stream));
    if ask.stream {
        body.insert("stream_options".into(), json!({"include_usage": true}));
    }
    Ok(body)
}

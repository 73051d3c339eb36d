//! `/v1/chat/completions` of the OpenAI API.

use serde_json::{Map, Value, json};

use super::{Ask, Spec};

pub(super) const SPEC: Spec = Spec {
    names: &["openai-chat", "chat", "vllm-chat", "sglang-oai-chat", "pie-chat"],
    route: "/v1/chat/completions",
    body,
};

fn body(ask: &Ask<'_>) -> Result<Map<String, Value>, String> {
    let new =
        ask.prompt.messages().ok_or("token ids cannot be sent as messages: use an API for completions")?;
    let messages: Vec<_> = ask.history.iter().chain(&new).collect();
    let mut body = Map::new();
    if let Some(model) = ask.model {
        body.insert("model".into(), json!(model));
    }
    body.insert("messages".into(), json!(messages));
    if ask.output_tokens > 0 {
        body.insert("max_completion_tokens".into(), json!(ask.output_tokens));
    }
    body.insert("stream".into(), json!(ask.stream));
    if ask.stream {
        body.insert("stream_options".into(), json!({"include_usage": true}));
    }
    Ok(body)
}

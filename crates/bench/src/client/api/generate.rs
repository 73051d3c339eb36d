//! `/generate` of SGLang.

use serde_json::{Map, Value, json};

use super::{Ask, Spec, as_text};
use crate::dataset::Prompt;

pub(super) const SPEC: Spec =
    Spec { names: &["sglang", "generate", "sglang-native"], route: "/generate", body };

fn body(ask: &Ask<'_>) -> Result<Map<String, Value>, String> {
    let mut sampling = Map::new();
    if ask.output_tokens > 0 {
        sampling.insert("max_new_tokens".into(), json!(ask.output_tokens));
    }
    let mut body = Map::new();
    match (ask.prompt, ask.history) {
        (Prompt::Tokens(ids), []) => body.insert("input_ids".into(), json!(ids)),
        (Prompt::Tokens(_), _) => return Err("token ids cannot continue a session".into()),
        _ => body.insert("text".into(), json!(as_text(ask))),
    };
    body.insert("sampling_params".into(), Value::Object(sampling));
    body.insert("stream".into(), json!(ask.stream));
    Ok(body)
}

//! What an answer cost, as the API counts.

use inferlet::{Model, Value, json};

/// `usage` of an answer to a prompt of so many tokens. `reasoning` of the generated tokens are those of reasoning.
/// Tokens of the prompt that the prefix cache had are counted over all passes of this program.
pub fn usage(model: &Model, prompt: usize, generated: usize, reasoning: usize) -> Value {
    let work = model.work();
    let cached = (work.tokens - work.computed).min(prompt as u64);
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": { "cached_tokens": cached },
        "completion_tokens_details": { "reasoning_tokens": reasoning },
    })
}

//! What an answer cost, as the API counts.

use inferlet::{Value, json};

/// `usage` of an answer to a prompt of so many tokens, of which `cached` were not computed. `reasoning` of the generated
/// tokens are those of reasoning.
pub fn usage(prompt: usize, cached: usize, generated: usize, reasoning: usize) -> Value {
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": { "cached_tokens": cached },
        "completion_tokens_details": { "reasoning_tokens": reasoning },
    })
}

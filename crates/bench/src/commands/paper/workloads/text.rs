//! Text completion: one prompt, one answer.

use super::{Bars, Case, Workload, options, system, user};
use crate::commands::paper::api::{Api, Ask};

const SYSTEM: &str = "You are a helpful assistant.";
const TOKENS: usize = 64;

/// Its row.
pub const WORKLOAD: Workload = Workload {
    name: "text",
    program: "text-completion",
    source: include_str!("../../../../../../inferlets/text-completion/src/lib.rs"),
    texts: &[SYSTEM],
    instances: 128,
    paper: Some(Bars { latency: [1.0, 0.934], throughput: [0.959, 0.887] }),
    arguments: |case| arguments(case, TOKENS),
    baseline: |api, case| baseline(api, case, TOKENS),
    differs: None,
};

fn prompt(case: Case) -> String {
    format!("Tell me about the number {}", case.number)
}

/// With another number of tokens.
pub fn arguments(case: Case, tokens: usize) -> Vec<String> {
    options(&[("prompt", &prompt(case)), ("max-tokens", &tokens.to_string())])
}

/// With another number of tokens.
///
/// # Errors
/// When the server fails.
pub fn baseline(api: &Api, case: Case, tokens: usize) -> anyhow::Result<()> {
    api.complete(Ask::new(api.prompt(&[system(SYSTEM), user(&prompt(case))]), tokens))?;
    Ok(())
}

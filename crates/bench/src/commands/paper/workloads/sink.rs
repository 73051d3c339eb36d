//! Attention sink: 128 tokens of which only the first and the last stay in memory. From outside nothing can be taken out of
//! a context, so the baseline attends to everything.

use super::{Workload, options, user};
use crate::commands::paper::api::Ask;

const PROMPT: &str = "Tell me a very long story.";
const TOKENS: usize = 128;

pub(super) const WORKLOAD: Workload = Workload {
    name: "sink",
    program: "attention-sink",
    source: include_str!("../../../../../../inferlets/attention-sink/src/lib.rs"),
    texts: &[PROMPT],
    instances: 128,
    paper: None,
    arguments: |_| {
        let tokens = TOKENS.to_string();
        options(&[("prompt", PROMPT), ("sink", "32"), ("window", "16"), ("max-tokens", &tokens)])
    },
    baseline: |api, _| {
        api.complete(Ask::new(api.prompt(&[user(PROMPT)]), TOKENS).ignore_eos())?;
        Ok(())
    },
    differs: Some("the baseline attends to all tokens"),
};

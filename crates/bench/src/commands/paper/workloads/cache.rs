//! Prefix caching: a long system prompt that many share. The program opens a saved one; from outside the server's own
//! cache must find it.

use super::{Bars, Workload, options, system, user};
use crate::commands::paper::api::Ask;

const SYSTEM: &str = include_str!("../../../../../../inferlets/prefix-caching/src/system.txt");
const PROMPT: &str = "How do I say `good morning`?";
const TOKENS: usize = 64;

pub(super) const WORKLOAD: Workload = Workload {
    name: "cache",
    program: "prefix-caching",
    source: include_str!("../../../../../../inferlets/prefix-caching/src/lib.rs"),
    texts: &[PROMPT],
    instances: 128,
    paper: Some(Bars { latency: [0.937, 1.0], throughput: [1.0, 0.753] }),
    arguments: |_| options(&[("prompt", PROMPT), ("max-tokens", &TOKENS.to_string())]),
    baseline: |api, _| {
        api.complete(Ask::new(api.prompt(&[system(SYSTEM), user(PROMPT)]), TOKENS))?;
        Ok(())
    },
    differs: None,
};

//! Speculative decoding with n-grams: drafts of the program, checked by the server. What the baseline does is the
//! operator's choice when it is started; llama.cpp's server without a draft model decodes plainly.

use super::{Bars, Workload, options, user};
use crate::commands::paper::api::Ask;

const PROMPT: &str = "Print 'hello' 100 times.";
const TOKENS: usize = 64;

pub(super) const WORKLOAD: Workload = Workload {
    name: "spec",
    program: "speculative-decoding",
    source: include_str!("../../../../../../inferlets/speculative-decoding/src/lib.rs"),
    texts: &[],
    instances: 128,
    paper: Some(Bars { latency: [1.0, 0.943], throughput: [1.0, 0.89] }),
    arguments: |_| options(&[("prompt", PROMPT), ("max-tokens", &TOKENS.to_string())]),
    baseline: |api, _| {
        api.complete(Ask::new(api.prompt(&[user(PROMPT)]), TOKENS))?;
        Ok(())
    },
    differs: Some("the baseline speculates only if its server was started so"),
};

//! Constrained decoding: an answer that is JSON.

use super::{Bars, Workload, options, user};
use crate::commands::paper::api::{Ask, Form};

const PROMPT: &str = "Describe a person as JSON.";
const TOKENS: usize = 32;

pub(super) const WORKLOAD: Workload = Workload {
    name: "ebnf",
    program: "constrained-decoding",
    source: include_str!("../../../../../../inferlets/constrained-decoding/src/lib.rs"),
    texts: &[PROMPT],
    instances: 128,
    paper: Some(Bars { latency: [0.302, 1.0], throughput: [1.0, 0.051] }),
    arguments: |_| options(&[("prompt", PROMPT), ("kind", "json"), ("max-tokens", &TOKENS.to_string())]),
    baseline: |api, _| {
        api.complete(Ask::new(api.prompt(&[user(PROMPT)]), TOKENS).form(Form::Json))?;
        Ok(())
    },
    differs: Some("the grammars differ: any JSON in pie, an object from outside"),
};

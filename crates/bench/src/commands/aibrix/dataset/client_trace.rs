//! `client_trace`: what a client sent and what it got, as prompts with completions.

use anyhow::Context;
use fastrand::Rng;

use super::Spec;
use crate::commands::aibrix::config::Config;
use crate::commands::aibrix::rows::{self, OutputRow, PlainRow, Prompts};
use crate::dataset::tokens::Tokens;

pub(super) const SPEC: Spec = Spec { name: "client_trace", make };

fn make(config: &Config, _: &Tokens, _: &mut Rng, notes: &mut Vec<String>) -> anyhow::Result<Prompts> {
    let path = config.path("dataset_configs.client_trace.trace")?;
    let list: Vec<OutputRow> = rows::read(&path, "client")?;
    let mut prompts = Vec::new();
    let mut failed = 0;
    for row in list {
        if row.status != "success" {
            failed += 1;
            continue;
        }
        let prompt = row.input[0]["content"].as_str();
        let prompt = prompt.with_context(|| {
            format!("`{}`, request {}: `input` has no message with `content`", path.display(), row.request_id)
        })?;
        prompts.push(PlainRow {
            prompt: prompt.into(),
            completion: row.output,
            token_count: None,
            prefix_group: None,
            config_id: None,
        });
    }
    if failed > 0 {
        notes.push(format!("{failed} requests of the trace failed and are left out"));
    }
    Ok(Prompts::Plain(prompts))
}

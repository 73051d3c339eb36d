//! `mooncake`: the moments, lengths and blocks of a trace of Mooncake. Blocks of the same name have the same text, so a
//! prefix cache meets what the trace had.

use super::process::push;
use super::{Making, Spec};
use crate::commands::aibrix::rows::{Group, Request};
use crate::dataset::rows::Rows;
use crate::dataset::{self, DatasetOptions};

pub(super) const SPEC: Spec = Spec { name: "mooncake", make };

/// Tokens of a block of these traces.
const BLOCK_TOKENS: u32 = 512;

fn make(making: &mut Making<'_>) -> anyhow::Result<Vec<Group>> {
    let kind = making.config.text("workload_configs.mooncake.trace_type")?;
    anyhow::ensure!(
        matches!(kind.as_str(), "conversation" | "synthetic" | "toolagent"),
        "`workload_configs.mooncake.trace_type`: found `{kind}`, expected conversation, synthetic or toolagent"
    );
    let path = making.config.path("workload_configs.mooncake.trace_path")?;
    let duration = making.duration_ms()?;
    // Only what is sent is made up: a whole trace is a gigabyte of text.
    let rows = Rows::read(&path)?;
    let mut start = None;
    let mut count = 0;
    for row in &rows.rows {
        let at = rows.number(row, &["timestamp"])?;
        if at - *start.get_or_insert(at) > duration {
            break;
        }
        count += 1;
    }
    let options = DatasetOptions {
        name: "mooncake".into(),
        path: Some(path),
        count,
        seed: making.config.count("seed")?,
        block_tokens: Some(BLOCK_TOKENS),
        oversample: false,
        ..DatasetOptions::default()
    };
    let made = dataset::load(&options, making.tokens)?;
    let mut groups = Vec::new();
    for sample in made.samples {
        let timestamp = sample.at.unwrap_or_default().millis().round() as u64;
        let request = Request {
            prompt: sample.prompt.text().unwrap_or_default(),
            prompt_length: Some(sample.prompt_tokens),
            output_length: Some(sample.output_tokens),
            session_id: None,
            agent: None,
        };
        push(&mut groups, timestamp, request);
    }
    Ok(groups)
}

//! Text: a prompt and its answer.

use anyhow::{Context, Result, ensure};

use crate::report::Runs;
use crate::{Home, On, Row};

pub(crate) const ROWS: &[Row] = &[Row {
    program: "text-completion",
    home: Home::Shared,
    tiny: &[&["--prompt", "hello", "--max-tokens", "16", "--output"]],
    real: &[
        &["--prompt", "Tell me a very long story.", "--max-tokens", "16", "--output"],
        &["--prompt", "What is the capital of France?", "--max-tokens", "16", "--output"],
    ],
    check: text_completion,
}];

fn text_completion(runs: &Runs) -> Result<()> {
    for run in &runs.runs {
        let (streamed, rest) = run.said.split_once(" tokens, total elapsed").context("no count of tokens")?;
        let (streamed, tokens) = streamed.rsplit_once("\n(").context("no count of tokens")?;
        ensure!(!streamed.is_empty(), "no text");
        let result = rest.split_once("Per token latency: ").and_then(|(_, rest)| rest.split_once('\n'));
        let (_, result) = result.context("no latency")?;
        ensure!(result.strip_suffix('\n') == Some(streamed), "the result is not what was streamed");
        // Of the two on the real model, the short answer ends by itself.
        let short = streamed.contains("Paris");
        ensure!(short || tokens == "16", "{tokens} tokens instead of 16");
    }
    ensure!(runs.on == On::Tiny || runs.runs[1].said.contains("Paris"), "no Paris");
    Ok(())
}

//! The prompt of a generation, computed but for its last token, which the first draw needs.

use std::iter::once;

use anyhow::bail;

use crate::forward::{Output, OutputKind, OutputRequest};
use crate::generate::{Logprob, Window};
use crate::{Context, EMBEDDING, Layout, Result};

/// Rows of a pass that asks for log-probabilities of the prompt: two outputs each stay below the limit of a pass.
const ASKING_ROWS: usize = 4096;

/// Computes all pending tokens but the last. With `top`, gives the log-probabilities of the pending tokens, and of so
/// many alternatives each: none for the first, whose row is computed already or is none, and for embedding rows.
pub(super) async fn prefill(
    context: &mut Context,
    window: Option<Window>,
    top: Option<u32>,
) -> Result<Vec<Option<Logprob>>> {
    let mut logprobs = vec![None; context.pending().len().min(1)];
    let limit = context.model().facts().context_length as usize;
    let at_once = window.map_or(ASKING_ROWS, |window| window.size.max(1));
    // Tokens that are computed a second time.
    let mut again = 0;
    while let Some(front) = context.pending().len().checked_sub(1) {
        let rows = front.clamp(1, at_once);
        let mut computed = context.tokens().len() - front - 1;
        if let Some(window) = window {
            window.slide(context, if front == 0 { computed + 1 } else { computed })?;
            computed = context.tokens().len() - front - 1;
            let is_full = context.next_position() as usize + rows > limit;
            if is_full && computed > 0 && computed + rows <= limit {
                context.restart()?;
                again += computed;
                continue;
            }
        }
        if front == 0 {
            break;
        }
        let (end, next) = (computed + rows, context.pending()[1..=rows].to_vec());
        let layout = window.map_or_else(Layout::default, |window| window.layout(context, end));
        let outputs = top.map_or_else(Vec::new, |top| requests(&next, 0, top));
        let values = context.pass_until(end, layout, outputs).await?;
        if let Some(top) = top {
            let known = again.min(rows);
            logprobs.extend(answers(&next, top, values)?.into_iter().skip(known));
            again -= known;
        }
    }
    Ok(logprobs)
}

/// Requests for the log-probabilities of tokens, the first one of row `first`, and of alternatives to each.
pub(super) fn requests(tokens: &[u32], first: u32, top: u32) -> Vec<OutputRequest<'static>> {
    let rows = tokens.iter().zip(first..).filter(|(token, _)| **token != EMBEDDING);
    rows.flat_map(|(token, row)| {
        let top = (top > 0).then_some(OutputRequest { row, kind: OutputKind::TopK(top) });
        once(OutputRequest { row, kind: OutputKind::LogProbs(vec![*token]) }).chain(top)
    })
    .collect()
}

/// What the requests for these tokens gave.
pub(super) fn answers(tokens: &[u32], top: u32, values: Vec<Output>) -> Result<Vec<Option<Logprob>>> {
    let mut values = values.into_iter();
    let mut answer = |token: &u32| {
        if *token == EMBEDDING {
            return Ok(None);
        }
        let logprob = match values.next() {
            Some(Output::LogProbs(values)) if values.len() == 1 => values[0],
            other => bail!("requested a log-probability, got {other:?}"),
        };
        let top = if top > 0 { top_of(values.next())? } else { Vec::new() };
        Ok(Some(Logprob { token: *token, logprob: Some(logprob), top }))
    };
    tokens.iter().map(&mut answer).collect()
}

/// The alternatives in an answer.
pub(super) fn top_of(output: Option<Output>) -> Result<Vec<(u32, f32)>> {
    match output {
        Some(Output::TopK(top)) => Ok(top.into_iter().map(|t| (t.token, t.log_prob)).collect()),
        other => bail!("requested the top k, got {other:?}"),
    }
}

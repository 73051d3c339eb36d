//! Beam search over forks of a context.

use futures::future::try_join_all;

use crate::{Context, Result};

/// One hypothesis.
pub struct Beam {
    /// The prompt and the tokens of the hypothesis.
    pub context: Context,
    /// Tokens after the prompt, without a stop token.
    pub tokens: Vec<u32>,
    /// Sum of the log-probabilities of `tokens`, and of the stop token where one ended it.
    pub log_prob: f64,
    /// Whether the model drew a stop token.
    pub ended: bool,
}

/// Keeps the `width` most probable continuations of a prompt, over `max_tokens` steps, until the context
/// length is reached, or until a stop token ended all of them; the most probable first. Hypotheses share the
/// pages of their common tokens, and a step is one batch. Of equals, the one from the better beam comes
/// first.
///
/// # Errors
/// When the prompt has nothing pending, and as for a pass.
pub async fn beam_search(prompt: &Context, width: usize, max_tokens: usize) -> Result<Vec<Beam>> {
    let stop_tokens = prompt.model().facts().stop_tokens.clone();
    let width = width.clamp(1, prompt.model().facts().vocabulary_size as usize);
    let mut beams = vec![Beam { context: prompt.fork()?, tokens: Vec::new(), log_prob: 0.0, ended: false }];
    for _ in 0..max_tokens {
        let is_full = |beam: &Beam| !beam.tokens.is_empty() && beam.context.positions_left().is_none();
        if beams.iter().all(|beam| beam.ended) || beams.iter().any(is_full) {
            break;
        }
        // Every beam with its successors: none for one that has ended.
        let tops = try_join_all(beams.iter_mut().map(|beam| async {
            match beam.ended {
                true => Ok(Vec::new()),
                false => beam.context.top_k(width as u32).await,
            }
        }));
        let tops = tops.await?;
        let mut candidates = Vec::new();
        for (index, (beam, top)) in beams.iter().zip(&tops).enumerate() {
            if beam.ended {
                candidates.push((beam.log_prob, index, None));
            }
            candidates
                .extend(top.iter().map(|t| (beam.log_prob + f64::from(t.log_prob), index, Some(t.token))));
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        candidates.truncate(width);
        let extended = candidates.into_iter().map(|(log_prob, index, token)| {
            let mut context = beams[index].context.fork()?;
            let mut tokens = beams[index].tokens.clone();
            let ended = token.is_none_or(|token| stop_tokens.contains(&token));
            if let Some(token) = token.filter(|_| !ended) {
                context.append_tokens(&[token]);
                tokens.push(token);
            }
            Ok(Beam { context, tokens, log_prob, ended })
        });
        beams = extended.collect::<Result<_>>()?;
    }
    Ok(beams)
}

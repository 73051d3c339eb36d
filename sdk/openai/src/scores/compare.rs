//! Scores by an encoder: the cosine of the vectors of both texts, each of which is computed once.

use inferlet::Model;
use inferlet::futures::stream::{StreamExt, TryStreamExt, iter};

use super::judge::{Scores, Text};
use crate::prompts::document;
use crate::{ApiError, Result, Served, embed};

/// Texts that hold pages at the same time. A batch has no use for more.
const AT_ONCE: usize = 64;

/// Scores pairs of texts. A text of more tokens than `cut` is cut to them, of which the model's last one stays; without, one
/// beyond the context is refused.
pub(super) async fn scores<'a>(
    served: &Served,
    cut: Option<usize>,
    pairs: &[(&'a Text, &'a Text)],
) -> Result<Scores> {
    let mut texts: Vec<&Text> = Vec::new();
    let mut index = |text: &'a Text| match texts.iter().position(|known| std::ptr::eq(*known, text)) {
        Some(known) => known,
        None => {
            texts.push(text);
            texts.len() - 1
        }
    };
    let pairs: Vec<(usize, usize)> = pairs.iter().map(|(a, b)| (index(a), index(b))).collect();
    let documents: Vec<Vec<u32>> =
        texts.iter().map(|text| tokens(&served.model, cut, text)).collect::<Result<_>>()?;
    let vectors = iter(documents.iter().map(|tokens| embed(served, tokens)));
    let vectors: Vec<Vec<f32>> = vectors.buffered(AT_ONCE).try_collect().await?;
    let cosine = |(a, b): (usize, usize)| vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum::<f32>();
    Ok(Scores {
        scores: pairs.into_iter().map(cosine).collect(),
        tokens: documents.iter().map(Vec::len).sum(),
    })
}

fn tokens(model: &Model, cut: Option<usize>, text: &Text) -> Result<Vec<u32>> {
    let limit = model.facts().context_length as usize;
    let mut tokens = document(&text.text, &text.param, model)?;
    match cut {
        Some(most) if tokens.len() > most => {
            tokens.truncate(most);
            if let (Some(eos), Some(last)) = (model.embedding().eos, tokens.last_mut()) {
                *last = eos;
            }
        }
        None if tokens.len() > limit => {
            let message = format!(
                "has {} tokens, and the model's context {limit}; `truncate_prompt_tokens` cuts it",
                tokens.len()
            );
            return Err(ApiError::invalid(&text.param, message).with_code("context_length_exceeded"));
        }
        _ => {}
    }
    match tokens.is_empty() {
        true => Err(ApiError::invalid(&text.param, "is empty")),
        false => Ok(tokens),
    }
}

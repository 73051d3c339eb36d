//! The tokens of what a request gives as a text, or as tokens.
//!
//! In a prompt control tokens count as such, as in vLLM and llama.cpp: whoever asks writes the whole of it, the markup of a
//! template too. In a document, which an application has from somebody, they are text.

use inferlet::{Model, Value};

use crate::fields::kind;
use crate::{ApiError, Fields, Result};

/// Texts of a request, as in the OpenAI API.
const INPUTS: usize = 2048;

/// What a text is to the model.
#[derive(Clone, Copy)]
struct Use {
    /// How its tokens are found.
    tokens: fn(&str, &str, &Model) -> Result<Vec<u32>>,
    /// Tokens of the context that it must leave.
    left: usize,
}

const PROMPT: Use = Use { tokens: |text, param, model| prompt_tokens(text, param, model, true), left: 1 };
const DOCUMENT: Use = Use { tokens: document, left: 0 };

/// The prompts of a field that holds a text, texts, tokens, or lists of tokens.
///
/// # Errors
/// 400 when it holds something else, or more than a context.
pub(crate) fn prompts(fields: &mut Fields, field: &str, model: &Model) -> Result<Vec<Vec<u32>>> {
    inputs(fields, field, model, PROMPT)
}

/// The documents of such a field, texts as the model wants them to make vectors of them.
///
/// # Errors
/// As for prompts; a document may fill the context.
pub fn documents(fields: &mut Fields, field: &str, model: &Model) -> Result<Vec<Vec<u32>>> {
    inputs(fields, field, model, DOCUMENT)
}

/// The tokens of a document's text.
///
/// # Errors
/// 400 when it is longer than the tokenizer takes.
pub(crate) fn document(text: &str, param: &str, model: &Model) -> Result<Vec<u32>> {
    let tokens = model.tokenize(text).map_err(|error| ApiError::of_prompt(error, param))?;
    Ok(model.whole_text(tokens))
}

/// A prompt that is a text or a list of tokens.
///
/// # Errors
/// 400 when it is neither, or more than a context.
pub(crate) fn prompt(value: Value, param: &str, model: &Model) -> Result<Vec<u32>> {
    tokens_of(value, param, model, PROMPT)
}

/// The tokens of a prompt's text, with the model's first token before them where that is asked for.
///
/// # Errors
/// When the text is longer than the tokenizer takes.
pub fn prompt_tokens(text: &str, param: &str, model: &Model, with_first: bool) -> Result<Vec<u32>> {
    let first = model.facts().bos.filter(|_| with_first);
    let tokens = model.tokenize_special(text).map_err(|error| ApiError::of_prompt(error, param))?;
    Ok(behind(first, tokens))
}

fn inputs(fields: &mut Fields, field: &str, model: &Model, of: Use) -> Result<Vec<Vec<u32>>> {
    let param = fields.name(field);
    let inputs = match fields.required::<Value>(field)? {
        Value::Array(items) if items.iter().all(|item| item.is_string() || item.is_array()) => items,
        value => vec![value],
    };
    if inputs.is_empty() || inputs.len() > INPUTS {
        return Err(ApiError::invalid(&param, format!("{} are given, expected 1 to {INPUTS}", inputs.len())));
    }
    inputs.into_iter().map(|input| tokens_of(input, &param, model, of)).collect()
}

fn tokens_of(value: Value, param: &str, model: &Model, of: Use) -> Result<Vec<u32>> {
    let facts = model.facts();
    let tokens = match value {
        Value::String(text) => (of.tokens)(&text, param, model)?,
        Value::Array(items) => {
            let token = |item: &Value| {
                let token = item.as_u64().filter(|token| *token < facts.vocabulary_size.into());
                let size = facts.vocabulary_size;
                token.map(|token| token as u32).ok_or_else(|| {
                    ApiError::invalid(
                        param,
                        format!("{item} is no token below {size}, the size of the vocabulary"),
                    )
                })
            };
            items.iter().map(token).collect::<Result<_>>()?
        }
        other => {
            return Err(ApiError::invalid(
                param,
                format!("expected a text or a list of tokens, found {}", kind(&other)),
            ));
        }
    };
    check_fits(tokens.len(), of.left, param, model)?;
    Ok(tokens)
}

/// Tokens behind the first one of a model; those that begin with it, as a text from the template, get no second.
fn behind(first: Option<u32>, tokens: Vec<u32>) -> Vec<u32> {
    first.filter(|first| tokens.first() != Some(first)).into_iter().chain(tokens).collect()
}

/// Whether a prompt has something to go on from, and leaves room for a token.
pub(crate) fn check_length(tokens: usize, param: &str, model: &Model) -> Result<()> {
    check_fits(tokens, PROMPT.left, param, model)
}

/// Whether there is a token, and so many are left of the context.
fn check_fits(tokens: usize, left: usize, param: &str, model: &Model) -> Result<()> {
    let limit = model.facts().context_length as usize;
    match tokens {
        0 => Err(ApiError::invalid(param, "is empty")),
        tokens if tokens + left > limit => {
            let message = match left {
                0 => format!("has {tokens} tokens, and the model's context {limit}"),
                _ => format!(
                    "has {tokens} tokens, and the model's context of {limit} must have room for one more"
                ),
            };
            Err(ApiError::invalid(param, message).with_code("context_length_exceeded"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::behind;

    #[test]
    fn a_text_begins_with_the_first_token_once() {
        assert_eq!(behind(Some(1), vec![5, 1]), [1, 5, 1]);
        assert_eq!(behind(Some(1), vec![1, 5]), [1, 5]);
        assert_eq!(behind(Some(1), Vec::new()), [1]);
        assert_eq!(behind(None, vec![5]), [5]);
        assert!(behind(None, Vec::new()).is_empty());
    }
}

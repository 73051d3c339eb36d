//! Texts to be turned into vectors, and vectors as answers have them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use inferlet::{Model, Value, json};

use crate::completions::{DOCUMENT, Tokenize, tokens_of};
use crate::{ApiError, Fields, Result};

/// Texts of a request, as in the OpenAI API.
const INPUTS: usize = 2048;

/// The tokens of a field that holds a text, texts, tokens, or lists of tokens.
///
/// # Errors
/// 400 when it holds something else, or more than a context.
pub(crate) fn inputs(
    fields: &mut Fields,
    field: &str,
    model: &Model,
    tokenize: Tokenize,
) -> Result<Vec<Vec<u32>>> {
    let param = fields.name(field);
    let inputs = match fields.required::<Value>(field)? {
        Value::Array(items) if items.iter().all(|item| item.is_string() || item.is_array()) => items,
        value => vec![value],
    };
    if inputs.is_empty() || inputs.len() > INPUTS {
        return Err(ApiError::invalid(&param, format!("{} are given, expected 1 to {INPUTS}", inputs.len())));
    }
    inputs.into_iter().map(|input| tokens_of(input, &param, model, tokenize)).collect()
}

/// The inputs of a field as documents, in which control tokens are text.
///
/// # Errors
/// 400 when it holds something else, or more than a context.
pub fn documents(fields: &mut Fields, field: &str, model: &Model) -> Result<Vec<Vec<u32>>> {
    inputs(fields, field, model, DOCUMENT)
}

/// A vector in the encoding that was asked for: `float`, which is the default, or `base64` of its 32-bit floats, least
/// byte first.
///
/// # Errors
/// 400 when it is neither.
pub fn vector(values: &[f32], encoding: Option<&str>) -> Result<Value> {
    match encoding {
        None | Some("float") => Ok(json!(values)),
        Some("base64") => {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Ok(json!(STANDARD.encode(bytes)))
        }
        Some(other) => {
            Err(ApiError::invalid("encoding_format", format!("`{other}` is neither `float` nor `base64`")))
        }
    }
}

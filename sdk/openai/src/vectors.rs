//! Vectors as answers have them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use inferlet::{Value, json};

use crate::{ApiError, Result, Served};

/// The vector of a document, of length 1.
///
/// # Errors
/// 400 for an adapter, of which the vectors would have nothing, and as for a pass.
pub async fn embed(served: &Served, tokens: &[u32]) -> Result<Vec<f32>> {
    if served.adapter.is_some() {
        let message = format!("`{}` is an adapter, and vectors are those of a model", served.name);
        return Err(ApiError::invalid("model", message));
    }
    let mut values = served.model.embed(tokens).await?;
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    values.iter_mut().for_each(|value| *value /= length);
    Ok(values)
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

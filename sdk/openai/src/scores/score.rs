//! `/score`: how well texts answer others, pair by pair, as vLLM has it.

use inferlet::http::Response;
use inferlet::{Value, json};

use super::judge::{Judge, Scores, Text, text_of, texts_of};
use crate::completions::{now, random};
use crate::{ApiError, Fields, Result, json as response, open_model};

/// The names of both sides of a pair.
const SIDES: [(&str, &str); 3] = [("text_1", "text_2"), ("queries", "items"), ("queries", "documents")];

/// Answers a request.
///
/// # Errors
/// With the parameter that is wrong or not supported, and as for a pass.
pub async fn score(mut fields: Fields) -> Result<Response> {
    let served = open_model(&mut fields).await?;
    let is_given = |(first, second): &&(&str, &str)| fields.has(first) && fields.has(second);
    // Without any, the first names are those that are missed.
    let (first, second) = *SIDES.iter().find(is_given).unwrap_or(&SIDES[0]);
    let (queries, items) = (side(&mut fields, first)?, side(&mut fields, second)?);
    let judge = Judge::read(&mut fields, served)?;
    fields.finish()?;

    let pairs: Vec<(&Text, &Text)> = match (&queries[..], &items[..]) {
        ([query], items) => items.iter().map(|item| (query, item)).collect(),
        (queries, items) if queries.len() == items.len() => queries.iter().zip(items).collect(),
        _ => {
            let (queries, items) = (queries.len(), items.len());
            let message = format!("{items} texts for the {queries} of `{first}`: give one there, or as many");
            return Err(ApiError::invalid(second, message));
        }
    };
    let Scores { scores, tokens } = judge.scores(&pairs).await?;
    let data = scores.iter().enumerate();
    let data = data.map(|(index, score)| json!({ "index": index, "object": "score", "score": score }));
    Ok(response(&json!({
        "id": format!("score-{:016x}", random()),
        "object": "list",
        "created": now(),
        "model": judge.model(),
        "data": data.collect::<Vec<Value>>(),
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    })))
}

/// One text, or several.
fn side(fields: &mut Fields, field: &str) -> Result<Vec<Text>> {
    let param = fields.name(field);
    match fields.required::<Value>(field)? {
        Value::Array(values) => texts_of(values, &param),
        value => Ok(vec![text_of(value, param)?]),
    }
}

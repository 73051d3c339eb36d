//! `/v1/rerank`: documents by how well they answer a query, as Jina, Cohere and vLLM have it.

use inferlet::http::Response;
use inferlet::{Value, json};

use super::judge::{Judge, Scores, text_of, texts_of};
use crate::completions::random;
use crate::{Fields, Result, json as response, open_model};

/// Answers a request.
///
/// # Errors
/// With the parameter that is wrong or not supported, and as for a pass.
pub async fn rerank(mut fields: Fields) -> Result<Response> {
    let served = open_model(&mut fields).await?;
    let (query, documents) = (fields.name("query"), fields.name("documents"));
    let query = text_of(fields.required("query")?, query)?;
    let documents = texts_of(fields.required("documents")?, &documents)?;
    let top = fields.get::<usize>("top_n")?.filter(|top| *top > 0).unwrap_or(documents.len());
    let with_documents = fields.get("return_documents")?.unwrap_or(true);
    let judge = Judge::read(&mut fields, served)?;
    fields.finish()?;

    let pairs: Vec<_> = documents.iter().map(|document| (&query, document)).collect();
    let Scores { scores, tokens } = judge.scores(&pairs).await?;
    let mut results: Vec<(usize, f32)> = scores.into_iter().enumerate().collect();
    // Equal ones stay in the order of the request.
    results.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let shown = results.into_iter().take(top).map(|(index, score)| {
        let mut shown = json!({ "index": index, "relevance_score": score });
        if with_documents {
            shown["document"] = json!({ "text": documents[index].text });
        }
        shown
    });
    Ok(response(&json!({
        "id": format!("rerank-{:016x}", random()),
        "model": judge.model(),
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
        "results": shown.collect::<Vec<Value>>(),
    })))
}

//! `/v1/embeddings`: a vector for each text, of length 1: its hidden rows pooled as the model says, of a model that
//! generates that after its last token.

use inferlet::futures::future::try_join_all;
use inferlet::http::{Request, Response};
use inferlet::json;
use inferlet_openai::{Fields, documents, embed, json as response, open_model, serve, vector};

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve(request, async |mut fields: Fields| {
        let served = open_model(&mut fields).await?;
        let inputs = documents(&mut fields, "input", &served.model)?;
        let encoding: Option<String> = fields.get("encoding_format")?;
        let size = served.model.facts().hidden_size;
        fields.only("dimensions", &[json!(size)])?;
        fields.ignore(&["user"]);
        fields.finish()?;

        let vectors = try_join_all(inputs.iter().map(|tokens| embed(&served, tokens))).await?;
        let mut data = Vec::new();
        for (index, values) in vectors.iter().enumerate() {
            let embedding = vector(values, encoding.as_deref())?;
            data.push(json!({ "object": "embedding", "index": index, "embedding": embedding }));
        }
        let tokens: usize = inputs.iter().map(Vec::len).sum();
        let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
        Ok(response(&json!({ "object": "list", "data": data, "model": served.name, "usage": usage })))
    })
    .await
}

//! `/v1/embeddings`: a vector for each text: the hidden state after its last token, of length 1.

use inferlet::forward::{Output, OutputKind, OutputRequest};
use inferlet::futures::future::try_join_all;
use inferlet::http::{Request, Response, StatusCode};
use inferlet::{Context, Model, json};
use inferlet_openai::{ApiError, Fields, Result, documents, json as response, open_model, serve, vector};

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

        let vectors = try_join_all(inputs.iter().map(|tokens| embed(&served.model, tokens))).await?;
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

async fn embed(model: &Model, tokens: &[u32]) -> Result<Vec<f32>> {
    let mut context = Context::new(model)?;
    context.append_tokens(tokens);
    let row = context.pending().len() as u32 - 1;
    let outputs = context.pass(vec![OutputRequest { row, kind: OutputKind::Hidden }]).await?;
    match outputs.into_iter().next() {
        Some(Output::Hidden(values)) => {
            let length = values.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            Ok(values.iter().map(|value| value / length).collect())
        }
        other => {
            let message = format!("a hidden state was requested, got {other:?}");
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message))
        }
    }
}

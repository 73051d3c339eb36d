//! `/detokenize`: the text of tokens, as vLLM has it.

use inferlet::http::{Request, Response};
use inferlet::json;
use inferlet_openai::{ApiError, Fields, json as response, open_model, serve};

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve(request, async |mut fields: Fields| {
        let model = open_model(&mut fields).await?.model;
        let tokens: Vec<u32> = fields.required("tokens")?;
        fields.finish()?;
        let text = model.detokenize(&tokens).map_err(|error| ApiError::from(error).about("tokens"))?;
        Ok(response(&json!({ "prompt": text })))
    })
    .await
}

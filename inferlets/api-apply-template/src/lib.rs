//! `/apply-template`: the prompt of a conversation as a text, as llama.cpp's server has it.

use inferlet::http::{Request, Response};
use inferlet::json;
use inferlet_openai::{Fields, chat, json as response, open_model, serve};

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve(request, async |mut fields: Fields| {
        let model = open_model(&mut fields).await?.model;
        let prompt = chat::prompt_text(&mut fields, &model)?;
        fields.finish()?;
        Ok(response(&json!({ "prompt": prompt })))
    })
    .await
}

//! `/tokenize`: the tokens of a text or of a conversation, as vLLM has it.

use inferlet::http::{Request, Response};
use inferlet::json;
use inferlet_openai::{Fields, chat, json as response, open_model, prompt_tokens, serve};

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve(request, async |mut fields: Fields| {
        let model = open_model(&mut fields).await?.model;
        let tokens = if fields.has("messages") {
            chat::prompt(&mut fields, &model)?
        } else {
            let prompt: String = fields.required("prompt")?;
            let with_bos = fields.get("add_special_tokens")?.unwrap_or(true);
            prompt_tokens(&prompt, "prompt", &model, with_bos)?
        };
        let mut answer = json!({
            "count": tokens.len(),
            "max_model_len": model.facts().context_length,
            "tokens": tokens,
        });
        if fields.get("return_token_strs")?.unwrap_or(false) {
            let texts: inferlet::Result<Vec<String>> =
                tokens.iter().map(|token| model.detokenize(&[*token])).collect();
            answer["token_strs"] = json!(texts?);
        }
        fields.finish()?;
        Ok(response(&answer))
    })
    .await
}

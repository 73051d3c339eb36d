//! `/v1/chat/completions`: the next message of a conversation, as the OpenAI API and vLLM have it.

use inferlet::http::{Request, Response};
use inferlet_openai::chat::ChatRequest;
use inferlet_openai::serve;

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve(request, async |fields| ChatRequest::read(fields).await?.answer().await).await
}

//! `/v1/completions`: the continuation of a text, as the OpenAI API and vLLM have it.

use inferlet::http::{Request, Response};
use inferlet_openai::completions::CompletionRequest;
use inferlet_openai::serve;

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve(request, async |fields| CompletionRequest::read(fields).await?.answer().await).await
}

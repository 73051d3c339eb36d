//! `/v1/rerank`: documents by how well they answer a query, as Jina, Cohere and vLLM have it.

use inferlet::http::{Request, Response};
use inferlet_openai::scores::rerank;
use inferlet_openai::serve;

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve(request, rerank).await
}

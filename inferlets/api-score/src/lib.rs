//! `/score`: how well texts answer others, pair by pair, as vLLM has it.

use inferlet::http::{Request, Response};
use inferlet_openai::scores::score;
use inferlet_openai::serve;

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve(request, score).await
}

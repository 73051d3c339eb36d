//! `/infill`: what comes between two texts, as llama.cpp's server has it.

use inferlet::http::{Request, Response};
use inferlet_openai::infill::infill;
use inferlet_openai::serve;

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve(request, infill).await
}

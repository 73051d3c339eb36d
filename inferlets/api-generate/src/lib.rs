//! `/v1/generate`: a prompt in, a text out, for a line with curl.

use inferlet::http::{Request, Response};
use inferlet_openai::generate::generate;
use inferlet_openai::serve;

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve(request, generate).await
}

//! `/v1/responses`: answers that the server keeps, and conversations that go on from them, as the OpenAI API and Open
//! Responses have it.

use inferlet::http::{Request, Response};
use inferlet_openai::{ApiError, respond, responses};

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    respond(request, ApiError::body, responses::route).await
}

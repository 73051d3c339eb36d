//! `/openapi.json`: the routes and their parameters, for programs that generate clients and requests.

use inferlet::http::{HeaderValue, Request, Response, StatusCode, header};
use inferlet_openai::{ApiError, OPENAPI, serve_get};

#[inferlet::serve]
async fn route(request: Request) -> inferlet::Result<Response> {
    serve_get(request, async |path: &str| {
        if !path.is_empty() {
            return Err(ApiError::new(StatusCode::NOT_FOUND, "nothing answers below this path"));
        }
        let mut response = Response::new(OPENAPI.into());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    })
    .await
}

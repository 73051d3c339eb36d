//! From a request to a response.

use inferlet::Value;
use inferlet::http::{HeaderValue, Method, Request, Response, StatusCode, header};

use crate::{ApiError, Fields, Result};

/// Answers a `POST` request by what `answer` makes of its fields.
///
/// # Errors
/// None: an error is a response too.
pub async fn serve(
    request: Request,
    answer: impl AsyncFnOnce(Fields) -> Result<Response>,
) -> inferlet::Result<Response> {
    respond(request, ApiError::body, async |request| {
        only(&request, &Method::POST)?;
        if request.uri().path() != "/" {
            return Err(nothing_below());
        }
        answer(Fields::of_body(request).await?).await
    })
    .await
}

/// Answers a `GET` request by what `answer` makes of the path below that of the program, without its first slash.
///
/// # Errors
/// None: an error is a response too.
pub async fn serve_get(
    request: Request,
    answer: impl AsyncFnOnce(&str) -> Result<Response>,
) -> inferlet::Result<Response> {
    respond(request, ApiError::body, async |request| {
        only(&request, &Method::GET)?;
        answer(request.uri().path().trim_start_matches('/')).await
    })
    .await
}

/// Answers a request of any method and path. `body` is how an error is shown: [`ApiError::body`], or that of another
/// API.
///
/// # Errors
/// None: an error is a response too.
pub async fn respond(
    request: Request,
    body: fn(&ApiError) -> Value,
    answer: impl AsyncFnOnce(Request) -> Result<Response>,
) -> inferlet::Result<Response> {
    Ok(answer(request).await.unwrap_or_else(|error| failure(&error, body)))
}

/// The error for a path that is not there.
pub(crate) fn nothing_below() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "nothing answers below this path")
}

pub(crate) fn only(request: &Request, method: &Method) -> Result<()> {
    if request.method() == method {
        return Ok(());
    }
    let message = format!("{} is not allowed here: send a {method} request", request.method());
    Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message))
}

/// A response with a JSON body.
pub fn json(value: &Value) -> Response {
    let mut response = Response::new(value.to_string().into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn failure(error: &ApiError, body: fn(&ApiError) -> Value) -> Response {
    let mut response = json(&body(error));
    *response.status_mut() = error.status();
    if error.status() == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

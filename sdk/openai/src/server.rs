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
    let answer = async {
        only(&request, &Method::POST)?;
        if request.uri().path() != "/" {
            return Err(ApiError::new(StatusCode::NOT_FOUND, "nothing answers below this path"));
        }
        answer(Fields::of_body(request).await?).await
    };
    Ok(answer.await.unwrap_or_else(|error| failure(&error)))
}

/// Answers a `GET` request by what `answer` makes of the path below that of the program, without its first slash.
///
/// # Errors
/// None: an error is a response too.
pub async fn serve_get(
    request: Request,
    answer: impl AsyncFnOnce(&str) -> Result<Response>,
) -> inferlet::Result<Response> {
    let path = request.uri().path().trim_start_matches('/').to_string();
    let answer = async {
        only(&request, &Method::GET)?;
        answer(&path).await
    };
    Ok(answer.await.unwrap_or_else(|error| failure(&error)))
}

fn only(request: &Request, method: &Method) -> Result<()> {
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

fn failure(error: &ApiError) -> Response {
    let mut response = json(&error.body());
    *response.status_mut() = error.status();
    if error.status() == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

//! HTTP: requests to other servers, and programs that answer requests.
//!
//! A program that answers requests marks its function with [`serve`](macro@crate::serve) in place of `main`;
//! each request runs in an instance of its own, with the arguments that the program was mounted with:
//!
//! ```no_run
//! # mod program {
//! use inferlet::{Result, http};
//!
//! #[inferlet::serve]
//! async fn serve(request: http::Request) -> Result<http::Response> {
//!     Ok(http::Response::new(format!("You asked for {}.", request.uri().path()).into()))
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! Requests leave only for hosts that the operator allows (`--allow-host`, `network.allow_hosts`); there are
//! none by default. Requests, responses, headers and status codes are those of the `http` crate.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{anyhow, ensure};
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, Stream};
use wasip3::http::types::ErrorCode;
use wasip3::http_compat;

pub use ::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};

use crate::{Error, Result, json};

/// A request with its [`Body`].
pub type Request = ::http::Request<Body>;
/// A response with its [`Body`].
pub type Response = ::http::Response<Body>;

/// The bytes of a request or a response: all at once, or as they come.
pub struct Body(Source);

type Incoming = Pin<Box<dyn http_body::Body<Data = Bytes, Error = ErrorCode>>>;

enum Source {
    Whole(Option<Vec<u8>>),
    Incoming(Incoming),
    Written(mpsc::Receiver<Vec<u8>>),
}

impl Body {
    /// No bytes.
    pub fn empty() -> Body {
        Body(Source::Whole(None))
    }

    /// A body that is written while it is sent. It ends when the writer is dropped.
    pub fn written() -> (BodyWriter, Body) {
        let (writer, reader) = mpsc::channel(1);
        (BodyWriter(writer), Body(Source::Written(reader)))
    }

    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// When the other side breaks off.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let frame = poll_fn(|context| http_body::Body::poll_frame(Pin::new(self), context)).await;
            match frame.transpose().map_err(|code| anyhow!("the body broke off: {code:?}"))? {
                None => return Ok(None),
                // A frame without data holds trailers.
                Some(frame) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data.into())),
                    Err(_) => continue,
                },
            }
        }
    }

    /// All bytes, which may not be more than `limit`.
    ///
    /// # Errors
    /// When there are more, or the other side breaks off.
    pub async fn bytes(mut self, limit: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(more) = self.next().await? {
            ensure!(bytes.len() + more.len() <= limit, "the body has more than {limit} bytes");
            bytes.extend(more);
        }
        Ok(bytes)
    }

    /// All bytes as a text.
    ///
    /// # Errors
    /// As for [`Body::bytes`], and when it is not UTF-8.
    pub async fn text(self, limit: usize) -> Result<String> {
        Ok(String::from_utf8(self.bytes(limit).await?)?)
    }

    fn incoming(body: impl http_body::Body<Data = Bytes, Error = ErrorCode> + 'static) -> Body {
        Body(Source::Incoming(Box::pin(body)))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body(Source::Whole(Some(bytes)))
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        text.into_bytes().into()
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Body {
        text.to_string().into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = ErrorCode;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, ErrorCode>>> {
        match &mut self.0 {
            Source::Whole(bytes) => {
                Poll::Ready(bytes.take().map(|bytes| Ok(http_body::Frame::data(bytes.into()))))
            }
            Source::Incoming(body) => body.as_mut().poll_frame(context),
            Source::Written(pieces) => {
                let piece = Pin::new(pieces).poll_next(context);
                piece.map(|piece| piece.map(|bytes| Ok(http_body::Frame::data(bytes.into()))))
            }
        }
    }
}

/// Writes a [`Body::written`].
pub struct BodyWriter(mpsc::Sender<Vec<u8>>);

impl BodyWriter {
    /// Sends more of the body; waits until the reader has taken the bytes before.
    ///
    /// # Errors
    /// When the reader is gone.
    pub async fn write(&mut self, bytes: impl Into<Vec<u8>>) -> Result<()> {
        let gone = |_| Error::Closed("the reader of the body is gone".to_string());
        Ok(self.0.send(bytes.into()).await.map_err(gone)?)
    }
}

/// Sends a request and gives the response as soon as its head is there.
///
/// # Errors
/// `denied` when the operator does not allow the host; else when there is no connection or no response.
pub async fn send(request: Request) -> Result<Response> {
    let (mut parts, body) = request.into_parts();
    describe_length(&mut parts.headers, &body);
    let uri = parts.uri.clone();
    let failed = |code| failure(&uri, &code);
    let request = http_compat::http_into_wasi_request(::http::Request::from_parts(parts, body));
    let response = wasip3::http::client::send(request.map_err(failed)?).await.map_err(failed)?;
    Ok(http_compat::http_from_wasi_response(response).map_err(failed)?.map(Body::incoming))
}

/// Gets a URL.
///
/// # Errors
/// As for [`send`].
pub async fn get(url: &str) -> Result<Response> {
    send(::http::Request::get(url).body(Body::empty())?).await
}

/// Posts to a URL.
///
/// # Errors
/// As for [`send`].
pub async fn post(url: &str, content_type: &str, body: impl Into<Body>) -> Result<Response> {
    send(::http::Request::post(url).header(header::CONTENT_TYPE, content_type).body(body.into())?).await
}

fn failure(uri: &Uri, code: &ErrorCode) -> anyhow::Error {
    match code {
        ErrorCode::HttpRequestDenied => {
            let host = uri.authority().map_or("", |authority| authority.as_str());
            Error::Denied(format!("requests to `{host}` are not allowed; the operator may allow the host"))
                .into()
        }
        code => anyhow!("the request to {uri} failed: {code:?}"),
    }
}

/// Sets `content-length` for a body whose bytes are all here.
fn describe_length(headers: &mut HeaderMap, body: &Body) {
    if let Source::Whole(Some(bytes)) = &body.0 {
        headers.entry(header::CONTENT_LENGTH).or_insert(bytes.len().into());
    }
}

/// The response of the program's function. An error becomes one in the shape of the OpenAI API.
pub(crate) fn respond(answer: Result<Response>) -> Response {
    answer.unwrap_or_else(|error| {
        let (status, kind) = crate::typed(&error).map_or(UNTYPED, status);
        let text = crate::finish(Err(error)).unwrap_or_else(|text| text);
        let body = json!({ "error": { "message": text, "type": kind, "param": null, "code": null } });
        let mut response = Response::new(body.to_string().into());
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    })
}

/// Status and type of an error that is not the server's.
const UNTYPED: (StatusCode, &str) = (StatusCode::INTERNAL_SERVER_ERROR, "server_error");

/// Status and type of an error of the server.
fn status(error: &Error) -> (StatusCode, &'static str) {
    match error {
        Error::InvalidArgument(_) => (StatusCode::BAD_REQUEST, "invalid_request_error"),
        Error::NotFound(_) => (StatusCode::NOT_FOUND, "not_found_error"),
        Error::Denied(_) => (StatusCode::FORBIDDEN, "permission_error"),
        Error::LimitExceeded(_) => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error"),
        Error::OutOfPages(_) | Error::Closed(_) | Error::Cancelled => {
            (StatusCode::SERVICE_UNAVAILABLE, "overloaded_error")
        }
        Error::Backend(_) => UNTYPED,
    }
}

/// Answers a request by the program's function. Called by [`serve`](macro@crate::serve).
#[doc(hidden)]
pub async fn answer<F: Future<Output = Result<Response>>>(
    request: wasip3::http::types::Request,
    serve: impl FnOnce(Request) -> F,
) -> Result<wasip3::http::types::Response, ErrorCode> {
    let request = http_compat::http_from_wasi_request(request)?.map(Body::incoming);
    let response = respond(serve(request).await);
    let (mut parts, body) = response.into_parts();
    describe_length(&mut parts.headers, &body);
    http_compat::http_into_wasi_response(::http::Response::from_parts(parts, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, ScriptedModel};
    use crate::{Context, Model, SamplingParams, spawn};

    async fn serve(request: Request) -> Result<Response> {
        match request.uri().path() {
            "/stream" => {
                let prompt = request.into_body().text(100).await?;
                let (mut writer, body) = Body::written();
                spawn(async move {
                    let mut context = Context::new(&Model::open_default().unwrap()).unwrap();
                    let mut generation = context.append(&prompt).generate(SamplingParams::greedy());
                    while let Some(item) = generation.next().await.unwrap() {
                        writer.write(item.text).await.unwrap();
                    }
                });
                Ok(Response::new(body))
            }
            "/wrong" => Err(Error::InvalidArgument("no".to_string()).into()),
            "/model" => Err(Model::open("none").err().unwrap().context("opening")),
            _ => Err(anyhow!("something")),
        }
    }

    #[test]
    fn a_function_streams_and_its_errors_have_their_status() {
        let host = Host::new().model(ScriptedModel::new().says("ask", "an answer"));
        let ask = |path: &str| {
            let request = ::http::Request::post(path).body("ask".into()).unwrap();
            let (status, body) = host.request(serve, request);
            (status.as_u16(), body)
        };
        assert_eq!(ask("/stream"), (200, "an answer".to_string()));
        for (path, status, kind) in [
            ("/wrong", 400, "invalid_request_error"),
            ("/model", 404, "not_found_error"),
            ("/other", 500, "server_error"),
        ] {
            let (found, body) = ask(path);
            let body: crate::Value = serde_json::from_str(&body).unwrap();
            assert_eq!((found, body["error"]["type"].as_str()), (status, Some(kind)), "{body}");
            assert!(!body["error"]["message"].as_str().unwrap().is_empty());
        }
    }
}

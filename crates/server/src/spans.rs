//! The span of each request to a program, where spans are sent to a collector: from the head of the request to the end of
//! its answer, whoever ends it.

use axum::extract::Request;
use axum::response::Response;
use http::Method;
use http_body::Body as _;
use serde_json::{Deserializer, Value};
use trace::{RequestHead, RequestSpan, TokenUsage};

use crate::Front;
use crate::observed::{Observer, Passed, observed};

/// What routes of the API do, as OpenTelemetry's conventions for generative AI name it.
const OPERATIONS: &[(&str, &str)] = &[
    ("/v1/chat/completions", "chat"),
    ("/v1/responses", "chat"),
    ("/v1/messages", "chat"),
    ("/v1/completions", "text_completion"),
    ("/v1/embeddings", "embeddings"),
];
/// Bytes at the end of an answer in which its usage is looked for: it is in the last object of a stream, or at the end of
/// the only one.
const TAIL_BYTES: usize = 4096;
/// Bytes of a path that a span has.
const PATH_BYTES: usize = 256;
/// Bytes of a `tracestate` that is handed on: what everybody must be able to.
const TRACESTATE_BYTES: usize = 512;

/// Begins the span of a request, if spans are made. The request takes the span's parent for inferlets with it.
pub(crate) fn begin(front: &Front, mount: &str, request: &mut Request) -> Option<OpenSpan> {
    let telemetry = front.0.telemetry.get()?;
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let mut span = telemetry.request(&RequestHead {
        scheme: if front.0.tls.is_some() { "https" } else { "http" },
        method: method(request.method()),
        route: mount,
        path: cut(request.uri().path()),
        traceparent: header("traceparent"),
        tracestate: header("tracestate").filter(|state| state.len() <= TRACESTATE_BYTES),
    });
    if let Some((_, operation)) = OPERATIONS.iter().find(|(route, _)| *route == mount) {
        span.set_operation(operation);
    }
    let is_head = request.method() == Method::HEAD;
    request.extensions_mut().insert(span.parent());
    Some(OpenSpan { span: Some(span), is_head, tail: Vec::new() })
}

impl OpenSpan {
    /// The head of the answer is there: the span ends with its body.
    pub(crate) fn answered(mut self, response: Response) -> Response {
        let status = response.status();
        self.with(|span| span.set_status(status.as_u16()));
        let left = runtime::bytes_of_body(&response, self.is_head);
        response.map(|body| {
            let mut span = AnsweredSpan { left, open: self };
            span.end_if_out(body.is_end_stream());
            observed(body, span)
        })
    }
}

/// A method by its name; a span has no names that a client has thought of.
fn method(method: &Method) -> &str {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    if known.contains(method) { method.as_str() } else { "_OTHER" }
}

/// The beginning of a path: spans that wait have a bound.
fn cut(path: &str) -> &str {
    &path[..path.floor_char_boundary(PATH_BYTES)]
}

/// A span whose request is not over. Dropped before, its client has left.
pub(crate) struct OpenSpan {
    span: Option<RequestSpan>,
    /// Whether its answer has no body.
    is_head: bool,
    /// The last bytes of the answer, and some before them.
    tail: Vec<u8>,
}

impl OpenSpan {
    fn with(&mut self, tell: impl FnOnce(&mut RequestSpan)) {
        if let Some(span) = &mut self.span {
            tell(span);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        self.tail.extend_from_slice(last);
        // Not for each token.
        if self.tail.len() > 4 * TAIL_BYTES {
            self.tail.drain(..self.tail.len() - TAIL_BYTES);
        }
    }

    /// The answer is out.
    fn end(&mut self) {
        if let Some(mut span) = self.span.take() {
            span.set_usage(usage(&self.tail));
        }
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        self.with(RequestSpan::client_left);
    }
}

/// The usage that the end of an answer states last.
fn usage(tail: &[u8]) -> TokenUsage {
    const NAME: &[u8] = b"\"usage\":";
    let Some(at) = tail.windows(NAME.len()).rposition(|window| window == NAME) else {
        return TokenUsage::default();
    };
    let said = Deserializer::from_slice(&tail[at + NAME.len()..]).into_iter::<Value>().next();
    let Some(Ok(said)) = said else { return TokenUsage::default() };
    let count = |names: [&str; 2]| names.iter().find_map(|name| said.get(name)?.as_u64());
    TokenUsage {
        input: count(["prompt_tokens", "input_tokens"]),
        output: count(["completion_tokens", "output_tokens"]),
    }
}

/// A span that ends with the body of its answer.
struct AnsweredSpan {
    /// Bytes to come, where that is known: nobody asks for an end then.
    left: Option<u64>,
    open: OpenSpan,
}

impl AnsweredSpan {
    fn end_if_out(&mut self, is_out: bool) {
        if self.left == Some(0) || is_out {
            self.open.end();
        }
    }
}

impl Observer for AnsweredSpan {
    fn passed(&mut self, passed: &Passed, is_out: bool) {
        match passed {
            Some(Ok(frame)) => match frame.data_ref() {
                Some(data) => {
                    self.open.keep(data);
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    self.end_if_out(is_out);
                }
                // Trailers are the last frame.
                None => self.open.end(),
            },
            None => self.open.end(),
            Some(Err(_)) => {
                self.open.with(|span| span.set_status(500));
                self.open.end();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_is_what_the_end_of_an_answer_says() {
        let of = |tail: &str| {
            let TokenUsage { input, output } = usage(tail.as_bytes());
            (input, output)
        };
        let stream = "data: {\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\
            \"total_tokens\":7,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n";
        assert_eq!(of(stream), (Some(3), Some(4)));
        assert_eq!(of("{\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}"), (Some(1), Some(2)));
        assert_eq!(of("{\"usage\": {\"prompt_tokens\":5}}"), (Some(5), None));
        for none in [
            "",
            "data: {\"usage\":null}",
            "\"usage\":",
            "\"usage\":{\"prompt",
            "\"usage\":{\"prompt_tokens\":-1}",
        ] {
            assert_eq!(of(none), (None, None), "{none}");
        }
    }

    #[test]
    fn what_a_client_can_make_long_is_cut() {
        assert_eq!((cut("/v1/models"), cut("/é")), ("/v1/models", "/é"));
        assert!(cut(&"é".repeat(1000)).len() <= PATH_BYTES);
        let own = Method::from_bytes(b"BREW").unwrap();
        assert_eq!((method(&Method::GET), method(&own)), ("GET", "_OTHER"));
    }

    #[test]
    fn of_a_long_answer_little_is_kept() {
        let mut open = OpenSpan { span: None, is_head: false, tail: Vec::new() };
        for _ in 0..1000 {
            open.keep(&[b'x'; 1000]);
        }
        open.keep(&vec![b'y'; 1 << 20]);
        assert!(open.tail.len() <= 5 * TAIL_BYTES && open.tail.ends_with(&[b'y'; TAIL_BYTES]));
    }
}

//! Requests as the mock server reads them.

use serde::Deserialize;
use serde_json::Value;

/// Longest head and longest body.
const HEAD_LIMIT: usize = 64 << 10;
const BODY_LIMIT: usize = 256 << 20;

/// A whole request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) id: String,
    pub(super) session: Option<String>,
    pub(super) close: bool,
    pub(super) body: Vec<u8>,
    /// Bytes of it on the wire.
    pub(super) length: usize,
}

/// Reads a request from the front of `bytes`; `None` when it is not whole.
///
/// # Errors
/// Says what is wrong.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Request>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(bytes).map_err(|error| error.to_string())? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if bytes.len() > HEAD_LIMIT => return Err("the head is too long".into()),
        httparse::Status::Partial => return Ok(None),
    };
    let find = |name: &str| {
        let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| String::from_utf8_lossy(header.value).into_owned())
    };
    let length = find("content-length").map_or(Ok(0), |length| length.trim().parse::<usize>());
    let length = length.map_err(|error| format!("content-length: {error}"))?;
    if length > BODY_LIMIT {
        return Err(format!("a body of {length} bytes, expected {BODY_LIMIT} at most"));
    }
    if bytes.len() < head + length {
        return Ok(None);
    }
    Ok(Some(Request {
        method: request.method.unwrap_or_default().into(),
        path: request.path.unwrap_or_default().split('?').next().unwrap_or_default().into(),
        id: find("x-request-id").unwrap_or_default(),
        session: find("x-session-id"),
        close: find("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
        body: bytes[head..head + length].to_vec(),
        length: head + length,
    }))
}

/// What matters of a body.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Generation {
    #[serde(default)]
    pub(super) stream: bool,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    pub(super) prompt: Value,
    #[serde(default)]
    pub(super) messages: Option<Vec<Value>>,
}

impl Generation {
    /// Tokens that are requested.
    pub(super) fn tokens(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// Tokens of the prompt: ids, or words.
    pub(super) fn prompt_tokens(&self) -> u32 {
        let words = |value: &Value| value.as_str().map_or(0, |text| text.split_whitespace().count());
        let count = match (&self.prompt, &self.messages) {
            (Value::Array(ids), _) => ids.len(),
            (_, Some(messages)) => messages.iter().map(|message| words(&message["content"])).sum(),
            (text, None) => words(text),
        };
        count as u32
    }
}

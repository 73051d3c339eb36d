//! What the client may be told.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Address;
use super::api::Api;

/// How long a step may take. `None` for as long as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Connecting, with TLS.
    pub connect: Duration,
    /// From the request to the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// Between two reads of one answer.
    pub stall: Option<Duration>,
    /// The whole request, from when a worker takes it up.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: None,
            stall: None,
            // The bound that the client of vLLM has.
            total: Some(Duration::from_secs(6 * 3600)),
        }
    }
}

/// Users who give up: a share of requests is cancelled after a delay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Abandon {
    /// Share of requests, 0 to 1.
    pub share: f64,
    /// After how long.
    pub after: Duration,
}

/// What the client may be told.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The server.
    pub address: Address,
    /// What is spoken.
    pub api: Api,
    /// The route; `None` takes that of the API.
    pub route: Option<String>,
    /// The model to name.
    pub model: Option<String>,
    /// Sent as `Authorization: Bearer`.
    pub api_key: Option<String>,
    /// Headers of every request.
    pub headers: Vec<(String, String)>,
    /// Members of the body of every request, which replace those of the API.
    pub extra_body: Map<String, Value>,
    /// Whether answers are streamed.
    pub stream: bool,
    /// How long a step may take.
    pub timeouts: Timeouts,
    /// Worker threads; `None` takes one for each core, eight at most.
    pub threads: Option<usize>,
    /// Whether records keep the text of answers.
    pub keep_text: bool,
    /// Whether connections serve more than one request.
    pub reuse_connections: bool,
    /// The header that names a request's session: `session_prefix` and the session's number.
    pub session_header: Option<String>,
    /// In front of the number of a session.
    pub session_prefix: String,
    /// In front of the number of a request, as `x-request-id`.
    pub request_id_prefix: String,
    /// Headers of answers to keep, in small letters.
    pub response_headers: Vec<String>,
    /// Certificates to trust besides those of the system, as a PEM file.
    pub ca_file: Option<PathBuf>,
    /// Whether any certificate will do.
    pub insecure: bool,
    /// Users who give up.
    pub abandon: Option<Abandon>,
    /// Where random choices of the client start.
    pub seed: u64,
}

impl ClientOptions {
    /// Streaming from `address` over `api`, all else as by default.
    pub fn new(address: Address, api: Api) -> Self {
        Self {
            address,
            api,
            route: None,
            model: None,
            api_key: None,
            headers: Vec::new(),
            extra_body: Map::new(),
            stream: true,
            timeouts: Timeouts::default(),
            threads: None,
            keep_text: false,
            reuse_connections: true,
            session_header: None,
            session_prefix: "s-".into(),
            request_id_prefix: "bench-".into(),
            response_headers: Vec::new(),
            ca_file: None,
            insecure: false,
            abandon: None,
            seed: 0,
        }
    }

    /// The key that the environment has: `OPENAI_API_KEY`, else `LLM_API_KEY`.
    pub fn key_of_environment() -> Option<String> {
        let keys = ["OPENAI_API_KEY", "LLM_API_KEY"].into_iter();
        keys.filter_map(|name| std::env::var(name).ok()).find(|key| !key.is_empty())
    }
}

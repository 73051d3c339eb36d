//! One session with a server.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;

use http::{HeaderName, HeaderValue};
use rmcp::model::{ClientCapabilities, ClientConfig, Implementation};
use rmcp::service::{ClientInitializeError, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{Peer, RoleClient, ServiceExt};

use crate::lines::Lines;
use crate::process::Process;
use crate::{Limits, ServerConfig, Transport};

/// Calls to a server over HTTP that are being sent at once; more wait. An answer that comes as a stream counts until it
/// begins.
const REQUESTS: usize = 64;

/// A message may be longer than what it says: JSON escapes a byte in six at most, and has fields beside it.
pub(crate) fn message_bytes(limits: &Limits) -> usize {
    6 * limits.result_bytes + (64 << 10)
}

/// Why there is no session.
pub(crate) struct Refusal {
    /// What programs may know.
    told: String,
    /// What the log says in addition.
    detail: String,
}

impl Refusal {
    /// What programs may know: nothing of what a process wrote, which may have names and paths of the operator's.
    pub(crate) fn told(self) -> String {
        self.told
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.told, self.detail)
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

pub(crate) struct Session {
    service: RunningService<RoleClient, ClientConfig>,
    process: Option<Process>,
}

impl Session {
    /// Connects, and agrees with the server on the protocol.
    pub(crate) async fn connect(config: &ServerConfig) -> Result<Session, Refusal> {
        let client = ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("pie", env!("CARGO_PKG_VERSION")),
        );
        let refused = |error: ClientInitializeError| Refusal {
            told: "it does not take up a session".to_string(),
            detail: chain(&error),
        };
        match &config.transport {
            Transport::Http { url, headers } => {
                let headers = header_map(headers)
                    .map_err(|detail| Refusal { told: "its headers are wrong".to_string(), detail })?;
                // Fails when a provider is already there, which is as good.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let bytes = message_bytes(&config.limits);
                let settings = StreamableHttpClientTransportConfig::with_uri(url.as_str())
                    .custom_headers(headers)
                    .max_concurrent_requests(REQUESTS)
                    .max_sse_event_size(bytes)
                    .max_json_response_size(bytes);
                let transport = StreamableHttpClientTransport::from_config(settings);
                let service = client.serve(transport).await.map_err(refused)?;
                Ok(Session { service, process: None })
            }
            Transport::Stdio { command, environment } => {
                let started = Process::start(&config.name, command, environment);
                let (process, output, input) = started.map_err(|error| Refusal {
                    told: "its process does not start".to_string(),
                    detail: error.to_string(),
                })?;
                let output = Lines::new(output, message_bytes(&config.limits));
                // No line is longer than what `Lines` lets through.
                let transport = AsyncRwTransport::new_client(output, input).with_max_line_length(usize::MAX);
                let service = client.serve(transport).await.map_err(|error| {
                    let mut refusal = refused(error);
                    refusal.detail += &format!("; it wrote: {}", process.last_words());
                    refusal
                })?;
                Ok(Session { service, process: Some(process) })
            }
        }
    }

    /// The other side.
    pub(crate) fn peer(&self) -> &Peer<RoleClient> {
        self.service.peer()
    }

    /// Whether it is of no more use.
    pub(crate) fn has_ended(&self) -> bool {
        self.service.is_closed() || self.peer().is_transport_closed()
    }

    /// Ends it, with its process.
    pub(crate) async fn close(&self) {
        self.service.cancellation_token().cancel();
        if let Some(process) = &self.process {
            process.end().await;
        }
    }
}

fn header_map(headers: &[(String, String)]) -> Result<HashMap<HeaderName, HeaderValue>, String> {
    let header = |(name, value): &(String, String)| {
        let key: HeaderName = name.parse().map_err(|_| format!("`{name}` is no name of a header"))?;
        let mut value =
            HeaderValue::from_str(value).map_err(|_| format!("the value of `{name}` is no text"))?;
        value.set_sensitive(true);
        Ok((key, value))
    };
    headers.iter().map(header).collect()
}

//! Single requests beside the load: models, health, metrics, counts of tokens.

use std::time::Duration;

use super::connection::{self, Connection, Deadlines, ReadError};
use super::coordinator::resolve;
use super::{ClientError, ClientOptions, framing, tls};
use crate::record::{ErrorClass, Failure};

/// An answer in one piece.
#[derive(Debug)]
pub struct Fetched {
    /// HTTP status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

/// Largest body.
const LIMIT: usize = 64 << 20;

/// Sends one request on its own connection and waits for the answer. `route` is below the server's address.
///
/// # Errors
/// The failure, with its class, when there is no answer within `timeout`.
pub fn fetch(
    options: &ClientOptions,
    method: &str,
    route: &str,
    body: Option<&serde_json::Value>,
    timeout: Duration,
) -> Result<Fetched, Failure> {
    let failed = |class, message: String| Failure { class, message };
    let addresses = resolve(options).map_err(|error| failed(ErrorClass::Resolve, error.to_string()))?;
    let tls =
        tls::connector(options).map_err(|error: ClientError| failed(ErrorClass::Tls, error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(ErrorClass::Connect, error.to_string()))?;
    let body = body.map(serde_json::Value::to_string).unwrap_or_default();
    let mut head = format!(
        "{method} {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\naccept: */*\r\n",
        options.address.path(route),
        options.address.authority()
    );
    if let Some(key) = &options.api_key {
        head += &format!("authorization: Bearer {key}\r\n");
    }
    for (name, value) in &options.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        head += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    }
    let request = format!("{head}\r\n{body}");
    let exchange = async {
        let mut connection =
            Connection::open(&addresses, &options.address.host, tls.as_ref(), options.timeouts.connect)
                .await?;
        connection.write(request.as_bytes()).await.map_err(|error| connection::broken(&error, "sending"))?;
        let scratch = connection::scratch();
        let mut deadlines = Deadlines::new(None, None);
        let (mut wire, mut head, mut body) = (Vec::new(), None, Vec::new());
        loop {
            let read = connection.read(&scratch, &mut deadlines).await;
            let length = match read {
                Ok(length) => length,
                Err(ReadError::Io(error)) => return Err(connection::broken(&error, "reading")),
                // There is no deadline but that of the whole.
                Err(ReadError::Late) => 0,
            };
            let scratch = scratch.borrow();
            match &mut head {
                None => {
                    wire.extend_from_slice(&scratch[..length]);
                    head = framing::head(&wire, &[])?;
                    if let Some(head) = &mut head {
                        head.framing.feed(&wire[head.length..], &mut body)?;
                    }
                }
                Some(head) => head.framing.feed(&scratch[..length], &mut body)?,
            }
            match &head {
                Some(head) if head.framing.is_over() || length == 0 => {
                    return Ok(Fetched { status: head.status, body });
                }
                None if length == 0 => {
                    return Err(failed(ErrorClass::Truncated, "closed before the head of the answer".into()));
                }
                _ if body.len() > LIMIT => {
                    return Err(failed(ErrorClass::MalformedHttp, format!("a body of over {LIMIT} bytes")));
                }
                _ => {}
            }
        }
    };
    runtime.block_on(async {
        let late = || failed(ErrorClass::Timeout, format!("no answer from {route} within {timeout:?}"));
        tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| Err(late()))
    })
}

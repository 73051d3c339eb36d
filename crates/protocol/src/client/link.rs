//! Opening a connection: address, TLS, handshake and hello.

use std::sync::Arc;

use http::Uri;
use http::header::{AUTHORIZATION, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::{ClientError, Options};
use crate::socket::{Incoming, Reader, Writer, config, halves};
use crate::{ClientMessage, ErrorCode, Framing, Limits, PATH, ServerMessage, VERSIONS, decode, encode};

/// A connection, encrypted or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection with a session.
pub(super) struct Opened {
    pub(super) reader: Reader<Box<dyn Stream>>,
    pub(super) writer: Writer<Box<dyn Stream>>,
    pub(super) session: String,
    pub(super) resumed: bool,
    pub(super) user: String,
    pub(super) limits: Limits,
}

/// What an address says.
struct Address {
    host: String,
    port: u16,
    is_encrypted: bool,
    /// Of the WebSocket.
    url: String,
}

fn address(server: &str) -> Result<Address, ClientError> {
    let wrong = || ClientError::Address(server.to_string());
    let uri: Uri = server.parse().map_err(|_| wrong())?;
    let is_encrypted = match uri.scheme_str() {
        Some("http" | "ws") => false,
        Some("https" | "wss") => true,
        _ => return Err(wrong()),
    };
    let authority = uri.authority().ok_or_else(wrong)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_string();
    let port = authority.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
    let scheme = if is_encrypted { "wss" } else { "ws" };
    // Of the server; a proxy may have it below a path.
    let path = uri.path().trim_end_matches('/').trim_end_matches(PATH);
    Ok(Address { host, port, is_encrypted, url: format!("{scheme}://{authority}{path}{PATH}") })
}

/// Connects, and opens a session or resumes one.
pub(super) async fn open(options: &Options, resume: Option<&str>) -> Result<Opened, ClientError> {
    let failed = |reason: String| ClientError::Connect { server: options.server.clone(), reason };
    let opened = tokio::time::timeout(options.connect, open_slowly(options, resume)).await;
    opened.unwrap_or_else(|_| Err(failed(format!("nothing came in {:?}", options.connect))))
}

async fn open_slowly(options: &Options, resume: Option<&str>) -> Result<Opened, ClientError> {
    let address = address(&options.server)?;
    let failed = |reason: String| ClientError::Connect { server: options.server.clone(), reason };
    let mut request =
        address.url.as_str().into_client_request().map_err(|error| failed(error.to_string()))?;
    if let Some(key) = &options.key {
        let bearer = HeaderValue::from_str(&format!("Bearer {key}"));
        let bearer = bearer.map_err(|_| ClientError::Key("it has characters that no key has".into()))?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await;
    let tcp = tcp.map_err(|error| failed(error.to_string()))?;
    // Messages are small, and their answers are waited for.
    let _ = tcp.set_nodelay(true);
    let stream: Box<dyn Stream> = match address.is_encrypted {
        false => Box::new(tcp),
        true => {
            let name =
                ServerName::try_from(address.host.clone()).map_err(|error| failed(error.to_string()))?;
            let encrypted = connector().map_err(failed)?.connect(name, tcp).await;
            Box::new(encrypted.map_err(|error| failed(error.to_string()))?)
        }
    };
    let config = Some(config(Limits::EVENT_BYTES as usize));
    let (socket, _) =
        client_async_with_config(request, stream, config).await.map_err(|error| refused(options, error))?;
    greet(options, socket, resume).await
}

/// Opens a session over a stream on which frames come at once, without a handshake.
pub(super) async fn over(options: &Options, stream: Box<dyn Stream>) -> Result<Opened, ClientError> {
    let config = Some(config(Limits::EVENT_BYTES as usize));
    greet(options, WebSocketStream::from_raw_socket(stream, Role::Client, config).await, None).await
}

/// Says hello, and waits for the welcome.
async fn greet(
    options: &Options,
    socket: WebSocketStream<Box<dyn Stream>>,
    resume: Option<&str>,
) -> Result<Opened, ClientError> {
    let failed = |reason: String| ClientError::Connect { server: options.server.clone(), reason };
    let (mut reader, mut writer) = halves(socket);
    let hello = ClientMessage::Hello {
        versions: VERSIONS.to_vec(),
        client: options.client.clone(),
        session: resume.map(str::to_string),
    };
    let lost = |error: crate::socket::SocketError| failed(error.to_string());
    writer.feed(encode(&hello, Framing::MessagePack)).await.map_err(lost)?;
    writer.flush().await.map_err(lost)?;
    loop {
        match reader.next().await.map_err(lost)? {
            Incoming::Frame(frame) => {
                let message = decode(&frame).map_err(|error| ClientError::Protocol(error.to_string()))?;
                return match message {
                    ServerMessage::Welcome { version, session, resumed, user, limits, .. } => {
                        match VERSIONS.contains(&version) {
                            true => Ok(Opened { reader, writer, session, resumed, user, limits }),
                            false => Err(ClientError::Protocol(format!(
                                "it speaks version {version}, expected one of {VERSIONS:?}"
                            ))),
                        }
                    }
                    ServerMessage::Closing { error } if error.code == ErrorCode::KeyRevoked => {
                        Err(ClientError::Key(error.message))
                    }
                    ServerMessage::Closing { error } => Err(ClientError::Refused(error)),
                    other => Err(ClientError::Protocol(format!("expected `welcome`, found {other:?}"))),
                };
            }
            Incoming::Alive => {}
            Incoming::Close(_) => return Err(failed("the server closed it before it said `welcome`".into())),
        }
    }
}

/// Why a handshake did not succeed.
fn refused(options: &Options, error: tokio_tungstenite::tungstenite::Error) -> ClientError {
    use tokio_tungstenite::tungstenite::Error;
    let Error::Http(response) = &error else {
        return ClientError::Connect { server: options.server.clone(), reason: error.to_string() };
    };
    let status = response.status();
    let body = response.body().as_deref().unwrap_or_default();
    let body: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let words = body.as_ref().and_then(|body| body.pointer("/error/message")?.as_str());
    let words = words.map_or_else(|| format!("it answers {status}"), str::to_string);
    match status.as_u16() {
        401 | 403 => ClientError::Key(words),
        _ => ClientError::Connect { server: options.server.clone(), reason: words },
    }
}

/// TLS with the roots of the system.
fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("the system has no root certificates".into());
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config =
        builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_server_and_of_its_sessions() {
        let of = |server: &str| address(server).map(|a| (a.host, a.port, a.is_encrypted, a.url));
        let url = |url: &str| url.to_string();
        assert_eq!(of("http://here:1").unwrap(), (url("here"), 1, false, url("ws://here:1/v1/session")));
        assert_eq!(of("https://here/").unwrap(), (url("here"), 443, true, url("wss://here/v1/session")));
        assert_eq!(
            of("ws://[::1]:8/v1/session").unwrap(),
            (url("::1"), 8, false, url("ws://[::1]:8/v1/session"))
        );
        assert_eq!(of("http://here/below").unwrap().3, "ws://here/below/v1/session");
        for wrong in ["", "here:1", "ftp://here", "http://"] {
            assert_eq!(of(wrong).unwrap_err(), ClientError::Address(wrong.into()), "{wrong}");
        }
    }
}

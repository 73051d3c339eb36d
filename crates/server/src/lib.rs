//! The HTTP front: the server's own [`ROUTES`], and programs that answer requests, each below a path or on a
//! port of its own.
//!
//! [`listen`] takes the port and answers until the process ends; [`Mounts`] has the programs by their paths,
//! and may change meanwhile. A request to a program is streamed both ways, and is given up when its client
//! leaves.

mod mounts;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use runtime::Service;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use mounts::{MountError, Mounts};
pub use routes::{ROUTES, Route};

/// Connections open at once; more wait in the queue of the system.
const CONNECTIONS: usize = 4096;
/// How long a client may take to send the head of a request.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// Before the next attempt when a connection cannot be taken: no more files, for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {host}:{port}: {reason}; if another program runs there, choose another port")]
pub struct ListenError {
    host: String,
    port: u16,
    reason: std::io::Error,
}

/// Listens and answers the [`ROUTES`] and the programs in `mounts`, until the process ends. Returns the
/// address; port 0 takes any that is free.
///
/// # Errors
/// When the address is taken or not this machine's.
pub async fn listen(host: &str, port: u16, mounts: Mounts) -> Result<SocketAddr, ListenError> {
    let (listener, address) = bind(host, port).await?;
    tokio::spawn(accept(listener, routes::server_router(mounts)));
    Ok(address)
}

/// Listens for one program, which answers every path.
///
/// # Errors
/// As for [`listen`].
pub async fn listen_for(host: &str, port: u16, service: Service) -> Result<SocketAddr, ListenError> {
    let (listener, address) = bind(host, port).await?;
    tokio::spawn(accept(listener, routes::program_router(service)));
    Ok(address)
}

async fn bind(host: &str, port: u16) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |reason| ListenError { host: host.to_string(), port, reason };
    let listener = TcpListener::bind((host, port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

async fn accept(listener: TcpListener, router: Router) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Tokens are small messages, and the client waits for each.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
            if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection broke off");
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// The head and body of the answer to a GET.
    async fn get(address: SocketAddr, path: &'static str) -> String {
        let ask = move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    #[tokio::test]
    async fn nothing_is_answered_before_the_server_is_ready() {
        let mounts = Mounts::default();
        let address = listen("127.0.0.1", 0, mounts.clone()).await.unwrap();
        for (path, body) in [("/health", r#"{"status":"starting"}"#), ("/hello", "models are being loaded")] {
            let answer = get(address, path).await;
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
            assert!(answer.contains(body), "{answer}");
        }
        mounts.set_ready();
        let answer = get(address, "/health").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#"{"status":"ok"}"#), "{answer}");
        let unknown = get(address, "/hello").await;
        assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
        for route in ROUTES {
            assert!(unknown.contains(route.path), "`{}` is not in {unknown}", route.path);
            assert!(!get(address, route.path).await.starts_with("HTTP/1.1 404 "), "`{}`", route.path);
        }
    }
}

//! The port of `pie start`: answers `GET /health`, and thereby keeps two engines from being started on one port.
//!
//! One request a connection, no library: the network server with its routes will own this port.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of a request's head that are read at most, and how long its sender may take.
const HEAD_BYTES: usize = 8192;
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens, and answers until the process ends. Returns the address, whose port differs from the one asked for 0.
pub(crate) async fn listen(host: &str, port: u16) -> Result<std::net::SocketAddr> {
    let listener = TcpListener::bind((host, port)).await.with_context(|| {
        format!(
            "cannot listen on {host}:{port}; if another pie runs there, choose another port with `--port`"
        )
    })?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tokio::time::timeout(PATIENCE, answer(stream)));
            }
        }
    });
    Ok(address)
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < HEAD_BYTES {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = match head.starts_with(b"GET /health ") {
        true => ("200 OK", r#"{"status":"ok"}"#),
        false => ("404 Not Found", r#"{"error":"this version answers GET /health only"}"#),
    };
    let length = body.len();
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

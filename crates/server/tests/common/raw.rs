//! A client that speaks the protocol by hand, in JSON, and so can do what no good client does.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
}

impl Raw {
    /// Opens a WebSocket, with further lines of the request's head.
    pub(crate) async fn open(address: SocketAddr, head: &str) -> Raw {
        let (raw, answer) = Raw::handshake(address, head).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        // The example of RFC 6455, section 1.3.
        assert!(answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        raw
    }

    /// Sends the handshake, and gives the head of the answer.
    pub(crate) async fn handshake(address: SocketAddr, head: &str) -> (Raw, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /v1/session HTTP/1.1\r\nhost: {address}\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
            sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{head}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        (Raw { stream }, String::from_utf8(answer).unwrap())
    }

    /// Opens a session: its `welcome`.
    pub(crate) async fn session(address: SocketAddr, head: &str, resume: Option<&str>) -> (Raw, Value) {
        let mut raw = Raw::open(address, head).await;
        let mut hello = serde_json::json!({ "type": "hello", "versions": [1], "client": "by hand" });
        if let Some(session) = resume {
            hello["session"] = session.into();
        }
        raw.send(&hello).await;
        let welcome = raw.receive().await.expect("a welcome");
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        (raw, welcome)
    }

    /// Sends a frame, masked with zeros. Whether the server still takes any.
    pub(crate) async fn frame(&mut self, kind: u8, bytes: &[u8]) -> bool {
        let mut frame = vec![0x80 | kind];
        match bytes.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length @ 126..65536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([0; 4]);
        frame.extend(bytes);
        self.stream.write_all(&frame).await.is_ok()
    }

    pub(crate) async fn send(&mut self, message: &Value) -> bool {
        self.frame(TEXT, message.to_string().as_bytes()).await
    }

    pub(crate) async fn call(&mut self, request: u64, call: Value) -> bool {
        self.send(&serde_json::json!({ "type": "request", "request": request, "call": call })).await
    }

    /// The next frame; none when the connection has ended.
    pub(crate) async fn receive_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let head = self.stream.read_u16().await.ok()?;
        let length = match head & 0x7f {
            126 => u64::from(self.stream.read_u16().await.ok()?),
            127 => self.stream.read_u64().await.ok()?,
            length => u64::from(length),
        };
        let mut bytes = vec![0; length as usize];
        self.stream.read_exact(&mut bytes).await.ok()?;
        Some(((head >> 8) as u8 & 0x0f, bytes))
    }

    /// The next message; none when the connection has ended or is closed.
    pub(crate) async fn receive(&mut self) -> Option<Value> {
        loop {
            match self.receive_frame().await? {
                (TEXT, bytes) => return Some(serde_json::from_slice(&bytes).expect("JSON")),
                (PING, bytes) => drop(self.frame(PONG, &bytes).await),
                (CLOSE, _) => return None,
                other => panic!("a frame that was not expected: {other:?}"),
            }
        }
    }

    /// The answer to a request; events before it are dropped.
    pub(crate) async fn answer(&mut self, request: u64) -> Value {
        loop {
            let message = self.receive().await.expect("an answer");
            if message["request"] == request {
                return message;
            }
        }
    }
}

//! Frames over a WebSocket, for either side.
//!
//! A socket is two halves. What is fed is on its way when it is flushed, or when a buffer of it is full; while the other
//! side takes nothing, feeding waits. Pings are answered by whoever reads.

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, protocol::frame::Utf8Bytes};

use crate::Frame;

/// Bytes of the buffer of each direction.
const BUFFER_BYTES: usize = 16 << 10;

/// What comes over a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A message.
    Frame(Frame),
    /// A ping or a pong: the other side is there.
    Alive,
    /// The other side closes the socket, with a code where it says one.
    Close(Option<u16>),
}

/// Why a socket is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// A frame is longer than may be.
    #[error("a frame of {bytes} bytes is longer than the {limit} that may be")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The most that it may have.
        limit: usize,
    },
    /// What comes is no WebSocket.
    #[error("the WebSocket is broken: {0}")]
    Protocol(String),
    /// The connection is lost.
    #[error("the connection is lost: {0}")]
    Lost(String),
}

impl From<Error> for SocketError {
    fn from(error: Error) -> SocketError {
        match error {
            Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
                SocketError::TooLarge { bytes: size, limit: max_size }
            }
            Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed => {
                SocketError::Lost(error.to_string())
            }
            error => SocketError::Protocol(error.to_string()),
        }
    }
}

/// The half that reads.
pub struct Reader<S>(SplitStream<WebSocketStream<S>>);

/// The half that writes.
pub struct Writer<S>(SplitSink<WebSocketStream<S>, Message>);

/// What a server answers to the key of a client's handshake, in `sec-websocket-accept`.
pub fn accept_key(key: &[u8]) -> String {
    derive_accept_key(key)
}

/// Settings for frames of so many bytes at most.
pub(crate) fn config(limit: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit))
}

pub(crate) fn halves<S: AsyncRead + AsyncWrite + Unpin>(
    stream: WebSocketStream<S>,
) -> (Reader<S>, Writer<S>) {
    let (writer, reader) = stream.split();
    (Reader(reader), Writer(writer))
}

/// The server's end of a connection whose handshake is over. `read` is what has been read of it already.
pub async fn accept<S>(stream: S, read: &[u8], limit: usize) -> (Reader<S>, Writer<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = Some(config(limit));
    halves(WebSocketStream::from_partially_read(stream, read.to_vec(), Role::Server, config).await)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Reader<S> {
    /// What comes next.
    ///
    /// # Errors
    /// When nothing can come any more.
    pub async fn next(&mut self) -> Result<Incoming, SocketError> {
        let Some(message) = self.0.next().await else {
            return Err(SocketError::Lost("the other side has closed it".into()));
        };
        Ok(match message? {
            Message::Text(text) => Incoming::Frame(Frame::Text(text.to_string())),
            Message::Binary(bytes) => Incoming::Frame(Frame::Binary(bytes.to_vec())),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Incoming::Alive,
            Message::Close(frame) => Incoming::Close(frame.map(|frame| frame.code.into())),
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Writer<S> {
    /// Takes a frame, when the other side takes what came before.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn feed(&mut self, frame: Frame) -> Result<(), SocketError> {
        let message = match frame {
            Frame::Binary(bytes) => Message::Binary(bytes.into()),
            Frame::Text(text) => Message::Text(text.into()),
        };
        Ok(self.0.feed(message).await?)
    }

    /// Sends what was fed.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn flush(&mut self) -> Result<(), SocketError> {
        Ok(self.0.flush().await?)
    }

    /// Asks whether the other side is there.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn ping(&mut self) -> Result<(), SocketError> {
        Ok(self.0.send(Message::Ping(Bytes::new())).await?)
    }

    /// Closes the socket, with a code and its reason.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn close(&mut self, code: u16, reason: &str) -> Result<(), SocketError> {
        // A close frame holds 125 bytes, of which two are the code.
        let reason = Utf8Bytes::from(&reason[..reason.floor_char_boundary(120)]);
        let frame = CloseFrame { code: CloseCode::from(code), reason };
        Ok(self.0.send(Message::Close(Some(frame))).await?)
    }
}

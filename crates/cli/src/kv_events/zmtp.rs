//! The publishing side of ZeroMQ: a PUB socket over TCP, ZMTP 3.0 without authentication (RFC 23).
//!
//! ```text
//! both      greeting, 64 bytes: signature, version, mechanism NULL
//! both      command READY with the type of the socket
//! peer      messages 1 topic (subscribe), 0 topic (cancel)
//! here      messages of three frames, to those with a topic that theirs begins with
//! ```
//! So much of the protocol is a page, and the library that has it all would bring thirty crates. As with any PUB socket, a
//! subscriber that does not keep up misses messages, and sees it by their numbers.

use std::collections::HashSet;
use std::io::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::timeout;

/// Subscribers at once; one more is turned away.
const SUBSCRIBERS: usize = 64;
/// Topics of one subscriber, and bytes of each.
const TOPICS: usize = 64;
/// Bytes of a frame that a subscriber sends.
const FRAME: u64 = 1024;
/// In which a subscriber must say who it is, and take a message.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages that wait for a subscriber.
const WAITING: usize = 4096;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// Frames of a message.
pub(super) type Message = [Vec<u8>; 3];

/// The socket. Dropping it ends its connections.
pub(super) struct PubSocket {
    messages: broadcast::Sender<Arc<Message>>,
    listener: tokio::task::JoinHandle<()>,
}

impl Drop for PubSocket {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl PubSocket {
    /// Takes connections from now on.
    pub(super) fn new(listener: TcpListener) -> PubSocket {
        let messages = broadcast::Sender::new(WAITING);
        let sender = messages.clone();
        let listener = tokio::spawn(async move {
            loop {
                let Ok((stream, address)) = listener.accept().await else {
                    // Out of file descriptors, perhaps.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                if sender.receiver_count() >= SUBSCRIBERS {
                    tracing::warn!(%address, "a subscriber of KV events is turned away: there are {SUBSCRIBERS}");
                    continue;
                }
                let messages = sender.subscribe();
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, messages).await {
                        tracing::debug!(%address, %error, "a subscriber of KV events left");
                    }
                });
            }
        });
        PubSocket { messages, listener }
    }

    /// Sends a message to those subscribed to its first frame. Never waits.
    pub(super) fn send(&self, message: Message) {
        // An error says that nobody is there.
        self.messages.send(Arc::new(message)).ok();
    }
}

/// One subscriber, until it leaves or the socket is dropped.
async fn serve(mut stream: TcpStream, messages: broadcast::Receiver<Arc<Message>>) -> Result<()> {
    stream.set_nodelay(true)?;
    timeout(PATIENCE, shake_hands(&mut stream)).await??;
    let (mut reader, mut writer) = stream.into_split();
    let topics = Mutex::new(HashSet::new());
    // Each lives as long as the connection, so neither is cut off in the middle of a frame.
    tokio::select! {
        read = read_topics(&mut reader, &topics) => read,
        written = write_messages(&mut writer, messages, &topics) => written,
    }
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_string())
}

async fn shake_hands(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<()> {
    let mut greeting = [0u8; 64];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    stream.write_all(&greeting).await?;
    let mut theirs = [0u8; 64];
    stream.read_exact(&mut theirs).await?;
    if (theirs[0], theirs[9]) != (0xff, 0x7f) || theirs[10] < 3 {
        return Err(broken("no peer of ZMTP 3"));
    }
    if theirs[12..32] != greeting[12..32] {
        return Err(broken("the mechanism is not NULL"));
    }
    let ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB";
    write_frame(stream, COMMAND, ready).await?;
    let (flags, body) = read_frame(stream).await?;
    let socket_type = body.windows(15).find_map(|window| window.strip_prefix(b"Socket-Type"));
    let is_subscriber = socket_type.is_some_and(|length| {
        let value = body.windows(15).position(|window| window.starts_with(b"Socket-Type")).map(|at| at + 15);
        let kind = value.and_then(|at| body.get(at..at + usize::from(length[3])));
        matches!(kind, Some(b"SUB" | b"XSUB"))
    });
    if flags & COMMAND == 0 || !body.starts_with(b"\x05READY") || !is_subscriber {
        return Err(broken("the peer is no SUB socket"));
    }
    Ok(())
}

async fn read_topics(reader: &mut (impl AsyncRead + Unpin), topics: &Mutex<HashSet<Vec<u8>>>) -> Result<()> {
    loop {
        let (flags, body) = read_frame(reader).await?;
        // Those of ZMTP 3.1 say the same with commands.
        let change = match (flags & COMMAND != 0, &body[..]) {
            (true, body) => match (body.strip_prefix(b"\x09SUBSCRIBE"), body.strip_prefix(b"\x06CANCEL")) {
                (Some(topic), _) => Some((true, topic)),
                (_, Some(topic)) => Some((false, topic)),
                _ => None,
            },
            (false, [1, topic @ ..]) => Some((true, topic)),
            (false, [0, topic @ ..]) => Some((false, topic)),
            (false, _) => None,
        };
        let mut topics = topics.lock().expect("nobody panics with it");
        match change {
            Some((true, topic)) if topics.len() < TOPICS => drop(topics.insert(topic.to_vec())),
            Some((true, _)) => return Err(broken("too many topics")),
            Some((false, topic)) => drop(topics.remove(topic)),
            None => {}
        }
    }
}

async fn write_messages(
    writer: &mut (impl AsyncWrite + Unpin),
    mut messages: broadcast::Receiver<Arc<Message>>,
    topics: &Mutex<HashSet<Vec<u8>>>,
) -> Result<()> {
    loop {
        let message = match messages.recv().await {
            Ok(message) => message,
            // It sees the gap in the numbers.
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return Ok(()),
        };
        let wanted = |topics: &HashSet<Vec<u8>>| topics.iter().any(|topic| message[0].starts_with(topic));
        if !wanted(&topics.lock().expect("nobody panics with it")) {
            continue;
        }
        let write = async {
            for (index, frame) in message.iter().enumerate() {
                write_frame(writer, if index + 1 < message.len() { MORE } else { 0 }, frame).await?;
            }
            writer.flush().await
        };
        timeout(PATIENCE, write).await??;
    }
}

async fn write_frame(writer: &mut (impl AsyncWrite + Unpin), flags: u8, body: &[u8]) -> Result<()> {
    let mut frame = Vec::with_capacity(body.len() + 9);
    match u8::try_from(body.len()) {
        Ok(length) => frame.extend([flags, length]),
        Err(_) => {
            frame.push(flags | LONG);
            frame.extend((body.len() as u64).to_be_bytes());
        }
    }
    frame.extend(body);
    writer.write_all(&frame).await
}

async fn read_frame(reader: &mut (impl AsyncRead + Unpin)) -> Result<(u8, Vec<u8>)> {
    let flags = reader.read_u8().await?;
    let length = if flags & LONG == 0 { reader.read_u8().await?.into() } else { reader.read_u64().await? };
    if length > FRAME {
        return Err(broken("a frame is too long"));
    }
    let mut body = vec![0; length as usize];
    reader.read_exact(&mut body).await?;
    Ok((flags, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer with a socket of a type.
    async fn peer(address: std::net::SocketAddr, kind: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut greeting = [0u8; 64];
        stream.read_exact(&mut greeting).await.unwrap();
        let expected = [&b"\xff\0\0\0\0\0\0\0\0\x7f\x03\0NULL"[..], &[0; 48]].concat();
        assert_eq!(greeting[..], expected[..]);
        stream.write_all(&greeting).await.unwrap();
        let mut ready = vec![0u8; 27];
        stream.read_exact(&mut ready).await.unwrap();
        assert_eq!(ready, b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB");
        let body = [b"\x05READY\x0bSocket-Type\0\0\0", &[kind.len() as u8][..], kind].concat();
        write_frame(&mut stream, COMMAND, &body).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn subscribers_get_the_frames_of_their_topics_and_others_are_turned_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = PubSocket::new(listener);
        let mut subscriber = peer(address, b"SUB").await;
        subscriber.write_all(b"\0\x03\x01kv").await.unwrap();
        let long = vec![7; 300];
        let send = async {
            // Until it has subscribed.
            loop {
                socket.send([b"other".to_vec(), vec![0], vec![0]]);
                socket.send([b"kv-events".to_vec(), vec![1, 2], long.clone()]);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let mut expected = b"\x01\x09kv-events\x01\x02\x01\x02\x02\0\0\0\0\0\0\x01\x2c".to_vec();
        expected.extend(&long);
        let mut frames = vec![0; expected.len()];
        tokio::select! { _ = send => {}, read = subscriber.read_exact(&mut frames) => drop(read.unwrap()) }
        assert_eq!(frames, expected);

        let mut other = peer(address, b"PULL").await;
        assert_eq!(other.read(&mut [0; 8]).await.unwrap_or(0), 0, "no subscriber");
        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(&[b'G'; 64]).await.unwrap();
        let mut rest = Vec::new();
        stranger.read_to_end(&mut rest).await.ok();
        assert_eq!(rest.len(), 64, "a greeting, and no more");
        let mut long = peer(address, b"SUB").await;
        long.write_all(&[LONG, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).await.unwrap();
        assert_eq!(long.read(&mut [0; 8]).await.unwrap_or(0), 0, "a frame of 2^64 bytes");
    }
}

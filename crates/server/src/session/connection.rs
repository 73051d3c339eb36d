//! One connection of a session: what it reads, what it writes, and how it ends.
//!
//! ```text
//! socket ── frames ──> read ── requests ──> calls ──> answers ──┐
//!                                                     outbox ──> write ── frames ──> socket
//!                      logs of inferlets ── have events ────────┘
//! ```
//! The two halves run side by side and know each other by the outbox only. A client that takes nothing stops the half that
//! writes, that the events, and in the end the half that reads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use protocol::socket::{Incoming, Reader, SocketError, Writer};
use protocol::{
    ClientMessage, ErrorCode, Failure, Frame, Framing, Limits, ServerMessage, decode, negotiate, socket,
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::calls::Context;
use super::hub::Hub;
use super::outbox::{Attachment, Next, Outbox, TURN};
use super::state::{Begin, Session};
use crate::auth::Client;
use crate::{Front, Phase};

/// Pings without an answer after which, at the next, a client is dead.
const SILENCES: u32 = 2;
/// Between two looks at whether the key is still there, and whether the server stops.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// For a client to close its side once it was told why.
const LINGER: Duration = Duration::from_secs(1);

/// A client whose handshake is over.
pub(crate) struct Opening {
    /// Who it is, where there are keys.
    pub(crate) client: Option<Arc<Client>>,
    pub(crate) hub: Arc<Hub>,
    /// Whether it is this process.
    pub(crate) is_own: bool,
}

/// How a connection ended.
enum End {
    /// The client is done.
    Closed,
    /// It may come back.
    Lost,
    /// The server ends it, and says why.
    Failed(Failure),
}

impl From<SocketError> for End {
    fn from(error: SocketError) -> End {
        match error {
            SocketError::Lost(_) => End::Lost,
            SocketError::TooLarge { .. } => {
                End::Failed(Failure::new(ErrorCode::MessageTooLarge, error.to_string()))
            }
            SocketError::Protocol(_) => {
                End::Failed(Failure::new(ErrorCode::MalformedMessage, error.to_string()))
            }
        }
    }
}

/// Serves a client until its connection ends. `read` is what has been read of it already.
pub(crate) async fn serve<S>(front: &Front, opening: Opening, stream: S, read: &[u8])
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut reader, mut writer) = socket::accept(stream, read, Limits::MESSAGE_BYTES as usize).await;
    let hello = tokio::time::timeout(front.limits().head, hello(&mut reader)).await;
    let hello = hello.unwrap_or_else(|_| {
        Err((Framing::Json, End::Failed(Failure::new(ErrorCode::Idle, "the client said no `hello` in time"))))
    });
    let (framing, end) = match hello {
        Ok((framing, message)) => match welcome(&opening, framing, message) {
            Ok((session, outbox)) => {
                let end = talk(front, &opening.hub, &session, &outbox, &mut reader, &mut writer).await;
                let is_own = session.disconnect(&outbox);
                let is_over = match &end {
                    End::Closed => true,
                    End::Failed(failure) => failure.code == ErrorCode::KeyRevoked,
                    End::Lost => false,
                };
                if is_own && is_over {
                    opening.hub.end(&session);
                }
                (framing, end)
            }
            Err(failure) => (framing, End::Failed(failure)),
        },
        Err(failed) => failed,
    };
    if let End::Failed(failure) = end {
        // A client that takes nothing is not told.
        let _ = tokio::time::timeout(LINGER, part(&mut reader, &mut writer, framing, failure)).await;
    }
}

/// The first message, and how it is written.
async fn hello<S>(reader: &mut Reader<S>) -> Result<(Framing, ClientMessage), (Framing, End)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match reader.next().await {
            Ok(Incoming::Frame(frame)) => {
                let framing = frame.framing();
                let malformed = |words: String| End::Failed(Failure::new(ErrorCode::MalformedMessage, words));
                return match decode(&frame) {
                    Ok(message @ ClientMessage::Hello { .. }) => Ok((framing, message)),
                    Ok(_) => Err((framing, malformed("the first message is not `hello`".into()))),
                    Err(error) => Err((framing, malformed(error.to_string()))),
                };
            }
            Ok(Incoming::Alive) => {}
            Ok(Incoming::Close(_)) => return Err((Framing::Json, End::Lost)),
            Err(error) => return Err((Framing::Json, error.into())),
        }
    }
}

/// Opens or resumes the session, and answers the hello.
fn welcome(
    opening: &Opening,
    framing: Framing,
    message: ClientMessage,
) -> Result<(Arc<Session>, Arc<Outbox>), Failure> {
    let Opening { client, hub, is_own } = opening;
    let ClientMessage::Hello { versions, client: name, session } = message else {
        unreachable!("`hello` gives nothing else")
    };
    let Some(version) = negotiate(&versions) else {
        let known = protocol::VERSIONS;
        let words = format!("the client speaks versions {versions:?}, the server {known:?}");
        return Err(Failure::new(ErrorCode::UnsupportedVersion, words));
    };
    let user = client.as_ref().map_or(hub.options.user.as_str(), |client| client.key.grant.user());
    let outbox = Arc::new(Outbox::new(framing));
    let (session, resumed) = hub.open(user, client.clone(), session.as_deref(), *is_own, &outbox)?;
    let name: String = name.chars().take(64).filter(|c| !c.is_control()).collect();
    tracing::debug!(session = session.id, user, client = name, resumed, "a session is open");
    let welcome = ServerMessage::Welcome {
        version,
        server: concat!("pie/", env!("CARGO_PKG_VERSION")).to_string(),
        session: session.id.clone(),
        resumed,
        user: user.to_string(),
        limits: Limits {
            message_bytes: Limits::MESSAGE_BYTES,
            requests: Limits::REQUESTS,
            request_bytes: Limits::REQUEST_BYTES,
            chunk_bytes: Limits::CHUNK_BYTES,
            lease_ms: hub.options.lease.as_millis() as u64,
            ping_ms: hub.options.ping.as_millis() as u64,
        },
    };
    outbox.answer(&welcome, None);
    Ok((session, outbox))
}

/// Reads and writes until one of them ends.
async fn talk<S>(
    front: &Front,
    hub: &Arc<Hub>,
    session: &Arc<Session>,
    outbox: &Arc<Outbox>,
    reader: &mut Reader<S>,
    writer: &mut Writer<S>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let context = Context { front: front.clone(), hub: hub.clone(), session: session.clone() };
    tokio::select! {
        end = read(&context, outbox, reader) => end,
        end = write(outbox, writer) => end,
        failure = watch(front, session) => End::Failed(failure),
    }
}

async fn read<S>(context: &Context, outbox: &Arc<Outbox>, reader: &mut Reader<S>) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut silences = 0;
    loop {
        outbox.has_room().await;
        let incoming = match tokio::time::timeout(context.hub.options.ping, reader.next()).await {
            Ok(Ok(incoming)) => incoming,
            Ok(Err(error)) => return error.into(),
            Err(_) if silences < SILENCES => {
                silences += 1;
                outbox.ping();
                continue;
            }
            Err(_) => {
                let time = context.hub.options.ping * (SILENCES + 1);
                return End::Failed(Failure::new(
                    ErrorCode::Idle,
                    format!("nothing was heard of the client for {time:?}"),
                ));
            }
        };
        silences = 0;
        match incoming {
            Incoming::Frame(frame) => {
                if let Err(failure) = take(context, outbox, &frame).await {
                    return End::Failed(failure);
                }
            }
            Incoming::Alive => {}
            Incoming::Close(Some(1000 | 1001)) => return End::Closed,
            Incoming::Close(_) => return End::Lost,
        }
    }
}

/// Takes in one message.
async fn take(context: &Context, outbox: &Arc<Outbox>, frame: &Frame) -> Result<(), Failure> {
    let malformed = |words: String| Failure::new(ErrorCode::MalformedMessage, words);
    match decode(frame).map_err(|error| malformed(error.to_string()))? {
        ClientMessage::Hello { .. } => Err(malformed("a second `hello` on one connection".into())),
        ClientMessage::Acknowledge { inferlet, number } => {
            if let Some(hosted) = context.session.acknowledge(&inferlet, number) {
                hosted.log.detach(&context.session.id);
                if hosted.log.is_over() || hosted.log.readers() == 0 {
                    context.hub.remove(&hosted);
                }
            }
            Ok(())
        }
        ClientMessage::Request { request, call } => {
            let begin = context.session.begin(request, frame.bytes(), call.is_idempotent(), outbox);
            if matches!(begin, Begin::Do) {
                context.call(request, call).await;
            }
            Ok(())
        }
    }
}

async fn write<S>(outbox: &Arc<Outbox>, writer: &mut Writer<S>) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let written = match outbox.next() {
            Next::Frame(frame) => writer.feed(frame).await,
            Next::Events(attachment) => write_events(outbox, writer, &attachment).await,
            Next::Ping => writer.ping().await,
            Next::Close(failure) => return End::Failed(failure),
            Next::Nothing => match writer.flush().await {
                Ok(()) => {
                    outbox.woken().await;
                    Ok(())
                }
                failed => failed,
            },
        };
        if let Err(error) = written {
            return error.into();
        }
    }
}

/// Writes the events of one inferlet that are there; if there are many, those of others come before the rest.
async fn write_events<S>(
    outbox: &Outbox,
    writer: &mut Writer<S>,
    attachment: &Arc<Attachment>,
) -> Result<(), SocketError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hosted = &attachment.hosted;
    for _ in 0..TURN {
        let number = attachment.next.load(Ordering::Acquire);
        let Some(event) = hosted.log.event(number).filter(|_| !attachment.is_stopped()) else {
            return Ok(());
        };
        let message = ServerMessage::Event { inferlet: hosted.id.clone(), number, event: (*event).clone() };
        attachment.next.store(number + 1, Ordering::Release);
        writer.feed(outbox.encode(&message)).await?;
    }
    outbox.ready(attachment);
    Ok(())
}

/// Returns when the server has to end the session.
async fn watch(front: &Front, session: &Session) -> Failure {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        if session.client().is_some_and(|client| client.key.grant.is_revoked()) {
            return Failure::new(ErrorCode::KeyRevoked, "the key was taken away, or its time is over");
        }
        if matches!(front.phase(), Phase::Stopping) && session.is_quiet() {
            return Failure::new(ErrorCode::Stopping, "the server is stopping");
        }
    }
}

/// Tells the client why the connection ends, closes it, and waits for the client to do so.
async fn part<S>(reader: &mut Reader<S>, writer: &mut Writer<S>, framing: Framing, failure: Failure)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let code = match failure.code {
        ErrorCode::MalformedMessage | ErrorCode::UnsupportedVersion => 1002,
        ErrorCode::MessageTooLarge => 1009,
        ErrorCode::Stopping => 1001,
        _ => 1008,
    };
    let message = ServerMessage::Closing { error: failure };
    let closed = async {
        writer.feed(protocol::encode(&message, framing)).await?;
        writer.close(code, "see the last message").await
    };
    if closed.await.is_ok() {
        while !matches!(reader.next().await, Ok(Incoming::Close(_)) | Err(_)) {}
    }
}

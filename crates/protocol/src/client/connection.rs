//! The task of a session: it owns the connection, and makes another when that is lost.
//!
//! Reading never waits for writing: frames to be written go to a task of their own. They are bounded by what the server
//! allows to be without an answer; calls beyond wait here. Events are not bounded here but by their log at the server, which
//! sends no more than it keeps until they are acknowledged, and that is done when they are taken.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::inferlet::Events;
use super::link::{Opened, Stream, open};
use super::{ClientError, Options};
use crate::socket::{Incoming, Reader, Writer};
use crate::{
    Answer, Call, ClientMessage, ErrorCode, Event, Failure, Frame, Framing, Numbered, ServerMessage, decode,
    encode,
};

/// Pings without an answer after which, at the next, the server is dead.
const SILENCES: u32 = 2;
/// Between two attempts to connect anew: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MOST: Duration = Duration::from_secs(1);
/// For the server to close its side.
const CLOSES: Duration = Duration::from_secs(1);

type AnswerTo<T> = oneshot::Sender<Result<T, ClientError>>;

/// What handles ask of the task.
pub(super) enum Command {
    Call {
        call: Call,
        answer: AnswerTo<Answer>,
    },
    /// A call that gives an inferlet.
    Watch {
        call: Call,
        answer: AnswerTo<Begun>,
    },
    Detach {
        inferlet: String,
        answer: AnswerTo<Answer>,
    },
    Acknowledge {
        inferlet: String,
        number: u64,
    },
    /// Nobody takes the events of an inferlet any more.
    Discard {
        inferlet: String,
    },
    Interrupt,
    Close {
        told: oneshot::Sender<()>,
    },
}

/// An inferlet whose events begin.
pub(super) struct Begun {
    pub(super) id: String,
    /// The number of its first event.
    pub(super) next: u64,
    /// The number of the last event that was there.
    pub(super) last: u64,
    pub(super) events: Events,
}

/// Who waits for an answer.
enum Waiter {
    Call(AnswerTo<Answer>),
    Watch(AnswerTo<Begun>),
    Detach(String, AnswerTo<Answer>),
    /// This task, which goes on with an inferlet behind a lost connection.
    Again(String),
}

struct Pending {
    frame: Frame,
    waiter: Waiter,
}

struct Watched {
    /// The number of the last event that came.
    received: u64,
    /// The number that was acknowledged last.
    acknowledged: u64,
    events: mpsc::UnboundedSender<Result<Numbered, ClientError>>,
    is_discarded: bool,
    is_over: bool,
}

enum Outgoing {
    Frame(Frame),
    Ping,
    Close(oneshot::Sender<()>),
}

/// How a connection ended.
enum End {
    Lost,
    /// The session is over.
    Over(ClientError),
    Closed,
}

/// The state of a session on this side.
struct Session {
    options: Options,
    opened: Facts,
    /// The number of the last request.
    request: u64,
    pending: BTreeMap<u64, Pending>,
    pending_bytes: u64,
    /// Calls for which the server has no room yet.
    waiting: VecDeque<(Call, Waiter)>,
    watched: HashMap<String, Watched>,
    /// Acknowledgements of last events that may have been lost: the number of the last request before each, the inferlet,
    /// and the number of the event. An answer to a later request says that the server has it.
    finished: VecDeque<(u64, String, u64)>,
}

struct Facts {
    session: String,
    limits: crate::Limits,
}

/// Runs a session until it is over.
pub(super) async fn run(options: Options, opened: Opened, mut commands: mpsc::UnboundedReceiver<Command>) {
    let Opened { reader, writer, session, limits, .. } = opened;
    let (mut reader, mut writer) = (reader, writer);
    let mut state = Session {
        options,
        opened: Facts { session, limits },
        request: 0,
        pending: BTreeMap::new(),
        pending_bytes: 0,
        waiting: VecDeque::new(),
        watched: HashMap::new(),
        finished: VecDeque::new(),
    };
    let error = loop {
        match state.talk(reader, writer, &mut commands).await {
            End::Closed => return,
            End::Over(error) => break error,
            End::Lost => match state.resume(&commands).await {
                Ok(opened) => (reader, writer) = (opened.reader, opened.writer),
                Err(error) => break error,
            },
        }
    };
    state.fail(&error, commands).await;
}

impl Session {
    /// Works on one connection until it ends.
    async fn talk(
        &mut self,
        mut reader: Reader<Box<dyn Stream>>,
        writer: Writer<Box<dyn Stream>>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
    ) -> End {
        let (out, frames) = mpsc::unbounded_channel();
        let writing = tokio::spawn(write(writer, frames));
        self.send_again(&out);
        let end = loop {
            let ping = Duration::from_millis(self.opened.limits.ping_ms.max(1));
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Interrupt) => break End::Lost,
                    Some(Command::Close { told }) => {
                        close(&out, &mut reader).await;
                        // Whoever closes it may not wait for that.
                        let _ = told.send(());
                        break End::Closed;
                    }
                    None => {
                        close(&out, &mut reader).await;
                        break End::Closed;
                    }
                    Some(command) => self.command(command, &out),
                },
                incoming = heard(&mut reader, ping, &out) => match incoming {
                    None | Some(Incoming::Close(_)) => break End::Lost,
                    Some(Incoming::Alive) => {}
                    Some(Incoming::Frame(frame)) => match decode(&frame) {
                        Ok(message) => if let Err(end) = self.take(message, &out) {
                            break end;
                        },
                        Err(error) => break End::Over(ClientError::Protocol(error.to_string())),
                    },
                },
            }
        };
        writing.abort();
        end
    }

    fn command(&mut self, command: Command, out: &mpsc::UnboundedSender<Outgoing>) {
        match command {
            Command::Call { call, answer } => self.call(call, Waiter::Call(answer), out),
            Command::Watch { call, answer } => self.call(call, Waiter::Watch(answer), out),
            Command::Detach { inferlet, answer } => {
                let call = Call::Detach { inferlet: inferlet.clone() };
                self.call(call, Waiter::Detach(inferlet, answer), out);
            }
            Command::Acknowledge { inferlet, number } => self.acknowledge(inferlet, number, out),
            Command::Discard { inferlet } => {
                if let Some(watched) = self.watched.get_mut(&inferlet) {
                    watched.is_discarded = true;
                    let received = watched.received;
                    self.acknowledge(inferlet, received, out);
                }
            }
            // Told apart by whoever calls this.
            Command::Interrupt | Command::Close { .. } => {}
        }
    }

    /// Makes a call as soon as the server has room for it.
    fn call(&mut self, call: Call, waiter: Waiter, out: &mpsc::UnboundedSender<Outgoing>) {
        self.waiting.push_back((call, waiter));
        self.send_waiting(out);
    }

    fn send_waiting(&mut self, out: &mpsc::UnboundedSender<Outgoing>) {
        let limits = &self.opened.limits;
        while self.pending.len() < limits.requests as usize
            && (self.pending.is_empty() || self.pending_bytes < limits.request_bytes)
            && let Some((call, waiter)) = self.waiting.pop_front()
        {
            let request = self.request + 1;
            let frame = encode(&ClientMessage::Request { request, call }, Framing::MessagePack);
            let bytes = frame.bytes() as u64;
            if bytes > limits.message_bytes {
                let most = limits.message_bytes;
                let words = format!("a message of {bytes} bytes is longer than the server takes, {most}");
                waiter.fail(&ClientError::Refused(Failure::new(ErrorCode::MessageTooLarge, words)));
                continue;
            }
            if !self.pending.is_empty() && self.pending_bytes + bytes > limits.request_bytes {
                // Encoded again when there is room: it is rare.
                let Ok(ClientMessage::Request { call, .. }) = decode(&frame) else { continue };
                self.waiting.push_front((call, waiter));
                return;
            }
            self.request = request;
            self.pending_bytes += bytes;
            // A connection that is lost is noticed by whoever reads it.
            let _ = out.send(Outgoing::Frame(frame.clone()));
            self.pending.insert(request, Pending { frame, waiter });
        }
    }

    /// Behind a lost connection: all requests without an answer, and the inferlets whose events go on.
    fn send_again(&mut self, out: &mpsc::UnboundedSender<Outgoing>) {
        self.pending.retain(|_, pending| {
            let is_again = matches!(pending.waiter, Waiter::Again(_));
            if !is_again {
                let _ = out.send(Outgoing::Frame(pending.frame.clone()));
            }
            !is_again
        });
        self.waiting.retain(|(_, waiter)| !matches!(waiter, Waiter::Again(_)));
        self.pending_bytes = self.pending.values().map(|pending| pending.frame.bytes() as u64).sum();
        let attached = self.watched.iter().filter(|(_, watched)| !watched.is_over);
        let attached: Vec<(String, u64)> =
            attached.map(|(id, watched)| (id.clone(), watched.received)).collect();
        for (inferlet, received) in attached {
            let call = Call::Attach { inferlet: inferlet.clone(), after: Some(received) };
            self.call(call, Waiter::Again(inferlet), out);
        }
        // The last acknowledgement of each may have been lost, and the program may wait for it.
        let watched = self.watched.iter().filter(|(_, watched)| watched.acknowledged > 0);
        let watched = watched.map(|(id, watched)| (id, watched.acknowledged));
        let finished = self.finished.iter().map(|(_, id, number)| (id, *number));
        for (inferlet, number) in watched.chain(finished) {
            let message = ClientMessage::Acknowledge { inferlet: inferlet.clone(), number };
            let _ = out.send(Outgoing::Frame(encode(&message, Framing::MessagePack)));
        }
    }

    fn acknowledge(&mut self, inferlet: String, number: u64, out: &mpsc::UnboundedSender<Outgoing>) {
        if let Some(watched) = self.watched.get_mut(&inferlet) {
            watched.acknowledged = number;
            if watched.is_over && number == watched.received {
                self.watched.remove(&inferlet);
                self.finished.push_back((self.request, inferlet.clone(), number));
            }
        }
        let message = ClientMessage::Acknowledge { inferlet, number };
        let _ = out.send(Outgoing::Frame(encode(&message, Framing::MessagePack)));
    }

    /// Takes in a message of the server.
    fn take(&mut self, message: ServerMessage, out: &mpsc::UnboundedSender<Outgoing>) -> Result<(), End> {
        match message {
            ServerMessage::Answer { request, answer } => self.answered(request, Ok(answer), out),
            ServerMessage::Error { request, error } => {
                self.answered(request, Err(ClientError::Refused(error)), out);
            }
            ServerMessage::Event { inferlet, number, event } => {
                return self.event(inferlet, number, event, out);
            }
            ServerMessage::Closing { error } => {
                return Err(match error.code {
                    ErrorCode::TakenOver | ErrorCode::KeyRevoked | ErrorCode::Stopping => {
                        End::Over(ClientError::Lost(error.message))
                    }
                    ErrorCode::Idle => End::Lost,
                    _ => End::Over(ClientError::Refused(error)),
                });
            }
            ServerMessage::Welcome { .. } => {
                return Err(End::Over(ClientError::Protocol("a second `welcome`".into())));
            }
        }
        Ok(())
    }

    fn answered(
        &mut self,
        request: u64,
        result: Result<Answer, ClientError>,
        out: &mpsc::UnboundedSender<Outgoing>,
    ) {
        let Some(Pending { frame, waiter }) = self.pending.remove(&request) else { return };
        while self.finished.front().is_some_and(|(before, ..)| *before < request) {
            self.finished.pop_front();
        }
        self.pending_bytes -= frame.bytes() as u64;
        match waiter {
            Waiter::Call(answer) => drop(answer.send(result)),
            Waiter::Detach(inferlet, answer) => {
                self.watched.remove(&inferlet);
                drop(answer.send(result));
            }
            Waiter::Watch(answer) => {
                let begun = result.and_then(|answer| match answer {
                    Answer::Launched { inferlet } => Ok((inferlet, 1, 0)),
                    Answer::Attached { inferlet, next, last } => Ok((inferlet, next, last)),
                    other => Err(super::unexpected(&other)),
                });
                let begun = begun.map(|(id, next, last)| {
                    let (queue, events) = mpsc::unbounded_channel();
                    let watched = Watched {
                        received: next.saturating_sub(1),
                        acknowledged: 0,
                        events: queue,
                        is_discarded: false,
                        is_over: false,
                    };
                    self.watched.insert(id.clone(), watched);
                    Begun { id, next, last, events }
                });
                // Whoever gave up waiting drops the queue, and what comes is dropped.
                let _ = answer.send(begun);
            }
            Waiter::Again(inferlet) => {
                if let Err(error) = result
                    && let Some(watched) = self.watched.remove(&inferlet)
                {
                    let _ = watched.events.send(Err(error));
                }
            }
        }
        self.send_waiting(out);
    }

    fn event(
        &mut self,
        inferlet: String,
        number: u64,
        event: Event,
        out: &mpsc::UnboundedSender<Outgoing>,
    ) -> Result<(), End> {
        let Some(watched) = self.watched.get_mut(&inferlet) else { return Ok(()) };
        if number <= watched.received {
            return Ok(());
        }
        if number > watched.received + 1 {
            let expected = watched.received + 1;
            let words = format!("event {number} of inferlet {inferlet} came, expected {expected}");
            return Err(End::Over(ClientError::Protocol(words)));
        }
        watched.received = number;
        watched.is_over = event.is_last();
        let is_taken = watched.events.send(Ok(Numbered { number, event })).is_ok() && !watched.is_discarded;
        if !is_taken {
            self.acknowledge(inferlet, number, out);
        }
        Ok(())
    }

    /// Connects anew, until that succeeds or the session cannot be resumed.
    async fn resume(&self, commands: &mpsc::UnboundedReceiver<Command>) -> Result<Opened, ClientError> {
        let lease = Duration::from_millis(self.opened.limits.lease_ms);
        let patience = self.options.patience.min(lease);
        if patience.is_zero() {
            return Err(ClientError::Lost("the connection is lost, and there is no other".into()));
        }
        let (since, mut pause) = (Instant::now(), RETRY_FIRST);
        loop {
            match open(&self.options, Some(&self.opened.session)).await {
                Ok(opened) if opened.resumed => return Ok(opened),
                Ok(_) => return Err(ClientError::Lost("the server does not know it any more".into())),
                Err(error @ (ClientError::Key(_) | ClientError::Refused(_) | ClientError::Protocol(_))) => {
                    return Err(error);
                }
                Err(error) if since.elapsed() + pause > patience || commands.is_closed() => {
                    return Err(ClientError::Lost(error.to_string()));
                }
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(RETRY_MOST);
        }
    }

    /// Tells everybody who waits, and everybody who comes, that the session is over.
    async fn fail(self, error: &ClientError, mut commands: mpsc::UnboundedReceiver<Command>) {
        for watched in self.watched.into_values().filter(|watched| !watched.is_over) {
            let _ = watched.events.send(Err(error.clone()));
        }
        let waiting = self.waiting.into_iter().map(|(_, waiter)| waiter);
        for waiter in self.pending.into_values().map(|pending| pending.waiter).chain(waiting) {
            waiter.fail(error);
        }
        while let Some(command) = commands.recv().await {
            match command {
                Command::Call { answer, .. } | Command::Detach { answer, .. } => {
                    drop(answer.send(Err(error.clone())))
                }
                Command::Watch { answer, .. } => drop(answer.send(Err(error.clone()))),
                Command::Close { .. } => return,
                Command::Acknowledge { .. } | Command::Discard { .. } | Command::Interrupt => {}
            }
        }
    }
}

impl Waiter {
    fn fail(self, error: &ClientError) {
        let error = error.clone();
        match self {
            Waiter::Call(answer) | Waiter::Detach(_, answer) => drop(answer.send(Err(error))),
            Waiter::Watch(answer) => drop(answer.send(Err(error))),
            Waiter::Again(_) => {}
        }
    }
}

/// What comes next; none when nothing can come any more, or the server is dead.
async fn heard(
    reader: &mut Reader<Box<dyn Stream>>,
    ping: Duration,
    out: &mpsc::UnboundedSender<Outgoing>,
) -> Option<Incoming> {
    for _ in 0..=SILENCES {
        if let Ok(incoming) = tokio::time::timeout(ping, reader.next()).await {
            return incoming.ok();
        }
        let _ = out.send(Outgoing::Ping);
    }
    None
}

async fn write(mut writer: Writer<Box<dyn Stream>>, mut frames: mpsc::UnboundedReceiver<Outgoing>) {
    while let Some(next) = frames.recv().await {
        let mut next = Some(next);
        while let Some(outgoing) = next {
            let written = match outgoing {
                Outgoing::Frame(frame) => writer.feed(frame).await,
                Outgoing::Ping => writer.ping().await,
                Outgoing::Close(done) => {
                    // It is closed either way.
                    let _ = writer.close(1000, "").await;
                    let _ = done.send(());
                    return;
                }
            };
            if written.is_err() {
                return;
            }
            next = frames.try_recv().ok();
        }
        if writer.flush().await.is_err() {
            return;
        }
    }
}

/// Closes the connection in good order.
async fn close(out: &mpsc::UnboundedSender<Outgoing>, reader: &mut Reader<Box<dyn Stream>>) {
    let (done, told) = oneshot::channel();
    let closed = async {
        if out.send(Outgoing::Close(done)).is_ok() && told.await.is_ok() {
            while !matches!(reader.next().await, Ok(Incoming::Close(_)) | Err(_)) {}
        }
    };
    // A server that does not answer learns it when the connection is gone.
    let _ = tokio::time::timeout(CLOSES, closed).await;
}

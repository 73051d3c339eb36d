//! An inferlet that a session is attached to.

use tokio::sync::{mpsc, oneshot};

use super::connection::{Begun, Command};
use super::{Client, ClientError, over};
use crate::{Call, Data, Event, Failure, Input, Numbered, Signal};

/// What comes of an inferlet: its events, or why none come any more.
pub(super) type Events = mpsc::UnboundedReceiver<Result<Numbered, ClientError>>;

/// Events and bytes after which what was taken is acknowledged.
const ACKNOWLEDGED_EVENTS: u64 = 64;
const ACKNOWLEDGED_BYTES: usize = 64 << 10;

/// An inferlet. Dropping it leaves the inferlet running: its events are then dropped, and it ends with the session.
pub struct Inferlet {
    client: Client,
    id: String,
    events: Events,
    /// When it was attached: the number of its first event, and of the last that was there.
    next: u64,
    there: u64,
    /// Whether its events are only looked at.
    is_peeked: bool,
    last: Option<Result<String, Failure>>,
    /// The number of the event that was taken last.
    number: u64,
    /// Events taken and their bytes since they were last acknowledged.
    taken: (u64, usize),
}

impl Inferlet {
    pub(super) fn new(client: Client, Begun { id, next, last, events }: Begun) -> Inferlet {
        Inferlet {
            client,
            id,
            events,
            next,
            there: last,
            is_peeked: false,
            last: None,
            number: 0,
            taken: (0, 0),
        }
    }

    /// Takes the events that were there when it was attached, without acknowledging them.
    pub(super) async fn peek(&mut self) -> Result<Vec<Numbered>, ClientError> {
        self.is_peeked = true;
        let (next, last) = (self.next, self.there);
        let mut all = Vec::new();
        for _ in next..=last {
            all.push(self.events.recv().await.ok_or_else(over)??);
        }
        Ok(all)
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The next event with its number; none when its last event was taken.
    ///
    /// # Errors
    /// When the session is over, or events are gone.
    pub async fn next(&mut self) -> Result<Option<Numbered>, ClientError> {
        if self.last.is_some() {
            return Ok(None);
        }
        if self.events.is_empty() {
            // The program may wait for room in its log.
            self.acknowledge()?;
        }
        let Some(next) = self.events.recv().await else { return Err(over()) };
        let next = next?;
        self.last = match &next.event {
            Event::Result { text } => Some(Ok(text.clone())),
            Event::Error { error } => Some(Err(error.clone())),
            _ => None,
        };
        self.taken = (self.taken.0 + 1, self.taken.1 + next.event.bytes());
        let is_much = self.taken.0 >= ACKNOWLEDGED_EVENTS || self.taken.1 >= ACKNOWLEDGED_BYTES;
        self.number = next.number;
        if is_much || self.last.is_some() {
            self.acknowledge()?;
        }
        Ok(Some(next))
    }

    /// Acknowledges what was taken, if there is something.
    fn acknowledge(&mut self) -> Result<(), ClientError> {
        if self.taken == (0, 0) {
            return Ok(());
        }
        self.taken = (0, 0);
        self.client.command(Command::Acknowledge { inferlet: self.id.clone(), number: self.number })
    }

    /// Takes all events until it has ended, and drops them. Its result, or why it has none.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn outcome(&mut self) -> Result<Result<String, Failure>, ClientError> {
        while self.next().await?.is_some() {}
        self.last.clone().ok_or_else(over)
    }

    /// A handle that sends it messages, for another task.
    pub fn sender(&self) -> Sender {
        Sender { client: self.client.clone(), id: self.id.clone() }
    }

    /// Sends a text; waits until it is in the inferlet's queue.
    ///
    /// # Errors
    /// When it has ended, or the session is over.
    pub async fn send(&self, text: impl Into<String>) -> Result<(), ClientError> {
        self.sender().send(text).await
    }

    /// Sends bytes; waits until they are in the inferlet's queue.
    ///
    /// # Errors
    /// As [`Inferlet::send`].
    pub async fn send_blob(&self, bytes: Vec<u8>) -> Result<(), ClientError> {
        self.sender().send_blob(bytes).await
    }

    /// Ends it, whatever it does. Its last event then says so.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn terminate(&self) -> Result<(), ClientError> {
        self.client.terminate(&self.id).await
    }

    /// Takes no more events, and lets it go on when the session ends.
    ///
    /// # Errors
    /// When it has ended and its last event was taken, or the session is over.
    pub async fn detach(self) -> Result<(), ClientError> {
        let (answer, answered) = oneshot::channel();
        self.client.command(Command::Detach { inferlet: self.id.clone(), answer })?;
        answered.await.map_err(|_| over())?.map(drop)
    }
}

impl Drop for Inferlet {
    fn drop(&mut self) {
        if self.last.is_none() && !self.is_peeked {
            // When the session is over, nothing comes that could be dropped.
            let _ = self.client.command(Command::Discard { inferlet: self.id.clone() });
        }
    }
}

/// Sends messages to an inferlet.
#[derive(Clone)]
pub struct Sender {
    client: Client,
    id: String,
}

impl Sender {
    /// Sends a text; waits until it is in the inferlet's queue.
    ///
    /// # Errors
    /// When it has ended, or the session is over.
    pub async fn send(&self, text: impl Into<String>) -> Result<(), ClientError> {
        self.message(Input::Text { text: text.into() }).await
    }

    /// Sends bytes; waits until they are in the inferlet's queue.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn send_blob(&self, bytes: Vec<u8>) -> Result<(), ClientError> {
        self.message(Input::Blob { data: Data(bytes) }).await
    }

    /// No more messages come: the program's `receive` says closed behind those that were sent.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn end(&self) -> Result<(), ClientError> {
        self.client.done(Call::Signal { inferlet: self.id.clone(), signal: Signal::EndOfInput }).await
    }

    async fn message(&self, message: Input) -> Result<(), ClientError> {
        self.client.done(Call::Send { inferlet: self.id.clone(), message }).await
    }
}

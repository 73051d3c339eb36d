//! The messages of both sides.

use serde::{Deserialize, Serialize};

use crate::{Answer, Call, Event, Failure, Limits};

/// What a client says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ClientMessage {
    /// The first message.
    Hello {
        /// Versions of the protocol that the client speaks.
        versions: Vec<u32>,
        /// Who the client is, for the server's log.
        client: String,
        /// The session to resume.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
    },
    /// Something to do.
    Request {
        /// Its number: higher than that of every request of this session before it.
        request: u64,
        /// What to do.
        call: Call,
    },
    /// All events of an inferlet up to a number have been taken, and are not needed again. It has no answer.
    Acknowledge {
        /// The inferlet.
        inferlet: String,
        /// The number of the last event that was taken.
        number: u64,
    },
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ServerMessage {
    /// The answer to `hello`.
    Welcome {
        /// The version that both speak from now on.
        version: u32,
        /// Name and version of the server.
        server: String,
        /// The session, with which it can be resumed.
        session: String,
        /// Whether it is the session that was to be resumed.
        resumed: bool,
        /// Whose inferlets the session sees.
        user: String,
        /// What the client may take.
        limits: Limits,
    },
    /// A request is done.
    Answer {
        /// Its number.
        request: u64,
        /// What came of it.
        answer: Answer,
    },
    /// A request is refused, or failed.
    Error {
        /// Its number.
        request: u64,
        /// Why.
        error: Failure,
    },
    /// An event of an inferlet to which the session is attached.
    Event {
        /// The inferlet.
        inferlet: String,
        /// The number of the event in the log of the inferlet: 1, 2, 3 and so on.
        number: u64,
        /// The event.
        event: Event,
    },
    /// The last message before the server ends the connection by itself.
    Closing {
        /// Why.
        error: Failure,
    },
}

//! What a client may take of a session.

use serde::{Deserialize, Serialize};

/// What a server allows, as `welcome` says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of a frame that the client sends.
    pub message_bytes: u64,
    /// Requests without an answer.
    pub requests: u32,
    /// Bytes of all requests without an answer.
    pub request_bytes: u64,
    /// Bytes of a part of an upload.
    pub chunk_bytes: u64,
    /// Milliseconds for which a session without a connection can be resumed.
    pub lease_ms: u64,
    /// Milliseconds after which a peer that says nothing is asked (a WebSocket ping); one that says nothing for three
    /// times as long is taken for dead.
    pub ping_ms: u64,
}

impl Limits {
    /// Bytes of a frame that a client may send.
    pub const MESSAGE_BYTES: u64 = 4 << 20;
    /// Requests without an answer: a whole swarm can be launched at once.
    pub const REQUESTS: u32 = 1024;
    /// Bytes of requests without an answer.
    pub const REQUEST_BYTES: u64 = 16 << 20;
    /// Bytes of a part of an upload. In base64 it is a third larger, and fits a message.
    pub const CHUNK_BYTES: u64 = 1 << 20;
    /// Bytes of a frame that a server sends: an event is as large as the program made it, whose calls take 64 MiB at
    /// most, in base64.
    pub const EVENT_BYTES: u64 = 96 << 20;
}

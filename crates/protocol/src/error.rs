//! What goes wrong, with a code that does not change.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares the codes once, with the text that the documents have of each.
macro_rules! codes {
    ($($(#[doc = $about:literal])+ $name:ident = $text:literal,)*) => {
        /// What went wrong, for programs. Codes are never renamed; a code that this crate does not know is
        /// [`ErrorCode::Unknown`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[doc = $about])+ #[serde(rename = $text)] $name,)*
            /// A code of a newer version.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl ErrorCode {
            /// All codes but [`ErrorCode::Unknown`], each with what it means.
            pub const TABLE: &[(ErrorCode, &str)] = &[$((ErrorCode::$name, concat!($($about),+)),)*];

            /// The code, as messages have it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(ErrorCode::$name => $text,)*
                    ErrorCode::Unknown => "unknown",
                }
            }
        }
    };
}

codes! {
    /// The session cannot go on: a frame is no message of this protocol, or comes at the wrong time.
    MalformedMessage = "malformed-message",
    /// A frame or the requests without an answer are larger than the `limits` of `welcome`.
    MessageTooLarge = "message-too-large",
    /// More requests without an answer than the `limits` of `welcome`.
    TooManyRequests = "too-many-requests",
    /// No version of the protocol is known to both.
    UnsupportedVersion = "unsupported-version",
    /// The number of a request is not higher than those before, and its answer is no longer kept.
    StaleRequest = "stale-request",
    /// Another connection has resumed the session.
    TakenOver = "taken-over",
    /// The client said nothing, or took nothing, for too long.
    Idle = "idle",
    /// The server is stopping: nothing new begins.
    Stopping = "stopping",
    /// The key was taken away, or its time is over.
    KeyRevoked = "key-revoked",
    /// The key's requests or tokens of this minute are used up; `retry_after_ms` says when there are more.
    RateLimited = "rate-limited",
    /// The key does not allow it.
    Forbidden = "forbidden",
    /// The key does not allow the program.
    ProgramNotAllowed = "program-not-allowed",
    /// There is no such program.
    UnknownProgram = "unknown-program",
    /// The bytes are no program for this server, or the program has no `run`.
    InvalidProgram = "invalid-program",
    /// The bytes that came have another hash than was said. Nothing is kept of them.
    HashMismatch = "hash-mismatch",
    /// A part of an upload does not begin where the one before ended; the message says where that is.
    WrongOffset = "wrong-offset",
    /// The user has a program of this name and version, with another hash.
    NameTaken = "name-taken",
    /// An argument is wrong.
    InvalidArgument = "invalid-argument",
    /// A limit of the user, of the key or of the server is reached.
    LimitExceeded = "limit-exceeded",
    /// No inferlet of this id that the user may see.
    UnknownInferlet = "unknown-inferlet",
    /// The inferlet has no log: it answers an HTTP request, another program launched it, or it has just ended.
    NotAttachable = "not-attachable",
    /// The session is not attached to the inferlet.
    NotAttached = "not-attached",
    /// Events after this number were given out and acknowledged, and are no longer kept.
    EventsGone = "events-gone",
    /// The inferlet has ended, or takes no more messages.
    Ended = "ended",
    /// The program returned an error; the message is the program's own.
    ProgramFailed = "program-failed",
    /// The inferlet used up its processor time.
    CpuLimit = "cpu-limit",
    /// The inferlet did not survive that memory was refused.
    MemoryLimit = "memory-limit",
    /// The program did what WebAssembly does not allow, or panicked.
    Trapped = "trapped",
    /// Somebody ended the inferlet.
    Killed = "killed",
    /// The server failed.
    Internal = "internal",
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What it is, for programs.
    pub code: ErrorCode,
    /// What it is, for people: what was found, what was expected, the way out.
    pub message: String,
    /// Milliseconds after which it may be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// An error of a code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), retry_after_ms: None }
    }
}

//! What inferlets say.

use serde::{Deserialize, Serialize};

use crate::{Data, Failure};

/// One event of an inferlet. All streams of one inferlet have one order, that in which the program wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Event {
    /// A text that the program sent.
    Text {
        /// The text.
        text: String,
    },
    /// Bytes that the program sent.
    Blob {
        /// The bytes.
        data: Data,
    },
    /// Written to stdout: a part of the stream, not a line.
    Stdout {
        /// The bytes.
        data: Data,
    },
    /// Written to stderr: a part of the stream, not a line.
    Stderr {
        /// The bytes.
        data: Data,
    },
    /// It has ended with a result. The last event.
    Result {
        /// What the program returned.
        text: String,
    },
    /// It has ended without a result. The last event.
    Error {
        /// Why.
        error: Failure,
    },
}

impl Event {
    /// Whether none follows.
    pub fn is_last(&self) -> bool {
        matches!(self, Event::Result { .. } | Event::Error { .. })
    }

    /// Bytes of what it carries.
    pub fn bytes(&self) -> usize {
        match self {
            Event::Text { text } | Event::Result { text } => text.len(),
            Event::Blob { data } | Event::Stdout { data } | Event::Stderr { data } => data.0.len(),
            Event::Error { error } => error.message.len(),
        }
    }
}

/// An event with its number in the log of its inferlet: 1, 2, 3 and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The number.
    pub number: u64,
    /// The event.
    pub event: Event,
}

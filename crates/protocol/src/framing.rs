//! From messages to frames and back.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How deep a message may be nested: the deepest, `stats`, has eight levels.
const DEPTH: usize = 32;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// In binary frames.
    MessagePack,
    /// In text frames.
    Json,
}

/// What a WebSocket carries as one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// MessagePack.
    Binary(Vec<u8>),
    /// JSON.
    Text(String),
}

impl Frame {
    /// How it is written.
    pub fn framing(&self) -> Framing {
        match self {
            Frame::Binary(_) => Framing::MessagePack,
            Frame::Text(_) => Framing::Json,
        }
    }

    /// Its length.
    pub fn bytes(&self) -> usize {
        match self {
            Frame::Binary(bytes) => bytes.len(),
            Frame::Text(text) => text.len(),
        }
    }
}

/// Why a frame is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A text frame.
    #[error("a text frame is no message of this protocol: {0}")]
    Json(String),
    /// A binary frame.
    #[error("a binary frame is no message of this protocol: {0}")]
    MessagePack(String),
    /// A binary frame with more behind the message.
    #[error("a binary frame has {0} bytes behind its message; expected one message in a frame")]
    Trailing(usize),
}

/// Writes a message. Its structures are maps with names, in both encodings.
///
/// # Panics
/// Never for the messages of this crate: all of them have names for keys and no numbers that JSON lacks.
pub fn encode<M: Serialize>(message: &M, framing: Framing) -> Frame {
    match framing {
        Framing::MessagePack => Frame::Binary(rmp_serde::to_vec_named(message).expect("memory takes all")),
        Framing::Json => Frame::Text(serde_json::to_string(message).expect("memory takes all")),
    }
}

/// Reads a message. Fields that are not known are left out, so that a later version can add some.
///
/// # Errors
/// When the frame is no message, or has more than one.
pub fn decode<M: DeserializeOwned>(frame: &Frame) -> Result<M, DecodeError> {
    match frame {
        Frame::Text(text) => serde_json::from_str(text).map_err(|error| DecodeError::Json(error.to_string())),
        Frame::Binary(bytes) => {
            let mut rest = bytes.as_slice();
            let mut reader = rmp_serde::Deserializer::new(&mut rest);
            reader.set_max_depth(DEPTH);
            let message = M::deserialize(&mut reader);
            let message = message.map_err(|error| DecodeError::MessagePack(error.to_string()))?;
            match rest.len() {
                0 => Ok(message),
                behind => Err(DecodeError::Trailing(behind)),
            }
        }
    }
}

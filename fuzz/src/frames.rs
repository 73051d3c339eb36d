//! Frames of sessions.

use protocol::{ClientMessage, Frame, Framing, ServerMessage, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A frame, as a server reads it and as a client does: what is a message is the same one when it is written again, in
/// either way.
pub fn frame(bytes: &[u8]) {
    let mut frames = vec![Frame::Binary(bytes.to_vec())];
    frames.extend(String::from_utf8(bytes.to_vec()).ok().map(Frame::Text));
    for frame in frames {
        again::<ClientMessage>(&frame);
        again::<ServerMessage>(&frame);
    }
}

fn again<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(frame: &Frame) {
    let Ok(message) = decode::<M>(frame) else { return };
    for framing in [Framing::MessagePack, Framing::Json] {
        let written = encode(&message, framing);
        match decode::<M>(&written) {
            Ok(read) => assert_eq!(read, message, "{written:?}"),
            Err(error) => panic!("{message:?} was written as {written:?}, which is not read: {error}"),
        }
    }
}

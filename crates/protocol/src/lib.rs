//! The wire protocol of sessions: what a client and a server say to each other at `/v1/session`.
//!
//! A session is a WebSocket whose binary frames are MessagePack and whose text frames are the same messages as JSON. The
//! client says [`ClientMessage::Hello`], the server [`ServerMessage::Welcome`]; then the client sends calls, each with a
//! number that its answer has too, and the server sends the events of inferlets, each with a number in its log.
//! `docs/protocol.md` has every message with an example.
//!
//! This crate has the messages and their encodings and knows neither programs nor the server. With the feature `socket`
//! it has messages over a WebSocket, for both sides; with `client` the Rust client.

mod call;
#[cfg(feature = "client")]
pub mod client;
mod data;
mod error;
mod event;
mod framing;
mod limits;
mod message;
#[cfg(feature = "socket")]
pub mod socket;

pub use call::{
    Answer, Call, ContextPages, DescribedProgram, InferletPages, Input, ListedInferlet, ListedProgram,
    ModelPages, ProgramSource, Signal, State, Usage, Used,
};
pub use data::Data;
pub use error::{ErrorCode, Failure};
pub use event::{Event, Numbered};
pub use framing::{DecodeError, Frame, Framing, decode, encode};
pub use inferlet_manifest::{Kind, Manifest, Parameter};
pub use limits::Limits;
pub use message::{ClientMessage, ServerMessage};

/// Where a server answers sessions.
pub const PATH: &str = "/v1/session";

/// The subprotocol of the WebSocket, for clients that offer some: pages in a browser, which give their key as another one.
pub const SUBPROTOCOL: &str = "pie.v1";

/// Versions that this crate speaks, the best last.
pub const VERSIONS: &[u32] = &[1];

/// The version to speak with a client: the highest that both know; none when there is none.
pub fn negotiate(offered: &[u32]) -> Option<u32> {
    VERSIONS.iter().rev().find(|version| offered.contains(version)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_of_both_is_spoken() {
        assert_eq!(negotiate(&[1]), Some(1));
        assert_eq!(negotiate(&[7, 1, 0]), Some(1));
        assert_eq!(negotiate(&[2, 0]), None);
        assert_eq!(negotiate(&[]), None);
    }
}

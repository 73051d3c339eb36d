//! Every message of `docs/protocol.md` is one, in both encodings, and every message is on that page.
//!
//! The bytes of the examples are in `golden.txt`, a line each: the example, and its MessagePack in hexadecimal digits. A
//! line that changes is another protocol. For a new example, the test says which line to add.

use std::collections::BTreeSet;

use protocol::{
    Answer, Call, ClientMessage, DecodeError, ErrorCode, Event, Failure, Frame, Framing, Input,
    ServerMessage, Signal, decode, encode,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Whose a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Client,
    Server,
}

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");
    std::fs::read_to_string(path).expect("docs/protocol.md")
}

/// The examples of the page.
fn examples() -> Vec<(Side, String)> {
    let page = page();
    let blocks = page.split("```").skip(1).step_by(2);
    let examples = blocks.filter_map(|block| {
        let (head, text) = block.split_once('\n')?;
        let side = match head {
            "json client" => Side::Client,
            "json server" => Side::Server,
            _ => return None,
        };
        Some((side, text.trim().to_string()))
    });
    examples.collect()
}

/// A message in both encodings and back: its MessagePack.
fn round_trip<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &str) -> Vec<u8> {
    let message: M = decode(&Frame::Text(text.to_string())).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(encode(&message, Framing::Json), Frame::Text(text.to_string()), "as it was written");
    let packed = encode(&message, Framing::MessagePack);
    let unpacked: M = decode(&packed).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(unpacked, message);
    let Frame::Binary(bytes) = packed else { panic!("MessagePack is binary") };
    bytes
}

fn packed(side: Side, text: &str) -> Vec<u8> {
    match side {
        Side::Client => round_trip::<ClientMessage>(text),
        Side::Server => round_trip::<ServerMessage>(text),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_examples_of_the_page_have_their_golden_bytes() {
    let golden = include_str!("golden.txt");
    let mut missing = Vec::new();
    for (side, text) in examples() {
        let line = format!("{text}\t{}", hex(&packed(side, &text)));
        if !golden.lines().any(|known| known == line) {
            missing.push(line);
        }
    }
    assert!(missing.is_empty(), "not in golden.txt:\n{}", missing.join("\n"));
    assert!(golden.lines().count() > 30);
}

/// The names of the variants of a message, which serde says when it finds another one.
fn variants<M: DeserializeOwned>() -> BTreeSet<String> {
    let error = serde_json::from_str::<M>(r#"{"type":"no such"}"#).err().expect("there is none").to_string();
    let (_, names) = error.split_once(", expected ").unwrap_or_else(|| panic!("{error}"));
    names.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

/// The values of `type` at a path of the examples.
fn shown(side: Side, path: &[&str]) -> BTreeSet<String> {
    let examples = examples().into_iter().filter(|(of, _)| *of == side);
    let types = examples.filter_map(|(_, text)| {
        let mut value: &Value = &serde_json::from_str(&text).expect("JSON");
        for name in path {
            value = value.get(name)?;
        }
        Some(value.get("type")?.as_str()?.to_string())
    });
    types.collect()
}

#[test]
fn every_message_is_on_the_page() {
    assert_eq!(shown(Side::Client, &[]), variants::<ClientMessage>());
    assert_eq!(shown(Side::Server, &[]), variants::<ServerMessage>());
    assert_eq!(shown(Side::Client, &["call"]), variants::<Call>());
    assert_eq!(shown(Side::Client, &["call", "message"]), variants::<Input>());
    assert_eq!(shown(Side::Server, &["answer"]), variants::<Answer>());
    assert_eq!(shown(Side::Server, &["event"]), variants::<Event>());
}

#[test]
fn the_page_has_the_codes_of_errors_with_their_meaning() {
    let page = page();
    for (code, about) in ErrorCode::TABLE {
        let row = format!("| `{code}` | {} |", about.trim());
        assert!(page.lines().any(|line| line == row), "docs/protocol.md has no row\n{row}");
        let text = serde_json::to_string(code).unwrap();
        assert_eq!(text, format!("\"{code}\""));
    }
    let rows = page.lines().skip_while(|line| *line != "| code | what |").skip(2);
    assert_eq!(rows.count(), ErrorCode::TABLE.len());
    assert_eq!(serde_json::from_str::<ErrorCode>("\"of-next-year\"").unwrap(), ErrorCode::Unknown);
}

#[test]
fn bytes_are_binary_or_base64_and_any_byte_comes_through() {
    let all: Vec<u8> = (0..=255).collect();
    let message = ClientMessage::Request {
        request: u64::MAX,
        call: Call::Send { inferlet: "i".into(), message: Input::Blob { data: all.clone().into() } },
    };
    for framing in [Framing::Json, Framing::MessagePack] {
        assert_eq!(decode::<ClientMessage>(&encode(&message, framing)).as_ref(), Ok(&message), "{framing:?}");
    }
    let Frame::Binary(bytes) = encode(&message, Framing::MessagePack) else { panic!() };
    assert!(bytes.windows(256).any(|part| part == all), "binary as it is");
    for text in [r#""?""#, "[1,2]", "7", r#""AA""#] {
        let text = format!(
            r#"{{"type":"request","request":1,"call":{{"type":"send","inferlet":"i","message":{{"type":"blob","data":{text}}}}}}}"#
        );
        assert!(
            matches!(decode::<ClientMessage>(&Frame::Text(text.clone())), Err(DecodeError::Json(_))),
            "{text}"
        );
    }
}

#[test]
fn what_a_later_version_adds_is_left_out() {
    let text = r#"{"type":"request","request":3,"call":{"type":"signal","inferlet":"i","signal":"end-of-input","new":[1]},"more":{}}"#;
    let call = Call::Signal { inferlet: "i".into(), signal: Signal::EndOfInput };
    assert_eq!(decode(&Frame::Text(text.into())), Ok(ClientMessage::Request { request: 3, call }));
}

#[test]
fn what_is_no_message_is_refused_in_words() {
    let text = |text: &str| decode::<ClientMessage>(&Frame::Text(text.into())).unwrap_err().to_string();
    assert!(text("").contains("a text frame is no message"));
    assert!(text(r#"{"type":"bye"}"#).contains("`hello`"), "{}", text(r#"{"type":"bye"}"#));
    assert!(text(r#"{"type":"request","request":-1,"call":{"type":"list"}}"#).contains("-1"));
    assert!(text(r#"{"type":"request","call":{"type":"list"}}"#).contains("request"));
    let list = ClientMessage::Request { request: 1, call: Call::List };
    let Frame::Binary(mut bytes) = encode(&list, Framing::MessagePack) else { panic!() };
    bytes.extend([0xc0, 0xc0]);
    assert_eq!(decode::<ClientMessage>(&Frame::Binary(bytes)), Err(DecodeError::Trailing(2)));
    // A length without its bytes takes no memory, and depth no stack.
    for bytes in [vec![0xdf, 0xff, 0xff, 0xff, 0xff], vec![0xc6, 0xff, 0xff, 0xff, 0xff], vec![0x91; 100_000]]
    {
        let refused = decode::<ClientMessage>(&Frame::Binary(bytes));
        assert!(matches!(refused, Err(DecodeError::MessagePack(_))), "{refused:?}");
    }
    let deep = format!(r#"{{"type":"request","request":1,"call":{}"#, "[".repeat(100_000));
    assert!(decode::<ClientMessage>(&Frame::Text(deep)).is_err());
}

/// Cut anywhere and changed anywhere, a frame is a message or an error.
#[test]
fn damaged_frames_are_errors_and_no_panics() {
    for (side, text) in examples() {
        let bytes = packed(side, &text);
        for at in 0..bytes.len() {
            assert!(decode::<ClientMessage>(&Frame::Binary(bytes[..at].to_vec())).is_err(), "{text} to {at}");
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                let _ = decode::<ClientMessage>(&Frame::Binary(changed.clone()));
                let _ = decode::<ServerMessage>(&Frame::Binary(changed));
            }
        }
    }
}

#[test]
fn an_error_keeps_its_code_and_its_words() {
    let failure = Failure::new(ErrorCode::HashMismatch, "found a, expected b");
    let message = ServerMessage::Error { request: 1, error: failure.clone() };
    let Ok(ServerMessage::Error { error, .. }) = decode(&encode(&message, Framing::MessagePack)) else {
        panic!()
    };
    assert_eq!((error.to_string().as_str(), error), ("found a, expected b", failure));
}

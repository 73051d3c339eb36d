//! HTTP/1.1 as it is read: the head of an answer, and where its body ends.

use crate::record::{ErrorClass, Failure};

/// Longest head of an answer.
const HEAD_LIMIT: usize = 64 << 10;
/// Most headers of an answer.
const HEADERS_LIMIT: usize = 100;

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Its bytes, with the empty line.
    pub(super) length: usize,
    pub(super) framing: Framing,
    /// Whether the connection may serve another request.
    pub(super) keep_alive: bool,
    /// Whether the body is a stream of events.
    pub(super) is_events: bool,
    /// Headers that were asked for.
    pub(super) kept: Vec<(String, String)>,
}

/// Where a body ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With the empty chunk.
    Chunked(Chunked),
    /// When the connection is closed.
    UntilClose,
}

/// Where a reader of chunks is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// Within the line with a chunk's size: what was read of the size, whether its digits are over.
    Size(u64, bool),
    /// So many bytes of a chunk are to come, and the line end after it.
    Data(u64),
    /// Within the line end after a chunk.
    DataEnd,
    /// Within the lines after the empty chunk: whether this line is empty so far.
    Trailer(bool),
    /// Over.
    End,
}

pub(super) fn malformed(message: impl Into<String>) -> Failure {
    Failure { class: ErrorClass::MalformedHttp, message: message.into() }
}

/// Reads a head; `None` when it is not complete yet. `keep` names headers to keep, in small letters.
pub(super) fn head(bytes: &[u8], keep: &[String]) -> Result<Option<Head>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_LIMIT];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_LIMIT => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(malformed(format!("a head of over {HEAD_LIMIT} bytes"))),
        Err(error) => {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
            return Err(malformed(format!("found `{}` ({error}), expected HTTP/1.1", start.escape_debug())));
        }
    };
    let status = response.code.unwrap_or(0);
    let mut keep_alive = response.version == Some(1);
    let (mut framing, mut is_events, mut kept) = (Framing::UntilClose, false, Vec::new());
    for header in response.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let name = header.name.to_ascii_lowercase();
        match name.as_str() {
            "content-length" if framing == Framing::UntilClose => {
                let length =
                    value.trim().parse().map_err(|_| malformed(format!("content-length `{value}`")))?;
                framing = Framing::Length(length);
            }
            "transfer-encoding" if value.to_ascii_lowercase().contains("chunked") => {
                framing = Framing::Chunked(Chunked::Size(0, false));
            }
            "connection" => keep_alive = !value.eq_ignore_ascii_case("close") && keep_alive,
            "content-type" => is_events = value.trim_start().starts_with("text/event-stream"),
            _ => {}
        }
        if keep.contains(&name) {
            kept.push((name, value.into_owned()));
        }
    }
    if matches!(status, 204 | 304) {
        framing = Framing::Length(0);
    }
    keep_alive &= framing != Framing::UntilClose;
    Ok(Some(Head { status, length, framing, keep_alive, is_events, kept }))
}

impl Framing {
    /// Whether the body is over.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunked::End))
    }

    /// Appends what `input` has of the body to `body`.
    pub(super) fn feed(&mut self, mut input: &[u8], body: &mut Vec<u8>) -> Result<(), Failure> {
        match self {
            Self::UntilClose => body.extend_from_slice(input),
            Self::Length(left) => {
                let take = (*left).min(input.len() as u64);
                body.extend_from_slice(&input[..take as usize]);
                *left -= take;
            }
            Self::Chunked(state) => {
                while !input.is_empty() && *state != Chunked::End {
                    input = state.step(input, body)?;
                }
            }
        }
        Ok(())
    }
}

impl Chunked {
    /// Takes a part of `input` and returns the rest.
    fn step<'a>(&mut self, input: &'a [u8], body: &mut Vec<u8>) -> Result<&'a [u8], Failure> {
        let byte = input[0];
        match self {
            Self::Data(left) => {
                let take = (*left).min(input.len() as u64);
                body.extend_from_slice(&input[..take as usize]);
                *left -= take;
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                return Ok(&input[take as usize..]);
            }
            Self::Size(size, over) => match (byte, (byte as char).to_digit(16)) {
                (b'\n', _) => *self = if *size == 0 { Self::Trailer(true) } else { Self::Data(*size) },
                (_, Some(digit)) if !*over && *size >> 56 == 0 => *size = *size << 4 | u64::from(digit),
                (b'\r' | b';' | b' ', _) => *over = true,
                _ if *over => {}
                _ => return Err(malformed(format!("found byte {byte} in the size of a chunk"))),
            },
            Self::DataEnd => match byte {
                b'\n' => *self = Self::Size(0, false),
                b'\r' => {}
                _ => return Err(malformed(format!("found byte {byte} after a chunk, expected a line end"))),
            },
            Self::Trailer(empty) => match byte {
                b'\n' if *empty => *self = Self::End,
                b'\n' => *empty = true,
                b'\r' => {}
                _ => *empty = false,
            },
            Self::End => {}
        }
        Ok(&input[1..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_the_same_however_it_is_cut() {
        let wire = b"5;x=y\r\nhello\r\n0a\r\n, world!!!\r\n0\r\nt: 1\r\n\r\n";
        for cut in 1..wire.len() {
            let (mut framing, mut body) = (Framing::Chunked(Chunked::Size(0, false)), Vec::new());
            for piece in wire.chunks(cut) {
                framing.feed(piece, &mut body).unwrap();
            }
            assert_eq!(body, b"hello, world!!!", "in pieces of {cut}");
            assert!(framing.is_over());
        }
        let mut framing = Framing::Chunked(Chunked::Size(0, false));
        assert!(framing.feed(b"zz\r\n", &mut Vec::new()).is_err());
    }

    #[test]
    fn heads_say_where_the_body_ends() {
        let read = |text: &str| head(text.as_bytes(), &["x-a".into()]).unwrap().unwrap();
        let one = read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello");
        assert_eq!((one.status, one.framing, one.keep_alive), (200, Framing::Length(5), true));
        assert_eq!(one.kept, [("x-a".to_string(), "b".to_string())]);
        let two = read(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream; x\r\n\r\n",
        );
        assert!(two.is_events && matches!(two.framing, Framing::Chunked(_)));
        assert!(!read("HTTP/1.1 200 OK\r\n\r\n").keep_alive);
        assert!(head(b"HTTP/1.1 200", &[]).unwrap().is_none());
        assert_eq!(head(b"SSH-2.0-x\r\n", &[]).unwrap_err().class, ErrorClass::MalformedHttp);
    }
}

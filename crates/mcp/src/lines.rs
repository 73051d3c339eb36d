//! Lines of a process, each a message, and none longer than a limit.
//!
//! A longer line is not held: what has come of it ends there, which is no JSON and is passed over, and the rest is
//! dropped. The call that it answers is told so at once, by an error in its place: for that, the id of the message is
//! looked for in all of the line, since it may come behind the result.
//!
//! ```text
//! {"jsonrpc":"2.0","id":3,"result":{"content":[{"text":"0000 … 0000"}]}}
//! {"jsonrpc":"2.0","id":3,"result":{"con                                     up to the limit
//! {"jsonrpc":"2.0","id":3,"error":{"code":-32099,"message":"…"}}             in its place
//! ```

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The code of the error in place of a message that is too long: one of those that servers define, and none that is
/// known to do.
pub(crate) const TOO_LONG: i32 = -32099;

/// Bytes of an id, and of a key before it.
const ID_BYTES: usize = 64;
/// Bytes that are read at once.
const CHUNK: usize = 8192;

/// Reads lines of at most so many bytes.
pub(crate) struct Lines<R> {
    inner: R,
    limit: usize,
    /// What is to be passed on, from `passed` on.
    pending: Vec<u8>,
    passed: usize,
    /// Of the line that is being read: its bytes so far.
    length: usize,
    /// Whether an error has been put in its place.
    is_answered: bool,
    id: IdScanner,
}

impl<R> Lines<R> {
    pub(crate) fn new(inner: R, limit: usize) -> Lines<R> {
        let id = IdScanner::default();
        Lines { inner, limit, pending: Vec::new(), passed: 0, length: 0, is_answered: false, id }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let was_too_long = self.length > self.limit;
            if *byte == b'\n' {
                if !was_too_long {
                    self.pending.push(b'\n');
                } else if !self.is_answered {
                    tracing::warn!("a message of {} bytes that answers nothing is dropped", self.length);
                }
                (self.length, self.is_answered, self.id) = (0, false, IdScanner::default());
                continue;
            }
            self.length += 1;
            self.id.read(*byte);
            if self.length <= self.limit {
                self.pending.push(*byte);
                continue;
            }
            if !was_too_long {
                self.pending.push(b'\n');
            }
            if let Some(id) = self.id.found.take().filter(|_| !self.is_answered) {
                let message = format!("a message has more than {} bytes", self.limit);
                let error = format!("\"error\":{{\"code\":{TOO_LONG},\"message\":\"{message}\"}}");
                self.pending.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
                self.pending.extend(id);
                self.pending.extend(format!(",{error}}}\n").into_bytes());
                self.is_answered = true;
            }
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Lines<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.passed == self.pending.len() {
            self.pending.clear();
            self.passed = 0;
            let mut chunk = [0; CHUNK];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.take(read.filled());
        }
        let some = buffer.remaining().min(self.pending.len() - self.passed);
        buffer.put_slice(&self.pending[self.passed..self.passed + some]);
        self.passed += some;
        Poll::Ready(Ok(()))
    }
}

/// Finds the id of a message, the value of the key `id` of its object, while it is read, and holds nothing else of it.
#[derive(Default)]
struct IdScanner {
    depth: usize,
    in_text: bool,
    is_escaped: bool,
    /// The key or scalar of the outermost object that is being read.
    scalar: Vec<u8>,
    /// Whether it is the value of the key `id`.
    is_id: bool,
    found: Option<Vec<u8>>,
}

impl IdScanner {
    fn read(&mut self, byte: u8) {
        if self.in_text {
            self.put(byte);
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_text = true;
                self.put(byte);
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.end();
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 => {
                self.is_id = self.scalar == b"\"id\"";
                self.scalar.clear();
            }
            b',' => self.end(),
            _ if byte.is_ascii_whitespace() => {}
            _ => self.put(byte),
        }
    }

    fn put(&mut self, byte: u8) {
        // One byte more says that it is too long.
        if self.depth == 1 && self.scalar.len() <= ID_BYTES {
            self.scalar.push(byte);
        }
    }

    fn end(&mut self) {
        if self.depth != 1 {
            return;
        }
        if self.is_id && (1..=ID_BYTES).contains(&self.scalar.len()) {
            self.found = Some(std::mem::take(&mut self.scalar));
        }
        self.is_id = false;
        self.scalar.clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn read(text: &str, limit: usize) -> String {
        let mut read = String::new();
        Lines::new(text.as_bytes(), limit).read_to_string(&mut read).await.unwrap();
        read
    }

    #[tokio::test]
    async fn what_is_short_passes_unaltered() {
        let text = "{\"id\":1}\n\n1234567890\nno end";
        assert_eq!(read(text, 10).await, text);
        let long = format!("{{\"a\":\"{}\"}}\n", "x".repeat(100_000)).repeat(3);
        assert_eq!(read(&long, 200_000).await, long);
    }

    #[tokio::test]
    async fn an_error_takes_the_place_of_what_is_long_wherever_its_id_is() {
        let long = "x".repeat(CHUNK * 3);
        for (message, id) in [
            (format!(r#"{{"jsonrpc":"2.0","id":17,"result":{{"id":3,"a":"{long}"}}}}"#), Some("17")),
            (
                format!(r#"{{"result":{{"id":3,"a":["{long}",{{"id":4}}]}}, "id" : "a\"}}b" }}"#),
                Some(r#""a\"}b""#),
            ),
            (format!(r#"{{"result":"\"id\":5,{long}","id":6}}"#), Some("6")),
            (format!(r#"{{"method":"notifications/x","params":{{"id":1,"a":"{long}"}}}}"#), None),
            (format!(r#"{{"id":"{long}"}}"#), None),
            (long.clone(), None),
            ("]}}\\\"{[,:".repeat(CHUNK), None),
        ] {
            let read = read(&format!("{message}\n{{\"id\":2}}\n"), 1000).await;
            let lines: Vec<&str> = read.lines().collect();
            assert_eq!(lines[0], &message[..1000]);
            assert_eq!(lines[lines.len() - 1], "{\"id\":2}", "the next line is whole");
            match id {
                Some(id) => {
                    assert_eq!(lines.len(), 3, "{lines:?}");
                    let error: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
                    assert_eq!(error["id"], serde_json::from_str::<serde_json::Value>(id).unwrap());
                    assert_eq!(error["error"]["code"], TOO_LONG);
                }
                None => assert_eq!(lines.len(), 2, "{lines:?}"),
            }
        }
    }
}

//! Server-sent events: a blank line ends an event, its `data:` lines are joined, comments are skipped.

use memchr::memchr;

/// Splits a stream of bytes into events. Bytes go in as they come; what is not a whole event stays.
#[derive(Debug, Default)]
pub struct Sse {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that have been read.
    read: usize,
    /// The data of the event so far.
    data: Vec<u8>,
    has_data: bool,
    /// Lines that are neither fields nor comments.
    strange: usize,
}

impl Sse {
    /// Where bytes are appended.
    pub fn input(&mut self) -> &mut Vec<u8> {
        if self.read > 0 {
            // What is left is a part of one line, in most cases nothing.
            self.buffer.drain(..self.read);
            self.read = 0;
        }
        &mut self.buffer
    }

    /// The data of the next whole event.
    pub fn next_event(&mut self) -> Option<&[u8]> {
        if !self.has_data {
            self.data.clear();
        }
        while let Some(end) = memchr(b'\n', &self.buffer[self.read..]) {
            let line = &self.buffer[self.read..self.read + end];
            self.read += end + 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                if self.has_data {
                    self.has_data = false;
                    return Some(&self.data);
                }
            } else if let Some(value) = line.strip_prefix(b"data:") {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
                self.has_data = true;
            } else if !is_field(line) {
                self.strange += 1;
            }
        }
        None
    }

    /// The data of an event that the end of the stream cut off before its blank line.
    pub fn last_event(&mut self) -> Option<&[u8]> {
        self.input().extend_from_slice(b"\n\n");
        self.next_event()
    }

    /// Lines so far that are neither fields nor comments: this is no stream of events.
    pub fn strange_lines(&self) -> usize {
        self.strange
    }

    /// Bytes that wait for the rest of their event.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len() - self.read + if self.has_data { self.data.len() } else { 0 }
    }
}

fn is_field(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    // An empty name is a comment.
    matches!(name, b"" | b"event" | b"id" | b"retry" | b"data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let wire = b": hi\r\nevent: x\r\ndata: {\"a\":1}\r\n\r\ndata:one\ndata: two\n\n\n\ndata: [DONE]\n\n";
        for cut in 1..=wire.len() {
            let (mut sse, mut events) = (Sse::default(), Vec::new());
            for piece in wire.chunks(cut) {
                sse.input().extend_from_slice(piece);
                while let Some(event) = sse.next_event() {
                    events.push(String::from_utf8(event.to_vec()).unwrap());
                }
            }
            assert_eq!(events, ["{\"a\":1}", "one\ntwo", "[DONE]"], "in pieces of {cut}");
            assert_eq!((sse.strange_lines(), sse.pending_bytes()), (0, 0));
        }
    }

    #[test]
    fn what_is_no_stream_is_noticed() {
        let mut sse = Sse::default();
        sse.input().extend_from_slice(b"<html>\n<body>\n");
        assert_eq!(sse.next_event(), None);
        assert_eq!(sse.strange_lines(), 2);
        sse.input().extend_from_slice(b"data: x");
        assert_eq!(sse.next_event(), None);
        assert_eq!(sse.last_event(), Some(&b"x"[..]));
    }
}

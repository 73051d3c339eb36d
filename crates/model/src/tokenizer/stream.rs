//! Text from tokens that arrive one by one.

use super::{TokenKind, Tokenizer};

/// Turns tokens into text as they come, holding back only what may still become a character.
///
/// Everything it returned, joined, is the text; a byte that can belong to no character becomes `U+FFFD`.
#[derive(Debug, Default, Clone)]
pub struct Detokenizer {
    /// At most three bytes: the begin of a character.
    pending: Vec<u8>,
}

impl Detokenizer {
    /// At the start of a continuation.
    pub fn new() -> Self {
        Self::default()
    }

    /// The text that `id` completes. Control tokens and ids outside of the vocabulary add nothing.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        match tokenizer.kind(id) {
            Some(TokenKind::Text) => self.push_bytes(tokenizer.token_bytes(id).unwrap_or_default()),
            _ => String::new(),
        }
    }

    /// The text that `bytes` complete.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> String {
        self.pending.extend(bytes);
        let mut text = String::new();
        let mut rest: &[u8] = &self.pending;
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).expect("valid up to here"));
                    rest = after;
                    match error.error_len() {
                        Some(invalid) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = &rest[invalid..];
                        }
                        None => break,
                    }
                }
            }
        }
        self.pending = rest.to_vec();
        text
    }

    /// What is left at the end: nothing, or `U+FFFD` for a character that was cut off.
    pub fn finish(&mut self) -> String {
        if self.pending.is_empty() {
            return String::new();
        }
        self.pending.clear();
        char::REPLACEMENT_CHARACTER.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_whole_however_they_are_cut() {
        let text = "aé漢😀z";
        for cut in 0..=text.len() {
            let mut stream = Detokenizer::new();
            let (first, second) = text.as_bytes().split_at(cut);
            let joined = stream.push_bytes(first) + &stream.push_bytes(second) + &stream.finish();
            assert_eq!(joined, text);
        }
    }

    #[test]
    fn invalid_bytes_are_replaced_as_soon_as_they_are_certain() {
        let mut stream = Detokenizer::new();
        assert_eq!(stream.push_bytes(b"\xf0\x9f"), "");
        assert_eq!(stream.push_bytes(b"x\xff"), "\u{fffd}x\u{fffd}");
        assert_eq!(stream.push_bytes(b"\xe6"), "");
        assert_eq!(stream.finish(), "\u{fffd}");
        assert_eq!(stream.finish(), "");
    }
}

//! The bytes of every token, in one buffer.

use super::TokenKind;
use super::word_piece::CONTINUES;

/// Id to bytes and kind.
#[derive(Debug, Default)]
pub(super) struct TokenTable {
    bytes: Vec<u8>,
    /// End of each token in `bytes`; it starts where the one before ends.
    ends: Vec<usize>,
    kinds: Vec<TokenKind>,
}

impl TokenTable {
    /// Appends the token with the next id.
    pub(super) fn push(&mut self, bytes: &[u8], kind: TokenKind) {
        self.bytes.extend(bytes);
        self.ends.push(self.bytes.len());
        self.kinds.push(kind);
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn bytes(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let &end = self.ends.get(id)?;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        Some(&self.bytes[start..end])
    }

    pub(super) fn kind(&self, id: u32) -> Option<TokenKind> {
        self.kinds.get(id as usize).copied()
    }
}

/// How a vocabulary writes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteEncoding {
    /// Each byte as a printable character.
    ByteLevel,
    /// Spaces as `▁`, single bytes as `<0x0A>`.
    SentencePiece,
    /// What continues a word behind `##`; the space before a word is not written.
    WordPiece,
}

impl ByteEncoding {
    /// The bytes of an ordinary token.
    pub(super) fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel => from_byte_level(token),
            Self::SentencePiece => from_sentence_piece(token),
            Self::WordPiece => match token.strip_prefix(CONTINUES) {
                Some(rest) => rest.as_bytes().to_vec(),
                None => format!(" {token}").into_bytes(),
            },
        }
    }

    /// The bytes of a token that was added to the vocabulary by name: the name, in which only SentencePiece
    /// hides spaces.
    pub(super) fn added_bytes(self, token: &str) -> Vec<u8> {
        match self {
            Self::ByteLevel | Self::WordPiece => token.as_bytes().to_vec(),
            Self::SentencePiece => token.replace('▁', " ").into_bytes(),
        }
    }
}

/// The bytes behind a token of a byte-level vocabulary, in which each byte is written as a printable
/// character: itself where it is one, else `U+0100` and up in the order of the bytes.
fn from_byte_level(token: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(token.len());
    for c in token.chars() {
        match byte_of(c) {
            Some(byte) => bytes.push(byte),
            // Not a character of the alphabet: a token that was added as it is.
            None => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The printable character of `byte` in a byte-level vocabulary.
pub(crate) fn byte_level_char(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let index = (0..byte).filter(|&other| !is_printable(other)).count() as u32;
    char::from_u32(0x100 + index).expect("0x100 to 0x143 are characters")
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    if let Ok(byte) = u8::try_from(code) {
        return is_printable(byte).then_some(byte);
    }
    // The hidden bytes in order: 0x00 to 0x20, 0x7f to 0xa0, 0xad.
    match code - 0x100 {
        index @ 0..=0x20 => Some(index as u8),
        index @ 0x21..=0x42 => Some((index - 0x21 + 0x7f) as u8),
        0x43 => Some(0xad),
        _ => None,
    }
}

/// The bytes behind a token of a SentencePiece vocabulary: `<0x0A>` is a byte, `▁` is a space.
fn from_sentence_piece(token: &str) -> Vec<u8> {
    match byte_token(token) {
        Some(byte) => vec![byte],
        None => token.replace('▁', " ").into_bytes(),
    }
}

/// The byte of a token like `<0x0A>`.
pub(super) fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_level_characters_stand_for_all_bytes() {
        for byte in 0..=255 {
            assert_eq!(byte_of(byte_level_char(byte)), Some(byte), "{byte:#x}");
        }
        assert_eq!(from_byte_level("ĠHelloĊ"), b" Hello\n");
    }

    #[test]
    fn sentence_piece_tokens_stand_for_bytes_and_spaces() {
        assert_eq!(from_sentence_piece("<0x0A>"), b"\n");
        assert_eq!(from_sentence_piece("▁the"), b" the");
        assert_eq!(from_sentence_piece("<0x0AB>"), b"<0x0AB>");
    }
}

//! A reader over the header of a file that never runs past its end, nor past the most bytes of a header.

use super::{GgufError, HEADER_BYTES_MAX};

/// The position in a file being read. Every read says what it is reading, for the error message.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Bytes read so far.
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes not read yet.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// Bytes of `remaining` that a header may still take.
    fn header_left(&self) -> usize {
        self.remaining().min(HEADER_BYTES_MAX - self.offset)
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64, what: &'static str) -> Result<&'a [u8], GgufError> {
        let left = self.remaining();
        match usize::try_from(count) {
            Ok(count) if count <= left && count > self.header_left() => {
                Err(GgufError::HeaderLength { what, limit: HEADER_BYTES_MAX })
            }
            Ok(count) if count <= left => {
                let taken = &self.bytes[self.offset..self.offset + count];
                self.offset += count;
                Ok(taken)
            }
            _ => Err(GgufError::Truncated { what, offset: self.offset, needed: count, left }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let bytes = self.take(N as u64, what)?;
        Ok(bytes.try_into().expect("`take` gives as many bytes as requested"))
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, GgufError> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, GgufError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A string with its length before it.
    pub(super) fn string(&mut self, what: &'static str) -> Result<&'a str, GgufError> {
        let length = self.u64(what)?;
        let offset = self.offset;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|_| GgufError::Utf8 { what, offset })
    }

    /// Checks a claimed count of items of at least `item_bytes` each against the bytes left.
    pub(super) fn count(
        &self,
        found: u64,
        item_bytes: usize,
        what: &'static str,
    ) -> Result<usize, GgufError> {
        let left = self.remaining();
        let most = left / item_bytes;
        match usize::try_from(found) {
            Ok(count) if count <= most && count > self.header_left() / item_bytes => {
                Err(GgufError::HeaderLength { what, limit: HEADER_BYTES_MAX })
            }
            Ok(count) if count <= most => Ok(count),
            _ => Err(GgufError::Count { what, found, left, most: most as u64 }),
        }
    }
}

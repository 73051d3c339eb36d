//! The bytes of a weight file: mapped from disk, or owned (tests, fuzzing, small files).
//!
//! Mapping, and giving pages of a map back, is the crate's only `unsafe`. Weights are read where they lie, so a model of
//! several gigabytes opens in milliseconds and its pages are shared with the file cache of the operating system.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::path::Path;

/// Read-only bytes of one file.
pub struct Data(Inner);

enum Inner {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl Data {
    /// Maps `path` read-only. An empty file gives empty bytes.
    ///
    /// # Errors
    /// Whatever the operating system says about opening or mapping the file.
    #[expect(unsafe_code, reason = "mapping a file has no safe interface; nothing else here does so")]
    pub fn map(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
        }
        if file.metadata()?.len() == 0 {
            return Ok(Self(Inner::Owned(Vec::new())));
        }
        // SAFETY: the map is private to this value and only ever read. Nobody in this program writes to a
        // weight file in place: the model store writes `.part` files and renames them, which leaves an
        // existing map on the old file. Another program that truncates the file while it is mapped would
        // raise SIGBUS; that cannot be excluded by any reader that maps, and is the documented price.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self(Inner::Mapped(map)))
    }

    /// Gives back the pages of a part of a mapped file that were read, which count as this process's memory until then. The
    /// bytes stay what they are: the next read takes them from the file again, or from the system's cache of it.
    #[cfg_attr(unix, expect(unsafe_code, reason = "giving pages back has no safe interface"))]
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Inner::Mapped(map) = &self.0 {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the map is of a file and was never written to, so a page that is read again has the same bytes.
            let advised = unsafe { map.unchecked_advise_range(advice, range.start, range.len()) };
            // Memory stays taken where the system refuses, and nothing else changes.
            let _ = advised;
        }
    }
}

impl From<Vec<u8>> for Data {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Inner::Owned(bytes))
    }
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Mapped(map) => map,
            Inner::Owned(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Inner::Mapped(_) => "mapped",
            Inner::Owned(_) => "owned",
        };
        write!(f, "Data({kind}, {} bytes)", self.len())
    }
}

//! Memory for weights: pieces one after the other in large mappings, so that huge pages can lie behind them. A step reads
//! every weight once, and would look up each of many small pages once a step.

use crate::memory::{LINE_BYTES, use_huge_pages};
use memmap2::{MmapMut, MmapRaw};
use std::alloc::{Layout, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a mapping, unless a piece needs more. What is never written takes no memory.
const MAPPING_BYTES: usize = 64 << 20;

/// Pieces begin at lines of the cache.
const ALIGNMENT: usize = LINE_BYTES;

/// Memory for the matrices of a model. A mapping lives as long as a piece of it; what is dropped before is not given away
/// again.
#[derive(Default)]
pub struct Arena {
    /// The end of the last one is not given away yet.
    mappings: Mutex<Vec<Mapping>>,
}

struct Mapping {
    memory: Arc<MmapRaw>,
    used: usize,
}

impl Arena {
    /// `len` zeros. Ends the process as any allocation does when the system has no memory.
    pub(crate) fn take<T: Zeroable>(&self, len: usize) -> Piece<T> {
        const { assert!(align_of::<T>() <= ALIGNMENT) };
        let layout = Layout::array::<T>(len).expect("weights that were in a file");
        let bytes = layout.size().next_multiple_of(ALIGNMENT);
        let piece = bytes.max(ALIGNMENT);
        let new = |bytes| {
            let memory = map(bytes).or_else(|_| map(piece));
            Mapping { memory: memory.unwrap_or_else(|_| handle_alloc_error(layout)), used: 0 }
        };
        let mut mappings = self.mappings.lock().unwrap_or_else(PoisonError::into_inner);
        let at = if bytes >= MAPPING_BYTES {
            // It is full at once, and does not end the one before.
            mappings.insert(0, new(bytes));
            0
        } else {
            if mappings.last().is_none_or(|Mapping { memory, used }| memory.len() - used < bytes) {
                // A system that counts what is mapped as taken may have room for the piece alone.
                mappings.push(new(MAPPING_BYTES));
            }
            mappings.len() - 1
        };
        let Mapping { memory, used } = &mut mappings[at];
        // Within the mapping, whose first byte no piece before has reached.
        let start = memory.as_mut_ptr().wrapping_add(*used).cast();
        *used += bytes;
        Piece { start, len, _mapping: memory.clone(), values: PhantomData }
    }

    /// Puts huge pages behind all pieces, as far as the system has some, until no piece of a mapping lives. That takes a second
    /// for a few gigabytes, or several where memory is scarce, and changes no number: pieces are read meanwhile. It is done
    /// once they are written, since a huge page is zeroed whole and leaves the caches before anything is written to it.
    /// It takes a part of one processor's time.
    pub fn use_huge_pages(self) {
        for Mapping { memory, used } in self.mappings.into_inner().unwrap_or_else(PoisonError::into_inner) {
            use_huge_pages(memory.as_ptr(), used, || Arc::strong_count(&memory) > 1);
        }
    }
}

fn map(bytes: usize) -> std::io::Result<Arc<MmapRaw>> {
    Ok(Arc::new(MmapMut::map_anon(bytes)?.into()))
}

/// What an [`Arena`] can hold.
///
/// # Safety
/// Bytes that are all zero are a value.
pub(crate) unsafe trait Zeroable: Copy {}

// SAFETY: every pattern of bits is a value.
unsafe impl Zeroable for f32 {}
// SAFETY: as above.
unsafe impl Zeroable for half::f16 {}
// SAFETY: as above.
unsafe impl Zeroable for half::bf16 {}

/// Values in an [`Arena`].
pub(crate) struct Piece<T> {
    start: *mut T,
    len: usize,
    _mapping: Arc<MmapRaw>,
    values: PhantomData<T>,
}

// SAFETY: a piece is all of what it points to, as a `Box<[T]>` is.
unsafe impl<T: Send> Send for Piece<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Piece<T> {}

impl<T> Deref for Piece<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `take` gave these values to this piece alone, zeroed by the system, and the mapping lives.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T> DerefMut for Piece<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn pieces_are_zeros_of_their_own_and_outlive_the_arena() {
        let arena = Arena::default();
        let mut pieces: Vec<Piece<f16>> = [1, 33, 0, MAPPING_BYTES / 2 - 100, 7, MAPPING_BYTES, 5]
            .into_iter()
            .map(|len| arena.take(len))
            .collect();
        drop(arena);
        for (index, piece) in pieces.iter_mut().enumerate() {
            assert!(piece.as_ptr().addr().is_multiple_of(ALIGNMENT));
            assert!(piece.iter().all(|value| *value == f16::ZERO), "piece {index}");
            piece.fill(f16::from_f32(1.0 + index as f32));
        }
        for (index, piece) in pieces.iter().enumerate() {
            assert!(piece.iter().all(|value| value.to_f32() == 1.0 + index as f32), "piece {index}");
        }
    }
}

//! Memory for weights: pieces one after the other in large mappings, with huge pages behind them where the system has those.
//! A step reads every weight once, so each small page would be looked up once a step, and filling one for the first time takes
//! the system longer than packing what it holds.

use crate::memory::prefer_huge_pages;
use memmap2::{MmapMut, MmapRaw};
use std::alloc::{Layout, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a mapping, unless a piece needs more. Of what is never written, less than a huge page takes memory.
const MAPPING_BYTES: usize = 64 << 20;

/// Pieces begin at lines of the cache.
const ALIGNMENT: usize = 64;

/// Memory for the matrices of a model. A mapping lives as long as a piece of it; what is dropped before is not given away
/// again.
#[derive(Default)]
pub struct Arena {
    last: Mutex<Option<Last>>,
}

/// The mapping whose end is not given away yet.
struct Last {
    mapping: Arc<MmapRaw>,
    used: usize,
}

impl Arena {
    /// `len` zeros. Ends the process as any allocation does when the system has no memory.
    pub(crate) fn take<T: Zeroable>(&self, len: usize) -> Piece<T> {
        const { assert!(align_of::<T>() <= ALIGNMENT) };
        let layout = Layout::array::<T>(len).expect("weights that were in a file");
        let bytes = layout.size().next_multiple_of(ALIGNMENT);
        let of = |mapping: &Arc<MmapRaw>, used: usize| Piece {
            // Within the mapping, whose first byte no piece before has reached.
            start: mapping.as_mut_ptr().wrapping_add(used).cast(),
            len,
            _mapping: mapping.clone(),
            values: PhantomData,
        };
        if bytes >= MAPPING_BYTES {
            return of(&map(bytes).unwrap_or_else(|_| handle_alloc_error(layout)), 0);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = match &mut *last {
            Some(last) if last.mapping.len() - last.used >= bytes => last,
            last => {
                // A system that counts what is mapped as taken may have room for the piece alone.
                let mapping = map(MAPPING_BYTES).or_else(|_| map(bytes.max(ALIGNMENT)));
                let mapping = mapping.unwrap_or_else(|_| handle_alloc_error(layout));
                last.insert(Last { mapping, used: 0 })
            }
        };
        last.used += bytes;
        of(&last.mapping, last.used - bytes)
    }
}

fn map(bytes: usize) -> std::io::Result<Arc<MmapRaw>> {
    let mapping = MmapMut::map_anon(bytes)?;
    prefer_huge_pages(&mapping[..]);
    Ok(Arc::new(mapping.into()))
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

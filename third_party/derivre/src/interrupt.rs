//! Stopping in the middle. Added by pie; no part of derivre.
//!
//! Simplifying and deriving an expression takes time that no limit of its caller bounds: `a?` a thousand times is a
//! derivative of a million steps, and a JSON Schema compares all pairs of its patterns. Whoever must be able to stop,
//! runs the work in [`while_wanted`]; all that is made here is counted, and what is hashed here and in llguidance, whose
//! maps are of this crate. Now and then it is asked whether the result is wanted at all. If not, the thread unwinds to
//! [`while_wanted`], or to whoever catches it before.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher};
use std::mem::size_of;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::ptr::NonNull;

/// Numbers written or looked at between two questions: some ten to a hundred microseconds.
const STEPS: usize = 4096;

thread_local! {
    /// What answers, while [`while_wanted`] runs on this thread.
    static WANTED: Cell<Option<NonNull<dyn Fn() -> bool>>> = const { Cell::new(None) };
    /// Steps since the last question.
    static TAKEN: Cell<usize> = const { Cell::new(0) };
    /// Bytes of the expressions that were made, with what finds them.
    static MADE: Cell<usize> = const { Cell::new(0) };
}

/// What a thread unwinds with when its work is not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

/// Puts back what was there before, however the work ends.
struct Restore(Option<NonNull<dyn Fn() -> bool>>, usize);

impl Drop for Restore {
    fn drop(&mut self) {
        WANTED.set(self.0);
        MADE.set(self.1);
    }
}

/// Bytes, about, of the expressions that the innermost [`while_wanted`] of this thread has made, with what finds them.
/// Those that are gone count too.
pub fn made_bytes() -> usize {
    MADE.get()
}

/// Does work that may be stopped in its middle, as soon as `wanted` says no. It is asked on this thread only. What the
/// work was changing is then not to be used again.
///
/// # Errors
/// [`Interrupted`] when the work was stopped, and nobody within it caught that. Another panic goes on.
pub fn while_wanted<T>(wanted: &dyn Fn() -> bool, work: impl FnOnce() -> T) -> Result<T, Interrupted> {
    // SAFETY: it only loses its lifetime. The pointer is gone from `WANTED` before this function returns or unwinds
    // (`Restore`), and `WANTED` is of this thread.
    let wanted: &'static (dyn Fn() -> bool + 'static) = unsafe { std::mem::transmute(wanted) };
    let restore = Restore(WANTED.replace(Some(NonNull::from(wanted))), MADE.replace(0));
    let result = catch_unwind(AssertUnwindSafe(work));
    drop(restore);
    result.map_err(|panic| match panic.downcast::<Interrupted>() {
        Ok(interrupted) => *interrupted,
        Err(panic) => resume_unwind(panic),
    })
}

/// The random state of this crate's maps, and of llguidance's.
#[cfg(feature = "ahash")]
type Inner = ahash::RandomState;
/// The random state of this crate's maps, and of llguidance's.
#[cfg(not(feature = "ahash"))]
type Inner = std::collections::hash_map::RandomState;

/// A random state whose hashers count what they take.
#[derive(Clone, Debug)]
pub struct RandomState(Inner);

impl RandomState {
    /// A fresh one.
    pub fn new() -> RandomState {
        RandomState(Inner::new())
    }
}

impl Default for RandomState {
    fn default() -> RandomState {
        RandomState::new()
    }
}

impl BuildHasher for RandomState {
    type Hasher = Counting<<Inner as BuildHasher>::Hasher>;

    #[inline(always)]
    fn build_hasher(&self) -> Self::Hasher {
        Counting(self.0.build_hasher())
    }
}

/// A hasher that counts what it takes.
#[derive(Clone)]
pub struct Counting<H>(H);

/// Forwards the numbers that a hasher takes, each a step.
macro_rules! forward {
    ($($method:ident: $number:ty),*) => {
        $(#[inline(always)]
        fn $method(&mut self, number: $number) {
            take(1);
            self.0.$method(number);
        })*
    };
}

impl<H: Hasher> Hasher for Counting<H> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) {
        take(1 + bytes.len() / 8);
        self.0.write(bytes);
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0.finish()
    }

    forward!(write_u8: u8, write_u16: u16, write_u32: u32, write_u64: u64, write_usize: usize);
}

/// Counts steps, and unwinds when they are not wanted.
#[inline(always)]
pub(crate) fn take(steps: usize) {
    let taken = TAKEN.get().saturating_add(steps);
    TAKEN.set(taken);
    if taken >= STEPS {
        ask();
    }
}

/// Bytes that an expression takes beside its numbers: where it lies, its place in the table, its weight, what is known of
/// its emptiness and its derivatives.
const BESIDE: usize = 64;

/// Counts the numbers of an expression that is new.
#[inline(always)]
pub(crate) fn made(numbers: usize) {
    MADE.set(MADE.get().saturating_add(numbers * size_of::<u32>() + BESIDE));
}

#[cold]
fn ask() {
    TAKEN.set(0);
    let Some(wanted) = WANTED.get() else { return };
    // SAFETY: it points to what `while_wanted` borrows, which is running on this thread.
    let wanted = unsafe { wanted.as_ref() };
    // A thread that unwinds already must not do so twice.
    if !wanted() && !std::thread::panicking() {
        // Without the panic's hook: it is no fault that anybody would want to read of.
        resume_unwind(Box::new(Interrupted));
    }
}

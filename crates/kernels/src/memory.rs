//! Hints about memory, to the processor and to the operating system: they change how long something takes, and nothing
//! else.

/// Bytes of a line of the cache.
pub(crate) const LINE_BYTES: usize = 64;

/// How near to the processor a line of cache is wanted.
#[derive(Clone, Copy)]
pub(crate) enum Level {
    /// What is used next.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "products prefetch on x86 only"))]
    First,
    /// What is used later, so that what is computed meanwhile keeps the first.
    Second,
}

/// Asks for the cache line at an address, which may be any: nothing is read that a program could see.
#[inline(always)]
pub(crate) fn prefetch(from: *const u8, level: Level) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that a program could see and never faults, wherever it points; every x86-64
        // has it.
        unsafe {
            match level {
                Level::First => _mm_prefetch::<_MM_HINT_T0>(from.cast()),
                Level::Second => _mm_prefetch::<_MM_HINT_T1>(from.cast()),
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, level);
}

/// Smaller memory than this has few pages anyway, in bytes.
#[cfg(target_os = "linux")]
const LARGE: usize = 4 << 20;

#[cfg(target_os = "linux")]
const HUGE: usize = 2 << 20;

/// Addresses of the whole huge pages within so many bytes.
#[cfg(target_os = "linux")]
fn huge_pages_of(start: usize, bytes: usize) -> std::ops::Range<usize> {
    start.next_multiple_of(HUGE)..(start + bytes) / HUGE * HUGE
}

/// Asks for huge pages behind memory that was allocated and not yet written: keys and values lie over thousands of small
/// pages, and finding each costs time. Only a hint: where the system gives none, nothing changes.
pub(crate) fn prefer_huge_pages<T>(memory: &[T]) {
    #[cfg(target_os = "linux")]
    {
        let (start, bytes) = (memory.as_ptr() as usize, size_of_val(memory));
        let pages = huge_pages_of(start, bytes);
        if bytes >= LARGE && !pages.is_empty() {
            // SAFETY: the range lies within an allocation of this process, and the advice changes none of its bytes.
            unsafe { libc::madvise(pages.start as *mut libc::c_void, pages.len(), libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory;
}

/// Puts huge pages behind memory that is written already, one after the other as long as it `is_wanted`, in a fourth of the
/// time of a processor. Where the system gives none, nothing changes.
pub(crate) fn use_huge_pages(start: *const u8, bytes: usize, is_wanted: impl Fn() -> bool) {
    #[cfg(target_os = "linux")]
    {
        /// Since Linux 6.1.
        const MADV_COLLAPSE: libc::c_int = 25;
        let pages = huge_pages_of(start.addr(), bytes);
        if pages.is_empty() {
            return;
        }
        // SAFETY: the advice changes no byte of the range, which lies within a mapping that the caller holds; where it has been
        // unmapped all the same, it is an error.
        let advise = |at: usize, len, advice| unsafe {
            libc::madvise(start.with_addr(at).cast_mut().cast(), len, advice)
        };
        // An older system does what follows by itself, some time.
        advise(pages.start, pages.len(), libc::MADV_HUGEPAGE);
        for at in pages.step_by(HUGE) {
            if !is_wanted() {
                return;
            }
            let before = std::time::Instant::now();
            advise(at, HUGE, MADV_COLLAPSE);
            std::thread::sleep(3 * before.elapsed());
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (start, bytes, is_wanted);
}

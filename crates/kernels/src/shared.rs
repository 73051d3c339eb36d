//! A matrix of values that several threads write at once, in rectangles that never overlap.
//!
//! A forward pass is one job: all workers write parts of a buffer, wait at a barrier, then read all of it.
//! `&mut` cannot say that, so [`Shared`] is a `RefCell` for rectangles: [`Shared::write`] and
//! [`Shared::read`] note the rectangle they hand out and panic when it overlaps one that is still out (two
//! readers may overlap). A borrow costs one uncontended lock, about 20 ns, so borrow per operation and not
//! per element.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// A row-major matrix `[rows][cols]` shared between threads.
pub struct Shared<T> {
    cells: Box<[UnsafeCell<T>]>,
    rows: usize,
    cols: usize,
    claims: Claims,
}

// SAFETY: values are reached only through `Tile` and `TileMut`, whose claims admit one writer or many readers
// of each cell; claiming and releasing go through a mutex, which orders the accesses of different threads.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T: Copy + Default> Shared<T> {
    /// A matrix of default values.
    pub fn new(rows: usize, cols: usize) -> Shared<T> {
        Shared { cells: cells(rows * cols), rows, cols, claims: Claims::default() }
    }

    /// Gives the matrix a new shape and keeps its memory when that is large enough; the values are
    /// unspecified after.
    pub fn reshape(&mut self, rows: usize, cols: usize) {
        if rows * cols > self.cells.len() {
            self.cells = cells(rows * cols);
        }
        (self.rows, self.cols) = (rows, cols);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The whole matrix, for its only owner.
    pub fn get_mut(&mut self) -> &mut [T] {
        let len = self.rows * self.cols;
        // SAFETY: `&mut self` excludes every other borrow, and `UnsafeCell<T>` has the layout of `T`.
        unsafe { std::slice::from_raw_parts_mut(self.cells.as_mut_ptr().cast(), len) }
    }

    /// Borrows a rectangle for reading. Panics when it leaves the matrix or overlaps a rectangle being
    /// written.
    pub fn read(&self, rows: Range<usize>, cols: Range<usize>) -> Tile<'_, T> {
        let claim = self.claim(&rows, &cols, false);
        let start = self.start(&rows, &cols);
        Tile { start, stride: self.cols, rows, cols, _claim: Some(claim), lifetime: PhantomData }
    }

    /// Borrows whole rows for reading; see [`Shared::read`].
    pub fn read_rows(&self, rows: Range<usize>) -> Tile<'_, T> {
        self.read(rows, 0..self.cols)
    }

    /// Borrows a rectangle for writing. Panics when it leaves the matrix or overlaps any rectangle still
    /// borrowed.
    pub fn write(&self, rows: Range<usize>, cols: Range<usize>) -> TileMut<'_, T> {
        let claim = self.claim(&rows, &cols, true);
        let start = self.start(&rows, &cols);
        TileMut { start, stride: self.cols, rows, cols, _claim: Some(claim), lifetime: PhantomData }
    }

    /// Borrows whole rows for writing; see [`Shared::write`].
    pub fn write_rows(&self, rows: Range<usize>) -> TileMut<'_, T> {
        self.write(rows, 0..self.cols)
    }

    fn claim(&self, rows: &Range<usize>, cols: &Range<usize>, write: bool) -> Claim<'_> {
        assert!(
            rows.start <= rows.end
                && rows.end <= self.rows
                && cols.start <= cols.end
                && cols.end <= self.cols,
            "rows {rows:?}, columns {cols:?} leave a matrix of {} x {}",
            self.rows,
            self.cols
        );
        self.claims.claim(Rect { rows: rows.clone(), cols: cols.clone(), write })
    }

    fn start(&self, rows: &Range<usize>, cols: &Range<usize>) -> *mut T {
        if rows.is_empty() || cols.is_empty() {
            return std::ptr::NonNull::dangling().as_ptr();
        }
        let start: *mut UnsafeCell<T> = self.cells.as_ptr().cast_mut();
        // SAFETY: `claim` checked that the rectangle is inside, so its first cell is in bounds.
        unsafe { start.add(rows.start * self.cols + cols.start).cast() }
    }
}

/// Default values. For integers and floats the memory comes zeroed from the operating system, untouched.
fn cells<T: Copy + Default>(len: usize) -> Box<[UnsafeCell<T>]> {
    let values = vec![T::default(); len].into_boxed_slice();
    crate::memory::prefer_huge_pages(&values);
    // SAFETY: `UnsafeCell<T>` has the layout of `T`, and the box is taken apart and put together once.
    unsafe { Box::from_raw(Box::into_raw(values) as *mut [UnsafeCell<T>]) }
}

/// A rectangle borrowed for reading. Indices of [`Tile::row`] count from its own first row.
pub struct Tile<'a, T> {
    start: *const T,
    stride: usize,
    rows: Range<usize>,
    cols: Range<usize>,
    _claim: Option<Claim<'a>>,
    lifetime: PhantomData<&'a [T]>,
}

// SAFETY: a `Tile` is a `&[T]` per row.
unsafe impl<T: Sync> Send for Tile<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Tile<'_, T> {}

impl<'a, T> Tile<'a, T> {
    /// Views a row-major slice as a matrix whose rows have `cols` values. Panics unless the rows are whole.
    pub fn from_slice(values: &'a [T], cols: usize) -> Tile<'a, T> {
        let rows = whole_rows(values.len(), cols);
        Tile {
            start: values.as_ptr(),
            stride: cols,
            rows: 0..rows,
            cols: 0..cols,
            _claim: None,
            lifetime: PhantomData,
        }
    }

    /// The rows of the matrix that the rectangle covers.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// The columns of the matrix that the rectangle covers.
    pub fn cols(&self) -> Range<usize> {
        self.cols.clone()
    }

    /// One row of the rectangle, counted from its first.
    pub fn row(&self, index: usize) -> &[T] {
        assert!(index < self.rows.len(), "row {index} of {}", self.rows.len());
        // `wrapping_add`, as a rectangle without columns has rows, but no cell that its start could point to.
        // SAFETY: the rectangle is inside the matrix and claimed for reading (or borrowed from a slice).
        unsafe { std::slice::from_raw_parts(self.start.wrapping_add(index * self.stride), self.cols.len()) }
    }

    /// A rectangle inside this one, both ranges counted from its own first row and column. Costs no lock, so
    /// a thread that reads a matrix in pieces borrows it once. Panics when it leaves this rectangle.
    pub fn part(&self, rows: Range<usize>, cols: Range<usize>) -> Tile<'_, T> {
        assert!(
            rows.start <= rows.end
                && rows.end <= self.rows.len()
                && cols.start <= cols.end
                && cols.end <= self.cols.len(),
            "rows {rows:?}, columns {cols:?} leave a rectangle of {} x {}",
            self.rows.len(),
            self.cols.len()
        );
        Tile {
            // An empty rectangle has no first cell, and nothing is read of it.
            start: self.start.wrapping_add(rows.start * self.stride + cols.start),
            stride: self.stride,
            rows: self.rows.start + rows.start..self.rows.start + rows.end,
            cols: self.cols.start + cols.start..self.cols.start + cols.end,
            _claim: None,
            lifetime: PhantomData,
        }
    }

    /// One value, row and column counted from the first of the rectangle.
    ///
    /// # Safety
    /// Both are inside the rectangle.
    #[inline(always)]
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "the kernel of AVX2 needs it"))]
    pub(crate) unsafe fn get_unchecked(&self, row: usize, col: usize) -> &T {
        // SAFETY: as in `row`, and the caller's promise.
        unsafe { &*self.start.add(row * self.stride + col) }
    }

    /// All values in order. Panics unless the rectangle has one row or spans whole rows.
    pub fn as_slice(&self) -> &[T] {
        assert!(
            self.rows.len() <= 1 || self.cols.len() == self.stride,
            "columns {:?} are not contiguous",
            self.cols
        );
        // SAFETY: as in `row`; whole rows follow each other without a gap.
        unsafe { std::slice::from_raw_parts(self.start, self.rows.len() * self.cols.len()) }
    }
}

/// A rectangle borrowed for writing. Indices of [`TileMut::row`] count from its own first row.
pub struct TileMut<'a, T> {
    start: *mut T,
    stride: usize,
    rows: Range<usize>,
    cols: Range<usize>,
    _claim: Option<Claim<'a>>,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: a `TileMut` is a `&mut [T]` per row.
unsafe impl<T: Send> Send for TileMut<'_, T> {}

impl<'a, T> TileMut<'a, T> {
    /// Views a row-major slice as a matrix whose rows have `cols` values. Panics unless the rows are whole.
    pub fn from_slice(values: &'a mut [T], cols: usize) -> TileMut<'a, T> {
        let rows = whole_rows(values.len(), cols);
        let start = values.as_mut_ptr();
        TileMut { start, stride: cols, rows: 0..rows, cols: 0..cols, _claim: None, lifetime: PhantomData }
    }

    /// The rows of the matrix that the rectangle covers.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// The columns of the matrix that the rectangle covers.
    pub fn cols(&self) -> Range<usize> {
        self.cols.clone()
    }

    /// One row of the rectangle, counted from its first.
    pub fn row(&mut self, index: usize) -> &mut [T] {
        assert!(index < self.rows.len(), "row {index} of {}", self.rows.len());
        // SAFETY: the rectangle is inside the matrix and claimed for writing (or borrowed from a slice).
        unsafe {
            std::slice::from_raw_parts_mut(self.start.wrapping_add(index * self.stride), self.cols.len())
        }
    }

    /// Two rows of the rectangle, counted from its first. Panics when they are the same.
    pub fn two_rows(&mut self, first: usize, second: usize) -> (&mut [T], &mut [T]) {
        let (len, cols) = (self.rows.len(), self.cols.len());
        assert!(first != second && first < len && second < len, "rows {first} and {second} of {len}");
        // SAFETY: as in `row`, and rows are disjoint.
        unsafe {
            (
                std::slice::from_raw_parts_mut(self.start.wrapping_add(first * self.stride), cols),
                std::slice::from_raw_parts_mut(self.start.wrapping_add(second * self.stride), cols),
            )
        }
    }

    /// All values in order. Panics unless the rectangle has one row or spans whole rows.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        assert!(
            self.rows.len() <= 1 || self.cols.len() == self.stride,
            "columns {:?} are not contiguous",
            self.cols
        );
        // SAFETY: as in `row`; whole rows follow each other without a gap.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.rows.len() * self.cols.len()) }
    }
}

fn whole_rows(len: usize, cols: usize) -> usize {
    assert!(cols > 0 && len.is_multiple_of(cols), "{len} values are not whole rows of {cols}");
    len / cols
}

/// Looks at a taken lock before a thread sleeps: 5 to 10 µs in all.
const SPINS: u32 = 200;

/// The rectangles that are borrowed now.
#[derive(Default)]
struct Claims(Mutex<Vec<Rect>>);

#[derive(Clone, PartialEq)]
struct Rect {
    rows: Range<usize>,
    cols: Range<usize>,
    write: bool,
}

impl Rect {
    fn conflicts(&self, other: &Rect) -> bool {
        let overlap = |a: &Range<usize>, b: &Range<usize>| a.start.max(b.start) < a.end.min(b.end);
        (self.write || other.write) && overlap(&self.rows, &other.rows) && overlap(&self.cols, &other.cols)
    }
}

impl Claims {
    fn claim(&self, rect: Rect) -> Claim<'_> {
        let mut held = self.lock();
        let conflict = held.iter().find(|other| rect.conflicts(other)).cloned();
        if let Some(other) = conflict {
            drop(held);
            panic!(
                "rows {:?}, columns {:?} are borrowed already: rows {:?}, columns {:?}",
                rect.rows, rect.cols, other.rows, other.cols
            );
        }
        held.push(rect.clone());
        Claim { claims: self, rect }
    }

    /// It is held for some ten nanoseconds, much less than going to sleep and being woken takes: so this
    /// looks again for a while first.
    fn lock(&self) -> MutexGuard<'_, Vec<Rect>> {
        for _ in 0..SPINS {
            match self.0.try_lock() {
                Ok(guard) => return guard,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives the rectangle back when dropped.
struct Claim<'a> {
    claims: &'a Claims,
    rect: Rect,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut held = self.claims.lock();
        let index =
            held.iter().position(|rect| *rect == self.rect).expect("a claim is noted until it is dropped");
        held.swap_remove(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn threads_fill_disjoint_columns() {
        let matrix = Shared::<u32>::new(3, 8);
        std::thread::scope(|scope| {
            for part in 0..4 {
                let matrix = &matrix;
                scope.spawn(move || {
                    let mut tile = matrix.write(0..3, part * 2..part * 2 + 2);
                    for row in 0..3 {
                        tile.row(row).fill((part * 10 + row) as u32);
                    }
                });
            }
        });
        assert_eq!(matrix.read_rows(1..2).as_slice(), [1, 1, 11, 11, 21, 21, 31, 31]);
    }

    #[test]
    fn parts_and_two_rows_stay_inside() {
        let refused = |f: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(f)).is_err();
        let matrix = Shared::<u32>::new(4, 5);
        {
            let mut tile = matrix.write(1..4, 1..5);
            for row in 0..3 {
                tile.row(row).copy_from_slice(&[0, 1, 2, 3].map(|col| row as u32 * 10 + col));
            }
            let (last, first) = tile.two_rows(2, 0);
            last.swap_with_slice(first);
            assert_eq!(tile.row(0), [20, 21, 22, 23]);
            assert!(refused(&mut || _ = tile.two_rows(1, 1)));
            assert!(refused(&mut || _ = tile.two_rows(0, 3)));
        }
        let tile = matrix.read(1..4, 1..5);
        let part = tile.part(1..3, 2..4);
        assert_eq!((part.rows(), part.cols()), (2..4, 3..5));
        assert_eq!((part.row(0), part.row(1)), ([12, 13].as_slice(), [2, 3].as_slice()));
        assert_eq!(part.part(1..2, 1..2).as_slice(), [3]);
        assert_eq!(tile.part(3..3, 0..4).rows().len(), 0);
        assert!(refused(&mut || drop(tile.part(0..4, 0..1))));
        assert!(refused(&mut || drop(part.part(0..1, 0..3))));
    }

    #[test]
    fn rectangles_without_columns_have_empty_rows() {
        let matrix = Shared::<u64>::new(3, 5);
        let mut written = matrix.write(0..3, 5..5);
        assert!(written.row(2).is_empty());
        assert!(written.two_rows(2, 1).0.is_empty());
        let read = matrix.read(1..3, 2..2);
        assert!(read.row(1).is_empty() && read.part(0..2, 0..0).row(1).is_empty());
    }

    #[test]
    fn overlap_with_a_writer_is_refused_until_it_is_done() {
        let matrix = Shared::<u8>::new(4, 4);
        let refused = |f: &dyn Fn()| catch_unwind(AssertUnwindSafe(f)).is_err();
        let written = matrix.write(1..3, 1..3);
        assert!(refused(&|| drop(matrix.write(2..4, 2..4))));
        assert!(refused(&|| drop(matrix.read_rows(2..3))));
        assert!(refused(&|| drop(matrix.read(0..5, 0..1))));
        drop(matrix.write(1..3, 3..4));
        drop(written);
        let (_first, _second) = (matrix.read_rows(0..4), matrix.read_rows(0..4));
        assert!(refused(&|| drop(matrix.write(0..1, 0..1))));
    }
}

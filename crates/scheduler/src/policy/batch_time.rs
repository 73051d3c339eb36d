//! How long a batch takes: `a + b * rows + c * attended`, fitted to the batches that completed. `attended` are the tokens
//! that its rows attend to, all together: a row far into a long context takes longer.
//!
//! Least squares on relative errors, in which older batches count less, and of which nothing is below 0:
//!
//! ```text
//! minimize   sum of 0.99^age * ((a + b n + c m - t) / t)^2   +   a little * (a^2 + c^2)
//! ```
//! The second term decides where batches of one kind cannot tell `a` or `c` from `b`: then those are 0, so that nothing is
//! expected of larger batches that was not seen. A bound that would keep all batches at one size is changed now and then, to
//! half where that suffices, so that what it follows from stays known.

use std::iter::Sum;
use std::time::Duration;

/// How much less a batch counts with each one after it: a hundred count, so it follows contexts that grow.
const DECAY: f64 = 0.99;

/// Weight of the second term: it takes a hundredth of `a` at the least spread.
const RIDGE: f64 = 1e-4;

/// Spread of sizes, their variance by their mean square, below which a bound is changed: about 4 batches in a hundred
/// of half the size keep it.
const SPREAD: f64 = 1e-2;

/// A bound this far from the usual size, by its part, is another size.
const ANOTHER: f64 = 0.25;

/// What is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Work {
    pub(crate) rows: u64,
    /// Tokens that the rows attend to, all together.
    pub(crate) attended: u64,
}

impl Work {
    /// Rows of one context that holds `length` tokens.
    pub(crate) fn of(rows: u32, length: u32) -> Work {
        let (rows, length) = (u64::from(rows), u64::from(length));
        Work { rows, attended: rows * length + rows * (rows + 1) / 2 }
    }

    /// So many rows of it at most, as they are on average.
    pub(super) fn at_most(self, rows: u32) -> Work {
        let rows = self.rows.min(rows.into());
        Work { rows, attended: (rows as f64 * self.attended_by_row()) as u64 }
    }

    fn attended_by_row(self) -> f64 {
        self.attended as f64 / self.rows.max(1) as f64
    }
}

impl Sum for Work {
    fn sum<I: Iterator<Item = Work>>(works: I) -> Work {
        works.fold(Work::default(), |sum, work| Work {
            rows: sum.rows + work.rows,
            attended: sum.attended + work.attended,
        })
    }
}

/// Sums over completed batches, of `x = (1, n, m) / t`: what is fitted is `1 = (a, b, c) x`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchTime {
    ones: [f64; 3],
    products: [[f64; 3]; 3],
    /// `a`, `b` and `c` in seconds, none below 0. `None` before the first batch. Made once for each batch, and looked at for
    /// each tenant.
    fit: Option<[f64; 3]>,
}

impl BatchTime {
    /// A batch took `time`.
    pub(super) fn observe(&mut self, work: Work, time: Duration) {
        if work.rows == 0 || time.is_zero() {
            return;
        }
        let speed = time.as_secs_f64().recip();
        let x = [1.0, work.rows as f64, work.attended as f64].map(|feature| feature * speed);
        for i in 0..3 {
            self.ones[i] = self.ones[i] * DECAY + x[i];
            for j in 0..3 {
                self.products[i][j] = self.products[i][j] * DECAY + x[i] * x[j];
            }
        }
        self.fit = self.best_fit();
    }

    fn best_fit(&self) -> Option<[f64; 3]> {
        let mut products = self.products;
        products[0][0] *= 1.0 + RIDGE;
        products[2][2] *= 1.0 + RIDGE;
        // Of the best with some of them 0, the best that has none below 0.
        let fits = (1..8u32).filter_map(|some| solve(&products, &self.ones, |i| some >> i & 1 == 1));
        let fits = fits.filter(|fit| fit.iter().all(|value| *value >= 0.0));
        let gain = |fit: &[f64; 3]| fit.iter().zip(&self.ones).map(|(value, one)| value * one).sum::<f64>();
        fits.max_by(|a, b| gain(a).total_cmp(&gain(b)))
    }

    /// How long a batch takes; zero while nothing is known.
    pub(super) fn of(&self, work: Work) -> Duration {
        let [a, b, c] = self.fit.unwrap_or_default();
        let seconds = a + b * work.rows as f64 + c * work.attended as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Rows of the longest batch that takes at most `times` as long as one of `alone`: with the rows of that, and others as
    /// those of `more` on average. `least` at least, and now and then another number, see the module docs.
    pub(super) fn rows_in(&self, times: f64, alone: Work, more: Work, least: u32) -> u32 {
        let Some([a, b, c]) = self.fit else { return ((times * alone.rows as f64) as u32).max(least) };
        let time = a + b * alone.rows as f64 + c * alone.attended as f64;
        let bound = alone.rows as f64 + (times - 1.0) * time / (b + c * more.attended_by_row());
        // Converting saturates, and takes nothing by nothing for 0.
        let bound = (bound as u32).max(least);
        let [[xx, xy, _], [_, yy, _], _] = self.products;
        let is_known = xx * yy - xy * xy > SPREAD * xx * yy;
        let usual = xy / xx;
        match bound / 2 {
            _ if is_known || (f64::from(bound) - usual).abs() > ANOTHER * usual => bound,
            half if half >= least => half,
            _ => bound + 1,
        }
    }
}

/// Solves `products * x = ones` with `x` 0 where it is not `free`. `None` where that has no one solution.
fn solve(products: &[[f64; 3]; 3], ones: &[f64; 3], free: impl Fn(usize) -> bool) -> Option<[f64; 3]> {
    let mut rows: [[f64; 4]; 3] = std::array::from_fn(|i| {
        std::array::from_fn(|j| match (j, free(i) && (j == 3 || free(j))) {
            (3, true) => ones[i],
            (_, true) => products[i][j],
            (_, false) => f64::from(i == j),
        })
    });
    // Gauss and Jordan; the products are those of a sum of squares, which needs no order of pivots.
    for i in 0..3 {
        let pivot = rows[i][i];
        if pivot <= products[i][i] * 1e-12 {
            return None;
        }
        rows[i] = rows[i].map(|value| value / pivot);
        for k in (0..3).filter(|k| *k != i) {
            let factor = rows[k][i];
            rows[k] = std::array::from_fn(|j| rows[k][j] - factor * rows[i][j]);
        }
    }
    Some(rows.map(|row| row[3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(time: u64) -> Duration {
        Duration::from_micros(time)
    }

    /// Rows that attend to nothing.
    fn rows(rows: u32) -> Work {
        Work { rows: rows.into(), attended: 0 }
    }

    fn rows_in(time: &BatchTime, times: u32, alone: u32) -> u32 {
        time.rows_in(0.8 * f64::from(times), rows(alone), rows(1), times)
    }

    #[test]
    fn it_finds_the_line_and_never_expects_more_than_it_saw() {
        let mut time = BatchTime::default();
        assert_eq!((time.of(rows(7)), rows_in(&time, 2, 3)), (Duration::ZERO, 4));
        let batch = |rows: u32| us(6000 + 1000 * u64::from(rows));
        // One size: it may all be due to the rows.
        (0..1000).for_each(|_| time.observe(rows(500), batch(500)));
        assert_eq!(rows_in(&time, 2, 1), 2, "another size, to learn of");
        time.observe(rows(3), batch(3));
        assert_eq!(
            rows_in(&time, 2, 1),
            5,
            "of twice 7 ms four fifths, without the 6 that every batch takes"
        );
        let near = |found: Duration, expected: Duration| found.abs_diff(expected) < expected / 50;
        assert!(near(time.of(rows(1)), batch(1)) && near(time.of(rows(500)), batch(500)), "{time:?}");
    }

    #[test]
    fn it_follows_a_change_and_forgets_what_it_no_longer_sees() {
        let mut time = BatchTime::default();
        for size in (1..=8).cycle().take(400) {
            time.observe(rows(size), us(100 + 10 * u64::from(size)));
        }
        assert_eq!(rows_in(&time, 3, 1), 16, "of 330 us four fifths");
        for size in (1..=8).cycle().take(1200) {
            time.observe(rows(size), us(300 + 100 * u64::from(size)));
        }
        assert_eq!(rows_in(&time, 3, 1), 6);
        (0..3000).for_each(|_| time.observe(rows(8), us(1100)));
        assert_eq!(time.fit.map(|[a, ..]| a < 1e-9), Some(true), "batches of one size tell nothing of a");
    }

    #[test]
    fn rows_that_attend_to_more_are_fewer() {
        let mut time = BatchTime::default();
        let batch = |work: Work| us(2000 + 500 * work.rows + work.attended);
        for index in 0..400u32 {
            let work = Work::of(1 + index % 9, 100 * (index % 7));
            time.observe(work, batch(work));
        }
        let of = |work| time.of(work).abs_diff(batch(work)) < batch(work) / 50;
        assert!(of(Work::of(1, 100)) && of(Work::of(5, 3000)) && of(Work::of(100, 0)), "{:?}", time.fit);
        let alone = Work::of(1, 500);
        assert_eq!(time.rows_in(1.6, alone, Work::of(1, 500), 2), 2, "4.5 ms: two of a millisecond");
        assert_eq!(time.rows_in(3.2, alone, Work::of(1, 499), 4), 7);
        assert_eq!(time.rows_in(3.2, alone, Work::of(1, 3499), 4), 4, "one for each at least");
    }

    #[test]
    fn a_bound_that_all_batches_keep_to_stays_known() {
        let mut time = BatchTime::default();
        let mut sizes = Vec::new();
        for _ in 0..2000 {
            let size = rows_in(&time, 4, 1);
            sizes.push(size);
            time.observe(rows(size), us(6000 + 1000 * u64::from(size)));
        }
        assert_eq!(sizes[..3], [4, 5, 16], "{sizes:?}");
        let other = sizes[3..].iter().filter(|size| **size != 16).count();
        assert!(
            sizes[3..].iter().all(|size| [8, 16].contains(size)) && (20..200).contains(&other),
            "{other}"
        );
    }

    #[test]
    fn odd_times_bound_sensibly() {
        let mut free = BatchTime::default();
        (1..100).for_each(|size| free.observe(rows(size), us(50)));
        assert!(rows_in(&free, 2, 1) > 8192, "rows cost nothing");
        let mut falling = BatchTime::default();
        (1..100).for_each(|size| falling.observe(rows(size), us(1000 / u64::from(size))));
        assert!(rows_in(&falling, 2, 1) >= 2);
        let mut rising = BatchTime::default();
        (1..100).for_each(|size| rising.observe(rows(size), us(u64::from(size * size))));
        assert_eq!(rows_in(&rising, 2, 4), 6, "no a below 0");
    }

    #[test]
    fn what_cannot_be_told_apart_has_one_cause() {
        // All rows attend to the same: the fit says so much of c as of nothing.
        let mut time = BatchTime::default();
        for size in (1..=8u32).cycle().take(400) {
            let work = Work { rows: size.into(), attended: 100 * u64::from(size) };
            time.observe(work, us(1000 + 300 * u64::from(size)));
        }
        let [_, _, c] = time.fit.unwrap();
        assert!(c < 1e-9, "{c}");
        let odd = (0..3).map(|i| time.products[i][i]).all(f64::is_finite);
        assert!(odd && time.of(Work::of(1 << 20, 1 << 20)) > Duration::from_secs(1));
    }
}

//! How long a batch of `n` rows takes: `a + b * n`, fitted to the batches that completed.
//!
//! Least squares on relative errors, in which older batches count less:
//!
//! ```text
//! minimize   sum of 0.99^age * ((a + b n - t) / t)^2   +   a little * a^2
//! ```
//! The second term decides where batches of one size cannot tell `a` from `b`: then `a` is 0, so that nothing is expected
//! of larger batches that was not seen. A bound that would keep all batches at one size is changed now and then, to
//! half where that suffices, so that what it follows from stays known.

use std::time::Duration;

/// How much less a batch counts with each one after it: a hundred count, so it follows contexts that grow.
const DECAY: f64 = 0.99;

/// Weight of the second term: it takes a hundredth of `a` at the least spread.
const RIDGE: f64 = 1e-4;

/// Spread of sizes, their variance by their mean square, below which a bound is changed: about 4 batches in a hundred
/// of half the size keep it.
const SPREAD: f64 = 1e-2;

/// Sums over completed batches, in `x = 1 / t` and `y = n / t`: what is fitted is `1 = a x + b y`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BatchTime {
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl BatchTime {
    /// A batch of `rows` rows took `time`.
    pub(super) fn observe(&mut self, rows: u32, time: Duration) {
        if rows == 0 || time.is_zero() {
            return;
        }
        let x = time.as_secs_f64().recip();
        let y = f64::from(rows) * x;
        let add = |sum: &mut f64, one: f64| *sum = *sum * DECAY + one;
        add(&mut self.x, x);
        add(&mut self.y, y);
        add(&mut self.xx, x * x);
        add(&mut self.xy, x * y);
        add(&mut self.yy, y * y);
    }

    /// `a` and `b` in seconds, neither below 0. `None` before the first batch.
    fn fit(&self) -> Option<(f64, f64)> {
        if self.yy == 0.0 {
            return None;
        }
        let determinant = self.xx * (1.0 + RIDGE) * self.yy - self.xy * self.xy;
        let a = ((self.x * self.yy - self.y * self.xy) / determinant).max(0.0);
        let b = ((self.y - a * self.xy) / self.yy).max(0.0);
        Some((a, b))
    }

    /// How long a batch of `rows` rows takes; zero while nothing is known.
    pub(super) fn of(&self, rows: u32) -> Duration {
        let seconds = self.fit().map_or(0.0, |(a, b)| a + b * f64::from(rows));
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Rows of the longest batch that takes at most `times` as long as one of `rows` rows; now and then another number,
    /// see the module docs.
    pub(super) fn rows_in(&self, times: u32, rows: u32) -> u32 {
        let Some((a, b)) = self.fit() else { return times.saturating_mul(rows) };
        // (times (a + b rows) - a) / b, such that rounding cannot take a row away. Converting saturates.
        let more = f64::from(times.saturating_sub(1)) * a / b;
        let bound = times.saturating_mul(rows).saturating_add(more as u32);
        let known = self.xx * self.yy - self.xy * self.xy > SPREAD * self.xx * self.yy;
        match bound / 2 {
            _ if known => bound,
            half if half >= times => half,
            _ => bound + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(time: u64) -> Duration {
        Duration::from_micros(time)
    }

    #[test]
    fn it_finds_the_line_and_never_expects_more_than_it_saw() {
        let mut time = BatchTime::default();
        assert_eq!((time.of(7), time.rows_in(2, 3)), (Duration::ZERO, 6));
        let batch = |rows: u32| us(6000 + 1000 * u64::from(rows));
        // One size: it may all be due to the rows.
        (0..1000).for_each(|_| time.observe(500, batch(500)));
        assert_eq!(time.rows_in(2, 1), 2 + 1, "another size, to learn of");
        time.observe(3, batch(3));
        assert_eq!(time.rows_in(2, 1), 2 + 5, "6 ms are those of 6 rows, less what the second term takes");
        let near = |found: Duration, expected: Duration| found.abs_diff(expected) < expected / 50;
        assert!(near(time.of(1), batch(1)) && near(time.of(500), batch(500)), "{time:?}");
    }

    #[test]
    fn it_follows_a_change_and_forgets_what_it_no_longer_sees() {
        let mut time = BatchTime::default();
        for rows in (1..=8).cycle().take(400) {
            time.observe(rows, us(100 + 10 * u64::from(rows)));
        }
        assert_eq!(time.rows_in(3, 1), 3 + 19);
        for rows in (1..=8).cycle().take(1200) {
            time.observe(rows, us(300 + 100 * u64::from(rows)));
        }
        assert_eq!(time.rows_in(3, 1), 3 + 5);
        (0..3000).for_each(|_| time.observe(8, us(1100)));
        assert_eq!(time.fit().map(|(a, _)| a < 1e-9), Some(true), "batches of one size tell nothing of a");
    }

    #[test]
    fn a_bound_that_all_batches_keep_to_stays_known() {
        let mut time = BatchTime::default();
        let mut sizes = Vec::new();
        for _ in 0..2000 {
            let rows = time.rows_in(2, 1);
            sizes.push(rows);
            time.observe(rows, us(6000 + 1000 * u64::from(rows)));
        }
        assert_eq!(sizes[..3], [2, 3, 7], "{sizes:?}");
        let other = sizes[3..].iter().filter(|rows| **rows != 7).count();
        assert!(sizes[3..].iter().all(|rows| [3, 7].contains(rows)) && (20..200).contains(&other), "{other}");
    }

    #[test]
    fn odd_times_bound_sensibly() {
        let mut free = BatchTime::default();
        (1..100).for_each(|rows| free.observe(rows, us(50)));
        assert!(free.rows_in(2, 1) > 8192, "rows cost nothing");
        let mut falling = BatchTime::default();
        (1..100).for_each(|rows| falling.observe(rows, us(1000 / u64::from(rows))));
        assert!(falling.rows_in(2, 1) >= 2);
        let mut rising = BatchTime::default();
        (1..100).for_each(|rows| rising.observe(rows, us(u64::from(rows * rows))));
        assert_eq!(rising.rows_in(2, 4), 8, "no a below 0");
    }
}

//! So many at once, and again: seconds of each repetition.

use std::sync::Barrier;
use std::time::Instant;

use serde_json::{Value, json};

use crate::metrics::Distribution;
use crate::report::chart::Reading;

/// What was measured: one value for each repetition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured(pub Distribution);

impl Measured {
    /// Of these values.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        Self(Distribution::new(values))
    }

    /// The median; zero where nothing was measured, which does not happen after a repetition.
    pub fn median(&self) -> f64 {
        self.0.median().unwrap_or(0.0)
    }

    /// The values with another meaning: `n / seconds`, for instance.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self::new(self.0.sorted().iter().map(|value| f(*value)))
    }

    /// Median with smallest and largest.
    pub fn text(&self, digits: usize) -> String {
        let (min, max) = (self.0.min().unwrap_or(0.0), self.0.max().unwrap_or(0.0));
        if self.0.count() < 2 {
            return format!("{min:.digits$}");
        }
        format!("{:.digits$} [{min:.digits$}-{max:.digits$}]", self.median())
    }

    /// For a figure; `None` where nothing was measured.
    pub fn reading(&self) -> Option<Reading> {
        Some(Reading::between(self.0.median()?, self.0.min()?, self.0.max()?))
    }

    /// For a file.
    pub fn json(&self) -> Value {
        json!({ "median": self.median(), "min": self.0.min(), "max": self.0.max(), "values": self.0.sorted() })
    }
}

/// Does `work` in so many threads, which begin together; seconds until the last is done.
///
/// # Errors
/// The first that failed.
pub fn at_once<E: Send>(count: usize, work: impl Fn(usize) -> Result<(), E> + Sync) -> Result<f64, E> {
    let barrier = Barrier::new(count + 1);
    std::thread::scope(|scope| {
        let (barrier, work) = (&barrier, &work);
        let threads: Vec<_> = (0..count)
            .map(|number| {
                scope.spawn(move || {
                    barrier.wait();
                    work(number)
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        let results: Vec<Result<(), E>> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        let seconds = start.elapsed().as_secs_f64();
        results.into_iter().collect::<Result<Vec<()>, E>>()?;
        Ok(seconds)
    })
}

/// The results of branches that a client asks for at once.
///
/// # Errors
/// The first that failed.
pub fn branches<T: Send>(
    count: usize,
    work: impl Fn(usize) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count).map(|number| scope.spawn(move || work(number))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_are_under_way_at_once_and_a_failure_is_told() {
        let met = Barrier::new(5);
        let done = AtomicUsize::new(0);
        at_once(5, |_| {
            met.wait();
            done.fetch_add(1, Ordering::Relaxed);
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(done.into_inner(), 5);
        assert_eq!(at_once(3, |number| if number == 2 { Err("no") } else { Ok(()) }), Err("no"));
    }

    #[test]
    fn branches_keep_their_order() {
        assert_eq!(branches(4, |number| Ok(number * 2)).unwrap(), [0, 2, 4, 6]);
    }

    #[test]
    fn the_text_has_median_and_spread() {
        assert_eq!(Measured::new([3.0, 1.0, 2.0]).text(1), "2.0 [1.0-3.0]");
        assert_eq!(Measured::new([3.0]).text(1), "3.0");
    }
}

//! Exact figures of a list of values, which is kept sorted.

use super::{linear, nearest_rank};

/// Values, and what is asked of them. Figures of no values are `None`, never zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    sorted: Vec<f64>,
}

impl Distribution {
    /// Of these values; what is no number is left out.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The values, the smallest first.
    pub fn sorted(&self) -> &[f64] {
        &self.sorted
    }

    /// Their sum.
    pub fn sum(&self) -> f64 {
        self.sorted.iter().sum()
    }

    /// Their mean.
    pub fn mean(&self) -> Option<f64> {
        (!self.sorted.is_empty()).then(|| self.sum() / self.sorted.len() as f64)
    }

    fn squares(&self) -> Option<f64> {
        let mean = self.mean()?;
        Some(self.sorted.iter().map(|value| (value - mean).powi(2)).sum())
    }

    /// Standard deviation of these values, divided by `n`: the one vLLM and SGLang report.
    pub fn std_population(&self) -> Option<f64> {
        Some((self.squares()? / self.sorted.len() as f64).sqrt())
    }

    /// Standard deviation of what they are a sample of, divided by `n - 1`: the one sageLLM reports.
    pub fn std_sample(&self) -> Option<f64> {
        let squares = self.squares()?;
        Some(if self.sorted.len() < 2 { 0.0 } else { (squares / (self.sorted.len() - 1) as f64).sqrt() })
    }

    /// The smallest.
    pub fn min(&self) -> Option<f64> {
        self.sorted.first().copied()
    }

    /// The largest.
    pub fn max(&self) -> Option<f64> {
        self.sorted.last().copied()
    }

    /// The median, by linear interpolation.
    pub fn median(&self) -> Option<f64> {
        self.percentile(50.0)
    }

    /// A percentile, 0 to 100, by linear interpolation.
    pub fn percentile(&self, p: f64) -> Option<f64> {
        linear(&self.sorted, p)
    }

    /// A percentile, 0 to 100, as a value that occurred.
    pub fn percentile_nearest_rank(&self, p: f64) -> Option<f64> {
        nearest_rank(&self.sorted, p)
    }
}

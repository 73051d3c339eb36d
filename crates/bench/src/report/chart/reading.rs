//! A value that is drawn, with how far it was spread where it was measured more than once.

/// A value, with its spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The value.
    pub value: f64,
    /// The smallest and the largest that were measured; none for a single measurement.
    pub spread: Option<(f64, f64)>,
}

impl Reading {
    /// A value between the smallest and the largest.
    pub fn between(value: f64, low: f64, high: f64) -> Self {
        Self { value, spread: (low < high).then_some((low, high)) }
    }

    /// The highest that is drawn of it.
    pub(super) fn top(self) -> f64 {
        self.spread.map_or(self.value, |(_, high)| high.max(self.value))
    }
}

impl From<f64> for Reading {
    fn from(value: f64) -> Self {
        Self { value, spread: None }
    }
}

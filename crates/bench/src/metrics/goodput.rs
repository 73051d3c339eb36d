//! Requests that were as fast as was promised.

use crate::record::Record;

use super::definitions::METRICS;

/// A promise: a figure and its largest value.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    /// Name of the figure, as in [`METRICS`].
    pub metric: &'static str,
    /// Largest value in seconds.
    pub limit_secs: f64,
}

/// A text that is no promise.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is no SLO: expected METRIC:MILLISECONDS, with a metric of {}", METRICS.map(|metric| metric.name).join(", "))]
pub struct SloError {
    found: String,
}

impl std::str::FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        let error = || SloError { found: text.to_string() };
        let (name, limit) = text.split_once(':').ok_or_else(error)?;
        let name = if name == "e2e" { "e2el" } else { name };
        let metric = METRICS.iter().find(|metric| metric.name == name).ok_or_else(error)?;
        let limit: f64 = limit.trim_end_matches("ms").parse().map_err(|_| error())?;
        if !(limit.is_finite() && limit >= 0.0) {
            return Err(error());
        }
        Ok(Self { metric: metric.name, limit_secs: limit / 1000.0 })
    }
}

impl Slo {
    /// Whether a request keeps it. A failed one does not; a figure that the request does not have counts as zero, as
    /// TPOT of a single token does in vLLM.
    pub fn is_kept(&self, record: &Record) -> bool {
        let metric = METRICS.iter().find(|metric| metric.name == self.metric);
        let worst = metric.and_then(|metric| (metric.values)(record).into_iter().reduce(f64::max));
        record.completed() && worst.unwrap_or(0.0) <= self.limit_secs
    }
}

/// How often promises were kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Goodput {
    /// The promises; all must be kept.
    pub slos: Vec<Slo>,
    /// Requests that kept all.
    pub good: usize,
    /// Requests that were to be answered: all but those that the run's end cut off.
    pub asked: usize,
    /// Good requests a second.
    pub rate: f64,
    /// Requests that kept each promise, in the order of `slos`.
    pub kept: Vec<usize>,
}

impl Goodput {
    /// Of these requests within so many seconds.
    pub fn new(slos: &[Slo], records: &[&Record], seconds: f64) -> Self {
        let good = records.iter().filter(|record| slos.iter().all(|slo| slo.is_kept(record))).count();
        let kept = slos.iter().map(|slo| records.iter().filter(|record| slo.is_kept(record)).count());
        Self {
            slos: slos.to_vec(),
            good,
            asked: records.len(),
            rate: if seconds > 0.0 { good as f64 / seconds } else { 0.0 },
            kept: kept.collect(),
        }
    }

    /// Share of requests that kept all, 0 to 1.
    pub fn attainment(&self) -> f64 {
        if self.asked == 0 { 0.0 } else { self.good as f64 / self.asked as f64 }
    }
}

//! Whether a run shows the server, or only how fast the client can be.

use std::fmt::{self, Display, Formatter};

use super::Distribution;
use crate::client::Run;
use crate::record::ErrorClass;

/// Above what the client is taken for the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// p99 of the schedule lag in seconds, or the share of the median TTFT below, if that is more.
    pub lag_p99_secs: f64,
    /// p99 of the schedule lag over the median TTFT.
    pub lag_of_ttft: f64,
    /// Requests sent a second over those that the schedule had.
    pub achieved_rate: f64,
    /// Share of a core that a thread of the client computes.
    pub busy: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lag_p99_secs: 0.001, lag_of_ttft: 0.01, achieved_rate: 0.99, busy: 0.9 }
    }
}

/// What is said of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Why the client was the limit; empty for a valid run.
    pub reasons: Vec<String>,
}

impl Verdict {
    /// Whether the figures are the server's.
    pub fn is_valid(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.is_valid() {
            return f.write_str("VALID");
        }
        write!(f, "CLIENT-LIMITED: {}", self.reasons.join("; "))
    }
}

/// Judges a run. What waits for a slot is no fault of the client: the bound was asked for.
pub fn verdict(run: &Run, limits: &Limits) -> Verdict {
    let mut reasons = Vec::new();
    let sent: Vec<_> = run.records.iter().filter(|record| record.started.is_some()).collect();
    let lag = Distribution::new(sent.iter().filter_map(|record| record.schedule_lag()).map(|lag| lag.secs()));
    let ttft = Distribution::new(sent.iter().filter_map(|record| super::definitions::ttft(record)));
    let allowed = limits.lag_p99_secs.max(ttft.median().unwrap_or(0.0) * limits.lag_of_ttft);
    if let Some(p99) = lag.percentile(99.0).filter(|p99| *p99 > allowed) {
        let (found, allowed) = (p99 * 1e3, allowed * 1e3);
        reasons.push(format!("p99 of the schedule lag is {found:.2} ms, expected {allowed:.2} ms or less"));
    }
    // The time that sending took over the time it was meant to take.
    let span = |moments: Vec<u64>| {
        let (first, last) = (moments.iter().min(), moments.iter().max());
        first.zip(last).map_or(0.0, |(first, last)| (last - first) as f64 / 1e9)
    };
    let meant = span(sent.iter().map(|record| record.intended.0).collect());
    let took = span(sent.iter().filter_map(|r| Some(r.started?.since(r.queue_wait()?).0)).collect());
    if meant > 0.1 && took > 0.0 && meant / took < limits.achieved_rate {
        let share = meant / took * 100.0;
        reasons
            .push(format!("requests were sent at {share:.1} % of the offered rate, expected 99 % or more"));
    }
    let busiest = run.used.workers_busy.first().copied().unwrap_or(0.0).max(run.used.coordinator_busy);
    if busiest > limits.busy {
        reasons.push(format!("a thread of the client was busy for {:.0} % of the run", busiest * 100.0));
    }
    let no_connection = |record: &&&crate::record::Record| {
        record.failure().is_some_and(|failure| failure.class == ErrorClass::Connect)
    };
    let count = sent.iter().filter(no_connection).count();
    if count > 0 {
        reasons.push(format!("{count} requests got no connection: out of ports or open files"));
    }
    Verdict { reasons }
}

//! Which part of a run is measured: all of it, without its beginning, or while it was full.

use crate::clock::Nanos;
use crate::record::Record;

/// A part of a run. A request belongs to it by when it was meant to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its begin.
    pub start: Nanos,
    /// Its end.
    pub end: Nanos,
}

impl Window {
    /// From the first moment that was meant to the last end of an answer.
    pub fn whole(records: &[Record]) -> Self {
        let sent = records.iter().filter(|record| record.released.is_some());
        let start = sent.clone().map(|record| record.intended).min().unwrap_or_default();
        Self { start, end: sent.map(|record| record.end).max().unwrap_or(start) }
    }

    /// Its seconds.
    pub fn secs(&self) -> f64 {
        self.end.since(self.start).secs()
    }

    /// Whether a moment is in it.
    pub fn holds(&self, at: Nanos) -> bool {
        (self.start..=self.end).contains(&at)
    }
}

/// Changes of the number of requests under way: when, and how many after it. In order of time.
pub(super) fn in_flight(records: &[Record]) -> Vec<(Nanos, usize)> {
    let mut changes: Vec<(Nanos, i64)> = Vec::with_capacity(records.len() * 2);
    for record in records {
        if let Some(started) = record.started {
            changes.push((started, 1));
            changes.push((record.end, -1));
        }
    }
    // An end before a start of the same moment.
    changes.sort_unstable();
    let mut under_way = 0;
    let step = |(at, change): (Nanos, i64)| {
        under_way += change;
        (at, under_way.max(0) as usize)
    };
    changes.into_iter().map(step).collect()
}

/// While a closed loop was full: from when at least `share` of the most requests were under way for the first time,
/// until they were for the last time. `None` when nothing was under way.
pub fn steady_state(records: &[Record], share: f64) -> Option<Window> {
    let changes = in_flight(records);
    let peak = changes.iter().map(|(_, count)| *count).max()?;
    let full = ((peak as f64 * share).ceil() as usize).max(1);
    let start = changes.iter().find(|(_, count)| *count >= full)?.0;
    let last = changes.iter().rposition(|(_, count)| *count >= full)?;
    let end = changes.get(last + 1).map_or(changes[last].0, |(at, _)| *at);
    Some(Window { start, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;

    #[test]
    fn the_steady_part_is_that_in_which_the_loop_is_full() {
        let record = |start, end| {
            let mut record = Record::planned(0, Nanos(start), Nanos(start), Outcome::Completed);
            (record.released, record.started, record.end) =
                (Some(Nanos(start)), Some(Nanos(start)), Nanos(end));
            record
        };
        let records = [record(0, 50), record(10, 30), record(30, 70), record(55, 60)];
        assert_eq!(steady_state(&records, 0.95), Some(Window { start: Nanos(10), end: Nanos(60) }));
        assert_eq!(Window::whole(&records), Window { start: Nanos(0), end: Nanos(70) });
        assert_eq!(steady_state(&[], 0.95), None);
    }
}

//! Arrivals: a Poisson process whose rate changes with the intervals, and a prompt for each.

use super::Making;
use super::select::Selector;
use crate::commands::aibrix::rows::{self, Group};
use crate::workload::Arrival;

/// What holds in each interval.
pub(super) struct Series {
    /// Length of an interval in milliseconds.
    pub(super) interval_ms: f64,
    /// Requests a second.
    pub(super) rates: Vec<f64>,
    /// Tokens of prompts; `None` takes them as they come.
    pub(super) input: Option<Vec<f64>>,
    /// Tokens of answers; `None` for those that the dataset has.
    pub(super) output: Option<Vec<f64>>,
    /// Sessions from which the next prompt is drawn.
    pub(super) sessions: usize,
}

/// Most requests of a workload, which is a file that is read into memory.
const REQUESTS_LIMIT: usize = 5_000_000;

/// A request for each arrival. Those of one millisecond are one group.
pub(super) fn fill(making: &mut Making<'_>, series: Series) -> anyhow::Result<Vec<Group>> {
    let prompts = rows::read_prompts(&making.config.path("dataset_file")?)?;
    let mut selector = Selector::new(prompts, making.tokens, series.sessions, &mut making.rng)?;
    let (duration, interval) = (making.duration_ms()?, series.interval_ms);
    let highest = series.rates.iter().copied().fold(0.0, f64::max);
    // Far beyond what a Poisson process of the highest rate can have.
    let expected = highest * duration / 1000.0;
    let count = (2.0 * expected + 100.0).min(REQUESTS_LIMIT as f64) as usize;
    let arrival = Arrival::series(series.rates, interval / 1000.0)?;
    let moments = arrival.open_moments(count, &mut making.rng);
    let at = |values: &Option<Vec<f64>>, index: usize| {
        values.as_ref().and_then(|values| values.get(index).or(values.last()).copied())
    };
    let mut groups: Vec<Group> = Vec::new();
    for moment in moments {
        let millis = moment.millis();
        if millis > duration {
            break;
        }
        let index = (millis / interval) as usize;
        let Some(request) =
            selector.next(at(&series.input, index), at(&series.output, index), &mut making.rng)
        else {
            let end = millis.round();
            making
                .notes
                .push(format!("the sessions of the dataset are used up after {end} of {duration} ms"));
            break;
        };
        push(&mut groups, millis.round() as u64, request);
    }
    making.notes.extend(selector.note());
    Ok(groups)
}

/// Adds a request to the group of its moment; moments do not fall.
pub(super) fn push(groups: &mut Vec<Group>, timestamp: u64, request: rows::Request) {
    match groups.last_mut() {
        Some(group) if group.timestamp == timestamp => group.requests.push(request),
        _ => groups.push(Group::new(timestamp, vec![request])),
    }
}

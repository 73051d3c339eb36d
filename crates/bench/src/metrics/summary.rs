//! All figures of a run.

use std::collections::BTreeMap;

use super::window::{self, Window};
use super::{Distribution, Goodput, METRICS, Slo};
use crate::client::Run;
use crate::clock::Nanos;
use crate::record::{Outcome, Record};

/// What a summary is made of.
#[derive(Clone, Debug, Default)]
pub struct SummaryOptions {
    /// The part of the run; `None` for all of it.
    pub window: Option<Window>,
    /// Promises to count.
    pub slos: Vec<Slo>,
}

/// Errors of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorCount {
    /// How many.
    pub count: usize,
    /// What the first of them said.
    pub example: String,
}

/// Amounts by time: what happened within the window, also for requests that began before it or end after it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Throughput {
    /// Completed requests a second.
    pub requests: f64,
    /// Tokens of prompts of completed requests a second.
    pub input_tokens: f64,
    /// Tokens of answers of completed requests a second.
    pub output_tokens: f64,
}

/// All figures of a run, or of a part of it.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The part of the run that it is of.
    pub window: Window,
    /// Seconds of that part.
    pub duration_secs: f64,
    /// Requests in it.
    pub requests: usize,
    /// With a whole answer.
    pub completed: usize,
    /// Without.
    pub failed: usize,
    /// Given up.
    pub cancelled: usize,
    /// Not sent, because no slot was free.
    pub dropped: usize,
    /// Not sent, because the run or the session ended.
    pub skipped: usize,
    /// Failures by class.
    pub errors: BTreeMap<&'static str, ErrorCount>,
    /// Sum over completed requests.
    pub input_tokens: u64,
    /// Sum over completed requests.
    pub output_tokens: u64,
    /// Tokens of prompts that came out of the server's cache; `None` where no answer says.
    pub cached_tokens: Option<u64>,
    /// Completed requests whose tokens the server counted.
    pub counted_by_server: usize,
    /// Amounts by time.
    pub throughput: Throughput,
    /// Figures of completed requests in seconds, by the names of [`METRICS`].
    pub figures: BTreeMap<&'static str, Distribution>,
    /// Most chunks in one second of the run.
    pub peak_chunks_per_second: usize,
    /// Most tokens in one second of the run.
    pub peak_tokens_per_second: f64,
    /// Most requests under way at once.
    pub peak_in_flight: usize,
    /// Mean of requests under way: the sum of their times over the run's.
    pub mean_in_flight: f64,
    /// Promises, when there are any.
    pub goodput: Option<Goodput>,
}

impl Summary {
    /// Of a run.
    pub fn new(run: &Run, options: &SummaryOptions) -> Self {
        Self::of(&run.records, options)
    }

    /// Of records.
    pub fn of(records: &[Record], options: &SummaryOptions) -> Self {
        let window = options.window.unwrap_or_else(|| Window::whole(records));
        let inside: Vec<&Record> = records.iter().filter(|record| window.holds(record.intended)).collect();
        let outside_skipped = records.iter().filter(|record| record.outcome == Outcome::Skipped);
        let completed: Vec<&Record> = inside.iter().copied().filter(|record| record.completed()).collect();
        let count = |outcome: Outcome| inside.iter().filter(|record| record.outcome == outcome).count();
        let seconds = window.secs();
        let per_second = |amount: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
        let done = records.iter().filter(|record| record.completed());
        let done: Vec<&Record> = done.collect();
        let sum = |tokens: fn(&Record) -> u32| {
            completed.iter().map(|record| u64::from(tokens(record))).sum::<u64>()
        };
        let (input_tokens, output_tokens) = (sum(Record::prompt_tokens), sum(Record::output_tokens));
        let mut errors = BTreeMap::<&'static str, ErrorCount>::new();
        for failure in inside.iter().filter_map(|record| record.failure()) {
            let entry = errors.entry(failure.class.name());
            entry.or_insert_with(|| ErrorCount { count: 0, example: failure.message.clone() }).count += 1;
        }
        let figures = METRICS.iter().map(|metric| {
            let values = completed.iter().flat_map(|record| (metric.values)(record));
            (metric.name, Distribution::new(values))
        });
        let cached: Vec<u64> =
            completed.iter().filter_map(|record| record.usage.cached.map(u64::from)).collect();
        let busy: f64 = completed.iter().map(|record| record.end.since(record.service_start()).secs()).sum();
        let (peak_chunks, peak_tokens) = peaks(&completed, window.start);
        let under_way = window::in_flight(records);
        let asked: Vec<&Record> = inside
            .iter()
            .copied()
            .filter(|record| !matches!(record.outcome, Outcome::Cancelled | Outcome::Skipped))
            .collect();
        Self {
            window,
            duration_secs: seconds,
            requests: inside.len(),
            completed: completed.len(),
            failed: inside.iter().filter(|record| record.failure().is_some()).count(),
            cancelled: count(Outcome::Cancelled),
            dropped: count(Outcome::Dropped),
            skipped: outside_skipped.count(),
            errors,
            input_tokens,
            output_tokens,
            cached_tokens: (!cached.is_empty()).then(|| cached.iter().sum()),
            counted_by_server: completed.iter().filter(|record| record.usage.output.is_some()).count(),
            throughput: Throughput {
                requests: per_second(done.iter().filter(|record| window.holds(record.end)).count() as f64),
                input_tokens: per_second(input_within(&done, &window)),
                output_tokens: per_second(done.iter().map(|record| output_within(record, &window)).sum()),
            },
            figures: figures.collect(),
            peak_chunks_per_second: peak_chunks,
            peak_tokens_per_second: peak_tokens,
            peak_in_flight: under_way.iter().map(|(_, count)| *count).max().unwrap_or(0),
            mean_in_flight: per_second(busy),
            goodput: (!options.slos.is_empty()).then(|| Goodput::new(&options.slos, &asked, seconds)),
        }
    }

    /// A figure by its name in [`METRICS`].
    pub fn figure(&self, name: &str) -> Option<&Distribution> {
        self.figures.get(name)
    }

    /// Share of the requests that were sent and not cancelled which failed, 0 to 1.
    pub fn error_rate(&self) -> f64 {
        let ended = self.completed + self.failed;
        if ended == 0 { 0.0 } else { self.failed as f64 / ended as f64 }
    }
}

/// Tokens of prompts that were computed within a window: those whose first token is in it.
fn input_within(records: &[&Record], window: &Window) -> f64 {
    let inside = records.iter().filter(|record| window.holds(record.first_token.unwrap_or(record.end)));
    inside.map(|record| f64::from(record.prompt_tokens())).sum()
}

/// Tokens of an answer that came within a window.
fn output_within(record: &Record, window: &Window) -> f64 {
    let tokens = f64::from(record.output_tokens());
    if record.chunks.is_empty() {
        return if window.holds(record.end) { tokens } else { 0.0 };
    }
    let inside = record.chunks.iter().filter(|chunk| window.holds(chunk.at)).count();
    tokens * inside as f64 / record.chunks.len() as f64
}

/// Most chunks and most tokens within one second, in seconds counted from `start`.
fn peaks(records: &[&Record], start: Nanos) -> (usize, f64) {
    let mut seconds = BTreeMap::<u64, (usize, f64)>::new();
    for record in records {
        let even = f64::from(record.output_tokens()) / record.chunks.len().max(1) as f64;
        let said = record.chunks.iter().all(|chunk| chunk.tokens > 0);
        for chunk in &record.chunks {
            let second = seconds.entry(chunk.at.since(start).0 / 1_000_000_000).or_default();
            second.0 += 1;
            second.1 += if said { f64::from(chunk.tokens) } else { even };
        }
    }
    let most = |a: (usize, f64), b: (usize, f64)| (a.0.max(b.0), a.1.max(b.1));
    seconds.into_values().fold((0, 0.0), most)
}

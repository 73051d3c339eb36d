//! What is shown while a run goes: a line on stderr, where that is a terminal.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::client::{Observer, Progress};
use crate::metrics::Streaming;
use crate::record::Record;

/// A bar with the figures so far.
pub struct Bar {
    bar: ProgressBar,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    ttft: Streaming,
    tokens: u64,
}

impl Bar {
    /// For so many requests; `quiet` shows nothing.
    pub fn new(requests: usize, quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        let target =
            if shown { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(requests as u64), target);
        // The template is a constant, and one that was wrong would show the default.
        if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Self { bar, seen: Mutex::default() }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Bar {
    fn finished(&self, record: &Record, _: &Progress) {
        if let (true, Some(first)) = (record.completed(), record.first_token) {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.ttft.record(first.since(record.service_start()).secs());
            seen.tokens += u64::from(record.output_tokens());
        }
    }

    fn tick(&self, progress: &Progress) {
        self.bar.set_position(progress.finished as u64);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut message = format!("{} under way", progress.in_flight);
        if progress.waiting > 0 {
            message += &format!(", {} waiting", progress.waiting);
        }
        if progress.failed > 0 {
            message += &format!(", {} FAILED", progress.failed);
        }
        if let (Some(p50), Some(p99)) = (seen.ttft.percentile(50.0), seen.ttft.percentile(99.0)) {
            let rate = seen.tokens as f64 / progress.at.secs().max(1e-9);
            message += &format!(", TTFT p50 {:.0} ms p99 {:.0} ms, {rate:.0} tokens/s", p50 * 1e3, p99 * 1e3);
        }
        self.bar.set_message(message);
    }
}

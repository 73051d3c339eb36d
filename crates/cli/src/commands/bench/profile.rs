//! `pie bench --profile`: the operations of a batch, each beside its own limit.

use std::sync::Arc;
use std::time::Duration;

use backend_cpu::{CpuBackend, Operation, Profile};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::{Kind, Machine, Test};

/// An operation in the runs of one test.
#[derive(Serialize)]
pub(super) struct Row {
    operation: &'static str,
    /// Of one batch, on all threads at once.
    ms: f64,
    share: f64,
    /// Of products: multiplications and additions, and of the machine's int8 rate; bytes of weights, and of its bandwidth.
    gop_per_s: Option<f64>,
    int8_share: Option<f64>,
    gb_per_s: Option<f64>,
    bandwidth_share: Option<f64>,
}

/// Watches the runs of a test.
pub(super) struct Profiler {
    profile: Arc<Profile>,
    /// Times of each run.
    runs: Vec<[Duration; Operation::ALL.len()]>,
}

impl Profiler {
    pub(super) fn of(backend: &mut CpuBackend) -> Profiler {
        Profiler { profile: backend.profile(), runs: Vec::new() }
    }

    /// What was computed before does not count.
    pub(super) fn reset(&self) {
        self.profile.reset();
    }

    /// Ends a run.
    pub(super) fn take(&mut self) {
        self.runs.push(Operation::ALL.map(|operation| self.profile.time(operation)));
    }

    /// The table of all runs of a test, each operation at the median of its times; the next test begins.
    pub(super) fn rows(&mut self, test: &Test, backend: &CpuBackend, machine: &Machine) -> Vec<Row> {
        let runs = std::mem::take(&mut self.runs);
        let median = |operation: Operation| {
            let mut times: Vec<Duration> = runs.iter().map(|times| times[operation as usize]).collect();
            times.sort();
            times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() / machine.threads as f64
        };
        let batches = f64::from(test.batches(backend));
        let whole: f64 = Operation::ALL.into_iter().map(median).sum();
        let row = |operation: Operation| {
            let (seconds, cost) = (median(operation), backend.cost(operation));
            let rows = match (operation, test.kind) {
                // A prompt asks once. The output matrix meets each row twice: its values, and what rounding left.
                (Operation::Head, Kind::Prefill) => 2.0 * f64::from(test.batch),
                (Operation::Head, Kind::Decode) => 2.0 * f64::from(test.all_tokens()),
                _ => f64::from(test.all_tokens()),
            };
            let reads = match (operation, test.kind) {
                (Operation::Head, Kind::Prefill) => 1.0,
                _ => batches,
            };
            let is_product = cost.multiplications > 0 && seconds > 0.0;
            let gop = is_product.then(|| 2.0 * cost.multiplications as f64 * rows / seconds / 1e9);
            let gb = is_product.then(|| cost.bytes as f64 * reads / seconds / 1e9);
            Row {
                operation: operation.name(),
                ms: seconds * 1e3 / batches,
                share: seconds / whole,
                gop_per_s: gop,
                int8_share: gop.map(|gop| gop / machine.int8_gop_per_s),
                gb_per_s: gb,
                bandwidth_share: gb.map(|gb| gb / machine.read_gb_per_s),
            }
        };
        Operation::ALL.into_iter().map(row).filter(|row| row.ms > 0.0).collect()
    }
}

/// As text, below the table of speeds.
pub(super) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["operation", "ms a batch", "share", "GOP/s", "of int8", "GB/s", "of bandwidth"]);
    for row in rows {
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1}"));
        let percent =
            |value: Option<f64>| value.map_or_else(String::new, |value| format!("{:.0} %", value * 100.0));
        table.add_row([
            row.operation.to_string(),
            format!("{:.3}", row.ms),
            format!("{:.1} %", row.share * 100.0),
            number(row.gop_per_s),
            percent(row.int8_share),
            number(row.gb_per_s),
            percent(row.bandwidth_share),
        ]);
    }
    table
}

//! Criterion with a table at its end: what share of the machine's limits each case reaches.
//!
//! A case says what one run of it does: 8-bit operations, f32 operations, and bytes that it reads of so many. The limits
//! are measured in the same process, once the cases are done: what the multipliers do with operands in registers, and how
//! fast a buffer of that many bytes is read, which is the bandwidth of the cache or memory that it fits. The least time
//! that a case could take is that of whichever of the three takes longest, and its share is this divided by its own.
//!
//! The time of a case is that of the fastest sample, as limits are the best of some rounds: what other processes disturb
//! is left out of both. Criterion's own figures above the table are estimates of the typical time.

use criterion::{Criterion, Throughput};
use kernels::{Isa, measure};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What one run of a case does.
#[derive(Clone, Copy, Default)]
pub(crate) struct Work {
    /// Multiplications and additions of 8-bit products, on all threads.
    pub(crate) int8_ops: usize,
    /// Those of 16-bit products, each of which takes the place of two.
    pub(crate) int16_ops: usize,
    /// Operations on f32.
    pub(crate) f32_ops: usize,
    /// Bytes read.
    pub(crate) bytes: usize,
    /// Bytes among which they are: those that runs go through before they come back to the first.
    pub(crate) of_bytes: usize,
}

/// The cases, and what they took.
pub(crate) struct Shares {
    criterion: Criterion,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    isa: Isa,
    threads: usize,
    work: Work,
    /// Seconds of a run.
    fastest: f64,
}

impl Shares {
    /// Takes Criterion's arguments from the command line: a filter, and others that `--help` lists.
    pub(crate) fn from_arguments() -> Shares {
        let criterion = Criterion::default()
            .sample_size(20)
            .warm_up_time(Duration::from_millis(50))
            .measurement_time(Duration::from_millis(200))
            .nresamples(2000)
            .without_plots()
            .configure_from_args();
        Shares { criterion, rows: Vec::new() }
    }

    /// Whether cases are measured, and not run once to see that they work, as `cargo test --benches` does.
    pub(crate) fn is_measuring() -> bool {
        let has = |flag: &str| std::env::args().any(|argument| argument == flag);
        has("--bench") && !has("--test") && !has("--list")
    }

    /// The instruction sets worth measuring.
    pub(crate) fn isas() -> impl Iterator<Item = Isa> {
        Isa::available().into_iter().filter(|isa| *isa != Isa::SCALAR || Isa::available().len() == 1)
    }

    /// A case of a group on one thread, prepared when the filter lets it through.
    pub(crate) fn case<F: FnMut()>(
        &mut self,
        group: &str,
        isa: Isa,
        name: &str,
        throughput: Throughput,
        prepare: impl Fn() -> (Work, F),
    ) {
        self.case_on(1, group, isa, name, throughput, prepare);
    }

    /// A case that runs on several threads itself.
    pub(crate) fn case_on<F: FnMut()>(
        &mut self,
        threads: usize,
        group: &str,
        isa: Isa,
        name: &str,
        throughput: Throughput,
        prepare: impl Fn() -> (Work, F),
    ) {
        let mut prepared = None;
        let mut fastest = f64::INFINITY;
        let mut benchmarks = self.criterion.benchmark_group(group);
        benchmarks.throughput(throughput).bench_function(format!("{isa} {name}"), |bencher| {
            let (_, run) = prepared.get_or_insert_with(&prepare);
            bencher.iter_custom(|count| {
                let start = Instant::now();
                (0..count).for_each(|_| run());
                let taken = start.elapsed();
                fastest = fastest.min(taken.as_secs_f64() / count as f64);
                taken
            });
        });
        benchmarks.finish();
        if let Some((work, _)) = prepared {
            self.rows.push(Row { name: format!("{group} {isa} {name}"), isa, threads, work, fastest });
        }
    }

    /// Prints the table.
    pub(crate) fn finish(self) {
        self.criterion.final_summary();
        if !Shares::is_measuring() || self.rows.is_empty() {
            return;
        }
        let mut limits = Limits::default();
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        println!("{:width$} {:>9} {:>8} {:>8} {:>6}  of", "", "µs", "GOP/s", "GB/s", "share");
        for row in &self.rows {
            let (least, limit) = limits.least_seconds(row);
            let giga = |count: usize| count as f64 / row.fastest / 1e9;
            println!(
                "{:width$} {:>9.2} {:>8.1} {:>8.1} {:>4.0} %  {limit}",
                row.name,
                row.fastest * 1e6,
                giga(row.work.int8_ops + row.work.int16_ops + row.work.f32_ops),
                giga(row.work.bytes),
                100.0 * least / row.fastest,
            );
        }
    }
}

/// What the machine can do, each measured when it is first asked for.
#[derive(Default)]
struct Limits {
    by_name: BTreeMap<String, f64>,
}

impl Limits {
    /// Seconds that a case takes at least, and the limit that says so.
    fn least_seconds(&mut self, row: &Row) -> (f64, String) {
        let Row { isa, threads, work, .. } = *row;
        // Sizes in powers of two, so that few are measured.
        let size = work.of_bytes.next_power_of_two().max(4096);
        let all = [
            self.of("int8", "GOP/s", work.int8_ops + 2 * work.int16_ops, row, || {
                measure::int8_rate(isa, threads)
            }),
            self.of("f32", "GOP/s", work.f32_ops, row, || measure::f32_rate(isa, threads)),
            self.of(&format!("read {}", readable(size)), "GB/s", work.bytes, row, || {
                measure::read_bandwidth(isa, threads, size)
            }),
        ];
        all.into_iter().max_by(|(a, _), (b, _)| a.total_cmp(b)).expect("three limits")
    }

    /// Seconds for `count` at a limit, and its name.
    fn of(
        &mut self,
        name: &str,
        unit: &str,
        count: usize,
        row: &Row,
        rate: impl FnOnce() -> f64,
    ) -> (f64, String) {
        if count == 0 {
            return (0.0, String::new());
        }
        let key = format!("{name} {} {}", row.isa, row.threads);
        let rate = *self.by_name.entry(key).or_insert_with(rate);
        (count as f64 / rate, format!("{name}, {:.0} {unit}", rate / 1e9))
    }
}

fn readable(bytes: usize) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        mib => format!("{mib} MiB"),
    }
}

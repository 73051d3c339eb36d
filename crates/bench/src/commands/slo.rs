//! `pie-bench slo`: the highest rate or number of users at which the promises are kept, by bisection.
//!
//! ```text
//! double the load until a run fails -> between the last that passed and the first that failed, halve the gap
//! ```

use std::process::ExitCode;

use anyhow::ensure;
use clap::{Args, ValueEnum};

use super::interrupt;
use super::prepare::MeasureFlags;
use super::sweep::{Point, line};
use crate::client::Stop;
use crate::report::{Report, files, json};

/// What is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Vary {
    /// Requests a second.
    Rate,
    /// Users of a closed loop.
    Users,
}

/// What is searched for.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  pie-bench slo --goodput ttft_response:500 tpot:50 --attainment 0.95 --from 1 --num-prompts 100")]
pub struct SloFlags {
    #[command(flatten)]
    measure: MeasureFlags,
    /// What is varied.
    #[arg(long, value_enum, default_value_t = Vary::Rate)]
    vary: Vary,
    /// The first load.
    #[arg(long, default_value_t = 1.0)]
    from: f64,
    /// The highest load.
    #[arg(long, default_value_t = 10_000.0)]
    to: f64,
    /// Share of the requests that must keep all promises of --goodput.
    #[arg(long, default_value_t = 0.99)]
    attainment: f64,
    /// The gap between pass and fail at which the search ends, as a share of the load.
    #[arg(long, default_value_t = 0.05)]
    precision: f64,
}

/// How far a search is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Search {
    passed: Option<f64>,
    failed: Option<f64>,
    from: f64,
    to: f64,
    precision: f64,
    whole: bool,
}

impl Search {
    /// The next load to try; `None` when the search is over.
    fn next(&self) -> Option<f64> {
        let load = match (self.passed, self.failed) {
            (None, None) => self.from,
            (Some(passed), None) if passed >= self.to => return None,
            (Some(passed), None) => (passed * 2.0).min(self.to),
            // Not even the first: look below it, down to a hundredth.
            (None, Some(failed)) if failed <= self.from / 100.0 || (self.whole && failed <= 1.0) => {
                return None;
            }
            (None, Some(failed)) => failed / 2.0,
            (Some(passed), Some(failed)) if (failed - passed) / passed <= self.precision => return None,
            (Some(passed), Some(failed)) => (passed + failed) / 2.0,
        };
        let load = if self.whole { load.floor().max(1.0) } else { load };
        (self.passed != Some(load)).then_some(load)
    }
}

fn passes(report: &Report, attainment: f64) -> bool {
    let goodput = report.summary.goodput.as_ref();
    report.summary.completed > 0 && goodput.is_some_and(|goodput| goodput.attainment() >= attainment)
}

/// Searches, and prints every run and the result.
///
/// # Errors
/// When a run cannot begin.
pub fn run(flags: SloFlags) -> anyhow::Result<ExitCode> {
    ensure!(!flags.measure.output.goodput.is_empty(), "say the promises: --goodput ttft:500 tpot:50");
    ensure!(flags.from > 0.0 && flags.from <= flags.to, "--from and --to: expected 0 < from <= to");
    ensure!(
        (0.0..=1.0).contains(&flags.attainment),
        "--attainment: found {}, expected 0 to 1",
        flags.attainment
    );
    ensure!(flags.precision > 0.0, "--precision: found {}, expected above 0", flags.precision);
    let prepared = flags.measure.prepare()?;
    let stop = Stop::default();
    interrupt::watch(&stop)?;
    let whole = flags.vary == Vary::Users;
    let mut search = Search {
        passed: None,
        failed: None,
        from: flags.from,
        to: flags.to,
        precision: flags.precision,
        whole,
    };
    let mut reports = Vec::new();
    let mut limited = false;
    println!(
        "{:<14}{:>8}{:>10}{:>10}{:>10}{:>10}{:>12}{:>10}  verdict",
        "load", "req/s", "tokens/s", "TTFT p50", "TTFT p99", "TPOT p50", "E2E resp p99", "good %"
    );
    while let Some(load) = search.next() {
        let point = if whole { Point::Users(load as usize) } else { Point::Rate(load) };
        let report = point.measure(&prepared, &stop)?;
        let pass = passes(&report, flags.attainment);
        println!("{:<14}{} {}", point.name(), line(&report), if pass { "pass" } else { "FAIL" });
        if stop.is_stopped() {
            break;
        }
        *(if pass { &mut search.passed } else { &mut search.failed }) = Some(load);
        limited |= !pass && !report.verdict.is_valid();
        reports.push(json::of_load(&report, &point.name()));
    }
    let unit = if whole { "users" } else { "requests a second" };
    if let Some(path) = &prepared.output().output_json {
        let found = serde_json::json!({
            "unit": unit, "attainment": flags.attainment, "passed": search.passed, "failed": search.failed,
        });
        let found = found.as_object().cloned().unwrap_or_default();
        files::write(path, format!("{:#}\n", json::collection("slo", found, reports)).as_bytes())?;
        println!("Written: {}", path.display());
    }
    match (search.passed, search.failed) {
        (Some(passed), Some(failed)) => println!("\nAt most {passed:.4} {unit}: {failed:.4} are too many"),
        (Some(passed), None) => println!("\nAt least {passed:.4} {unit}: no load was too much; raise --to"),
        (None, _) => println!("\nNot even {:.4} {unit}", search.failed.unwrap_or(flags.from)),
    }
    if limited {
        println!("A load that failed was CLIENT-LIMITED: the server may be capable of more");
    }
    Ok(if search.passed.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boundary(truth: f64, whole: bool) -> Search {
        let mut search = Search { passed: None, failed: None, from: 1.0, to: 1000.0, precision: 0.05, whole };
        for _ in 0..100 {
            let Some(load) = search.next() else { return search };
            *(if load <= truth { &mut search.passed } else { &mut search.failed }) = Some(load);
        }
        panic!("the search does not end: {search:?}");
    }

    #[test]
    fn the_search_ends_at_the_boundary() {
        for truth in [0.07, 0.9, 1.0, 37.0, 640.0] {
            let search = boundary(truth, false);
            let (passed, failed) = (search.passed.unwrap(), search.failed.unwrap());
            assert!(passed <= truth && truth < failed && failed / passed <= 1.0501, "{truth}: {search:?}");
        }
        assert_eq!(boundary(5.0, true).passed, Some(5.0));
        assert_eq!((boundary(1e9, false).passed, boundary(0.0, false).passed), (Some(1000.0), None));
    }
}

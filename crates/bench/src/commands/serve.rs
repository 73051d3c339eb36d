//! `pie-bench serve`: measure a server under a load, with the flags of `vllm bench serve`.

use std::process::ExitCode;

use clap::Args;

use super::interrupt;
use super::prepare::MeasureFlags;
use crate::client::Stop;
use crate::metrics::Distribution;
use crate::report::terminal::{self, millis};
use crate::report::{self, Report};

/// What is measured.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeFlags {
    #[command(flatten)]
    measure: MeasureFlags,
    /// Measure so often; figures between runs are printed with their interval.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
}

const EXAMPLES: &str = "\
Examples:
  pie-bench serve --model m --dataset-name random --random-input-len 512 --random-output-len 64 --request-rate 4
  pie-bench serve --dataset-name sharegpt --dataset-path ShareGPT.json --max-concurrency 16 --save-result
  pie-bench serve --dataset-name mooncake --dataset-path trace.jsonl --arrival trace:10 --goodput ttft:500 tpot:50
  pie-bench serve --request-rate 8 --num-prompts 200 --output-html report.html --output-json report.json --repeats 3";

/// Measures, prints the report and writes what was asked for.
///
/// # Errors
/// When nothing could be measured.
pub fn run(flags: ServeFlags) -> anyhow::Result<ExitCode> {
    let prepared = flags.measure.prepare()?;
    let stop = Stop::default();
    interrupt::watch(&stop)?;
    let mut reports: Vec<Report> = Vec::new();
    for repeat in 0..flags.repeats {
        let report = prepared.measure(&prepared.load(), prepared.samples.len(), &stop)?;
        if flags.repeats > 1 {
            println!("Run {} of {}", repeat + 1, flags.repeats);
        }
        print!("{}", terminal::text(&report));
        let number = (flags.repeats > 1).then_some(repeat + 1);
        for path in report::write_all(&report, &prepared.output().files(), number)? {
            println!("Written: {}", path.display());
        }
        reports.push(report);
        if stop.is_stopped() {
            break;
        }
    }
    if reports.len() > 1 {
        print!("{}", between_runs(&reports));
    }
    let completed = reports.iter().all(|report| report.summary.completed > 0);
    Ok(if completed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How figures differ from run to run: mean, coefficient of variation, and the interval of the mean by Student's t.
fn between_runs(reports: &[Report]) -> String {
    // Two-sided 95 % quantiles for 1 to 10 degrees of freedom.
    const T: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    let mut out = format!("\n{:<24}{:>12}{:>10}  95 % sure\n", "over the runs", "mean", "CV");
    let medians = ["ttft", "tpot", "e2el", "e2el_response"];
    let mut rows: Vec<(String, Vec<f64>, bool)> = medians
        .iter()
        .map(|name| {
            let values = reports.iter().filter_map(|report| report.summary.figure(name)?.median());
            (format!("{name} p50, ms"), values.collect(), true)
        })
        .collect();
    let throughput = reports.iter().map(|report| report.summary.throughput.output_tokens).collect();
    rows.push(("output tokens a second".into(), throughput, false));
    for (name, values, is_time) in rows {
        let values = Distribution::new(values);
        let (Some(mean), Some(deviation)) = (values.mean(), values.std_sample()) else { continue };
        let freedom = values.count().saturating_sub(1);
        let t = T.get(freedom.saturating_sub(1)).copied().unwrap_or(1.96);
        let half = t * deviation / (values.count() as f64).sqrt();
        let shown = |value: f64| if is_time { millis(value) } else { format!("{value:.1}") };
        let variation = deviation / mean * 100.0;
        let (low, high) = (shown((mean - half).max(0.0)), shown(mean + half));
        out += &format!("{name:<24}{:>12}{variation:>8.1} %  {low} .. {high}\n", shown(mean));
    }
    out
}

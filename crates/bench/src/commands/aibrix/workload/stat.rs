//! `stat`: rates and lengths that a monitoring system recorded, as its dashboards export them.
//!
//! ```text
//! maas       traffic            Time, Total, Success, 4xx Error[, 5xx Error]
//!            prompts, answers   Time, P50, P70, P90 or P95, P99
//! cloudide   traffic            Time, <any name>
//!            prompts, answers   Time, recv_bytes.rate@.., sent_bytes.rate@..   (amounts a second, of all requests)
//! ```
//!
//! A section is what lies between two rows. In it the rate of each second is drawn from a Poisson distribution about
//! the recorded one and smoothed over ten seconds; lengths are drawn from the log-normal distribution that fits the
//! percentiles best, with the recorded median, and a wave of a fifth of it.

use std::path::Path;

use fastrand::Rng;

use super::process::{self, Series};
use super::{Making, Spec};
use crate::commands::aibrix::rows::Group;
use crate::dataset::azure;
use crate::dataset::rows::{Row, Rows};
use crate::draw;
use crate::metrics::Distribution;

pub(super) const SPEC: Spec = Spec { name: "stat", make };

/// Columns of percentiles with the standard normal quantile of each.
const PERCENTILES: [(&str, f64); 5] =
    [("P50", 0.0), ("P70", 0.524_400_5), ("P90", 1.281_551_6), ("P95", 1.644_853_6), ("P99", 2.326_347_9)];

/// Seconds over which rates are smoothed.
const SMOOTHED: usize = 10;

/// A row of a file: its moment in seconds, and its values.
struct Recorded<T> {
    at: f64,
    values: T,
}

/// A row's `Time`: a date, or milliseconds or seconds since 1970.
fn moment(rows: &Rows, row: &Row) -> anyhow::Result<f64> {
    let date = row.values.get("Time").and_then(|value| value.as_str()).and_then(azure::seconds);
    if let Some(date) = date {
        return Ok(date);
    }
    let number = rows.number(row, &["Time"])?;
    // Seconds reach this in the year 5138.
    Ok(if number >= 1e11 { number / 1000.0 } else { number })
}

/// A cell as a number, 0 or more; what a dashboard has no value for is 0.
fn cell(rows: &Rows, row: &Row, name: &str) -> anyhow::Result<f64> {
    if matches!(row.values.get(name).and_then(|value| value.as_str()), Some("undefined" | "")) {
        return Ok(0.0);
    }
    let number = rows.number(row, &[name])?;
    if number < 0.0 {
        Err(rows.malformed(row, number.to_string(), format!("0 or more as {name}")))?;
    }
    Ok(number)
}

fn read<T>(
    path: &Path,
    values: impl Fn(&Rows, &Row) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<Recorded<T>>> {
    let rows = Rows::read(path)?;
    let record = |row| Ok(Recorded { at: moment(&rows, row)?, values: values(&rows, row)? });
    let mut list = rows.rows.iter().map(record).collect::<anyhow::Result<Vec<_>>>()?;
    list.sort_by(|a, b| a.at.total_cmp(&b.at));
    anyhow::ensure!(list.len() >= 2, "`{}`: found {} rows, expected 2 or more", path.display(), list.len());
    Ok(list)
}

/// A log-normal distribution: mean and deviation of the logarithm, and the median that was recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Lengths {
    mu: f64,
    sigma: f64,
    median: f64,
}

impl Lengths {
    /// That whose quantiles are nearest to `(quantile of the standard normal, length)`: the line through the
    /// logarithms with the least squares in the quantiles.
    fn fit(points: &[(f64, f64)], median: f64) -> Self {
        let points: Vec<(f64, f64)> = points.iter().map(|(z, length)| (*z, length.max(1.0).ln())).collect();
        let count = points.len() as f64;
        let (z, log) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        let (z, log) = (z / count, log / count);
        let both: f64 = points.iter().map(|point| (point.0 - z) * (point.1 - log)).sum();
        let spread: f64 = points.iter().map(|point| (point.1 - log).powi(2)).sum();
        let median = median.max(1.0);
        // Percentiles that are all alike, or fall, are a length and no distribution.
        if both <= 0.0 || spread <= 1e-12 {
            return Self { mu: median.ln(), sigma: 0.0, median };
        }
        let sigma = spread / both;
        Self { mu: log - z * sigma, sigma, median }
    }

    /// A length for each second of a section.
    fn seconds(&self, count: usize, rng: &mut Rng) -> Vec<f64> {
        let drawn: Vec<f64> = (0..count).map(|_| draw::log_normal(rng, self.mu, self.sigma)).collect();
        let found = Distribution::new(drawn.iter().copied()).median().unwrap_or(1.0);
        let value = |(second, length): (usize, f64)| {
            let wave = 0.2 * self.median * (std::f64::consts::TAU * second as f64 / count as f64).sin();
            (length * self.median / found + wave).max(1.0)
        };
        drawn.into_iter().enumerate().map(value).collect()
    }
}

/// Lengths by their percentiles.
fn percentiles(rows: &Rows, row: &Row) -> anyhow::Result<Lengths> {
    let median = cell(rows, row, "P50")?;
    let mut points = Vec::new();
    for (name, quantile) in PERCENTILES {
        if row.values.contains_key(name) {
            points.push((quantile, cell(rows, row, name)?));
        }
    }
    Ok(Lengths::fit(&points, median))
}

/// Sum of the columns whose names begin so.
fn amounts(rows: &Rows, row: &Row, prefix: &str) -> anyhow::Result<f64> {
    let names: Vec<&String> = row.values.keys().filter(|name| name.starts_with(prefix)).collect();
    if names.is_empty() {
        let columns: Vec<&str> = row.values.keys().map(String::as_str).collect();
        Err(rows.malformed(
            row,
            format!("columns {}", columns.join(", ")),
            format!("one that begins with {prefix}"),
        ))?;
    }
    names.into_iter().map(|name| cell(rows, row, name)).sum()
}

/// What holds from a moment to the next.
struct Section {
    seconds: usize,
    rate: f64,
    input: Lengths,
    output: Lengths,
}

/// The row of the same moment, where there is one.
fn same<T: Copy>(list: &[Recorded<T>], at: f64) -> Option<T> {
    list.iter().find(|row| (row.at - at).abs() < 0.5).map(|row| row.values)
}

fn sections(making: &Making<'_>) -> anyhow::Result<Vec<Section>> {
    let config = making.config;
    let key = |name: &str| format!("workload_configs.stat.{name}");
    let file = |name: &str| config.path(&key(name));
    let kind = config.text(&key("stat_trace_type"))?;
    let (traffic, prompts, answers) =
        (file("traffic_file")?, file("prompt_len_file")?, file("completion_len_file")?);
    let (rates, input, output) = match kind.as_str() {
        "maas" => (
            read(&traffic, |rows, row| cell(rows, row, "Success"))?,
            read(&prompts, percentiles)?,
            read(&answers, percentiles)?,
        ),
        "cloudide" => {
            let rates = read(&traffic, |rows, row| {
                let name = row.values.keys().find(|name| *name != "Time").cloned();
                cell(rows, row, &name.unwrap_or_else(|| "a rate".into()))
            })?;
            let lengths = |path: &Path, prefix: &str| -> anyhow::Result<Vec<Recorded<Lengths>>> {
                let amounts = read(path, |rows, row| amounts(rows, row, prefix))?;
                let length = |row: Recorded<f64>| {
                    let rate = same(&rates, row.at).unwrap_or(0.0);
                    let length = if rate > 0.0 { row.values / rate } else { 0.0 };
                    Recorded { at: row.at, values: Lengths::fit(&[], length) }
                };
                Ok(amounts.into_iter().map(length).collect())
            };
            let (input, output) =
                (lengths(&prompts, "recv_bytes.rate@")?, lengths(&answers, "sent_bytes.rate@")?);
            (rates, input, output)
        }
        other => anyhow::bail!("`{}`: found `{other}`, expected maas or cloudide", key("stat_trace_type")),
    };
    let step = (rates[rates.len() - 1].at - rates[0].at) / (rates.len() - 1) as f64;
    let seconds = (step.round() as usize).clamp(1, 86_400);
    let joined = rates.iter().filter_map(|row| {
        let (input, output) = (same(&input, row.at)?, same(&output, row.at)?);
        Some(Section { seconds, rate: row.values, input, output })
    });
    let joined: Vec<Section> = joined.collect();
    anyhow::ensure!(
        !joined.is_empty(),
        "no `Time` is in all of `{}`, `{}` and `{}`",
        traffic.display(),
        prompts.display(),
        answers.display()
    );
    Ok(joined)
}

/// A mean over the seconds before and this one.
fn smoothed(values: &[f64]) -> Vec<f64> {
    let mean = |index: usize| {
        let before = &values[(index + 1).saturating_sub(SMOOTHED)..=index];
        (before.iter().sum::<f64>() / before.len() as f64).max(1.0)
    };
    (0..values.len()).map(mean).collect()
}

fn make(making: &mut Making<'_>) -> anyhow::Result<Vec<Group>> {
    let sections = sections(making)?;
    let config = making.config;
    let scale = |name: &str| config.positive(&format!("workload_configs.stat.{name}"));
    let (rate_scale, input_scale, output_scale) =
        (scale("qps_scale")?, scale("input_scale")?, scale("output_scale")?);
    let wanted = (making.duration_ms()? / 1000.0).ceil() as usize;
    let (mut rates, mut input, mut output) = (Vec::new(), Vec::new(), Vec::new());
    for section in sections {
        if rates.len() >= wanted {
            break;
        }
        let rng = &mut making.rng;
        rates.extend((0..section.seconds).map(|_| draw::poisson(rng, section.rate) as f64));
        input.extend(section.input.seconds(section.seconds, rng));
        output.extend(section.output.seconds(section.seconds, rng));
    }
    if rates.len() < wanted {
        making.notes.push(format!("the files have {} s, duration_ms asks for {wanted} s", rates.len()));
    }
    let divide = |values: Vec<f64>, scale: f64| values.into_iter().map(|value| value / scale).collect();
    let series = Series {
        interval_ms: 1000.0,
        rates: divide(smoothed(&rates), rate_scale),
        input: Some(divide(input, input_scale)),
        output: Some(divide(output, output_scale)),
        sessions: config.count("workload_configs.stat.max_concurrent_sessions")?.max(1) as usize,
    };
    process::fill(making, series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_normal_is_found_again_from_its_percentiles() {
        let points: Vec<(f64, f64)> =
            PERCENTILES.iter().map(|(_, z)| (*z, (5.0f64 + 0.7 * z).exp())).collect();
        let found = Lengths::fit(&points, points[0].1);
        assert!((found.mu - 5.0).abs() < 1e-9 && (found.sigma - 0.7).abs() < 1e-9, "{found:?}");
        assert_eq!(Lengths::fit(&[(0.0, 9.0), (1.0, 9.0)], 9.0).sigma, 0.0);
        let seconds = found.seconds(1001, &mut Rng::with_seed(1));
        assert!(seconds.iter().all(|length| *length >= 1.0));
        // The wave is as much above as below.
        let median = Distribution::new(seconds).median().unwrap();
        assert!((median / found.median - 1.0).abs() < 0.1, "{median} is not near {}", found.median);
    }

    #[test]
    fn rates_are_smoothed_over_ten_seconds_and_are_one_or_more() {
        let mut values = vec![0.0; 30];
        values[5] = 100.0;
        let smooth = smoothed(&values);
        assert!((smooth[5] - 100.0 / 6.0).abs() < 1e-9 && smooth[14] == 10.0 && smooth[15] == 1.0);
    }
}

//! The plots of `perf` and `compare`: latency by batch size, throughput by model, a map of models and precisions, and
//! how much faster each target is.

use std::path::{Path, PathBuf};

use clap::Args;

use super::e2e::Row;
use super::payload::Payload;
use crate::metrics::Distribution;
use crate::report::chart::{Bars, Figure, Format, Heat, Line, Lines, Plot, Reading, Theme, render};
use crate::report::files;

/// Whether and how is drawn.
#[derive(Clone, Debug, Args)]
pub(super) struct PlotFlags {
    /// Draw, into the folder `plots` beside the report.
    #[arg(long, overrides_with = "no_plot")]
    pub(super) plot: bool,
    /// Draw nothing, which is the default.
    #[arg(long, overrides_with = "plot")]
    no_plot: bool,
    /// Format of the plots, several times for several.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "png")]
    plot_format: Vec<Format>,
    /// Colours.
    #[arg(long, value_enum, default_value_t)]
    theme: Theme,
    /// Dots per inch of pixels.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..=1200))]
    dpi: u32,
}

impl PlotFlags {
    /// Writes figures into the folder `plots` beside `report`, each under its name, and says where.
    ///
    /// # Errors
    /// When one cannot be drawn or written.
    pub(super) fn write(&self, report: &Path, figures: &[(&str, Figure)]) -> anyhow::Result<Vec<String>> {
        let folder = report.parent().map_or_else(PathBuf::new, Path::to_path_buf).join("plots");
        let mut paths = Vec::new();
        for (name, figure) in figures {
            let svg = figure.svg(self.theme);
            for format in &self.plot_format {
                let path = folder.join(format!("{name}.{}", format.extension()));
                files::write(&path, &render(&svg, *format, self.dpi)?)?;
                paths.push(path.display().to_string());
            }
        }
        Ok(paths)
    }
}

/// The values of rows that share a name, in the order in which names come.
fn grouped<K: PartialEq>(
    rows: &[Row],
    key: impl Fn(&Row) -> K,
    value: impl Fn(&Row) -> Option<f64>,
) -> Vec<(K, Vec<f64>)> {
    let mut groups: Vec<(K, Vec<f64>)> = Vec::new();
    for row in rows {
        let (key, value) = (key(row), value(row));
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.extend(value),
            None => groups.push((key, value.into_iter().collect())),
        }
    }
    groups
}

/// The figures of a file, under the names of their files.
pub(super) fn figures(payload: &Payload) -> Vec<(&'static str, Figure)> {
    vec![
        ("latency_line", latency(&payload.rows)),
        ("throughput_bar", throughput(&payload.rows)),
        ("model_precision_heatmap", heat(&payload.rows)),
    ]
}

/// A plot for each model and length, in it a line for each precision: all on one plot could not be told apart, and rows of
/// different lengths have nothing in common but the batch size.
fn latency(rows: &[Row]) -> Figure {
    let length = |row: &Row| row.scenario.split("_b").next().unwrap_or_default().to_string();
    let key = |row: &Row| (row.model.clone(), length(row));
    let plots = grouped(rows, key, |_| None).into_iter().map(|(plot, _)| {
        let own: Vec<Row> = rows.iter().filter(|row| key(row) == plot).cloned().collect();
        let precisions = grouped(&own, |row| row.precision.clone(), |_| None);
        let lines = precisions.into_iter().map(|(precision, _)| {
            let own = own.iter().filter(|row| row.precision == precision);
            let points = own.filter_map(|row| Some((row.batch_size as f64, row.latency_p95_ms?.into())));
            // The precision first: a long name of a model is cut.
            Line { points: points.collect(), name: format!("{precision}, {}", plot.0) }
        });
        Plot::Lines(Lines {
            x_label: "Batch size".into(),
            y_label: format!("{}: latency P95 (ms)", plot.1),
            lines: lines.collect(),
        })
    });
    Figure { title: "Latency vs batch size (P95)".into(), plots: plots.collect() }
}

fn throughput(rows: &[Row]) -> Figure {
    let groups = grouped(rows, |row| row.model.clone(), |row| row.throughput_tps);
    let (groups, values): (Vec<String>, Vec<Vec<f64>>) = groups.into_iter().unzip();
    // The bar is the mean; its spread is that of the scenarios, not of repeated measurements.
    let reading = |values: Vec<f64>| {
        let values = Distribution::new(values);
        Some(Reading::between(values.mean()?, values.min()?, values.max()?))
    };
    let bars = Bars {
        y_label: "Throughput of a request (tokens/s)".into(),
        x_label: "Model; mean of the scenarios, and from the slowest to the fastest".into(),
        groups,
        series: vec![(String::new(), values.into_iter().map(reading).collect())],
        reference: None,
    };
    Figure::of("Throughput comparison", Plot::Bars(bars))
}

fn heat(rows: &[Row]) -> Figure {
    let names = |key: fn(&Row) -> String| -> Vec<String> {
        grouped(rows, key, |_| None).into_iter().map(|(name, _)| name).collect()
    };
    let columns = names(|row| row.precision.clone());
    let mean = |model: &str, precision: &str| {
        let own = rows.iter().filter(|row| row.model == model && row.precision == precision);
        Distribution::new(own.filter_map(|row| row.throughput_tps)).mean()
    };
    let rows = names(|row| row.model.clone()).into_iter().map(|model| {
        let values = columns.iter().map(|precision| mean(&model, precision)).collect();
        (model, values)
    });
    let heat = Heat { rows: rows.collect(), x_label: "Precision".into(), columns };
    Figure::of("Throughput of a request by model and precision (tokens/s)", Plot::Heat(heat))
}

/// How many times the output of the baseline each target has, with a line at 1.
pub(super) fn speedup(targets: &[(String, Option<f64>)]) -> Figure {
    let bars = Bars {
        y_label: "Speedup (x)".into(),
        x_label: "Target, to the first one".into(),
        groups: targets.iter().map(|(label, _)| label.clone()).collect(),
        series: vec![(
            String::new(),
            targets.iter().map(|(_, speedup)| speedup.map(Reading::from)).collect(),
        )],
        reference: Some(1.0),
    };
    Figure::of("Output throughput of targets", Plot::Bars(bars))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_a_plot_for_each_model_and_length_and_a_line_for_each_precision() {
        let row = |model: &str, precision: &str, scenario: &str, batch_size| Row {
            model: model.into(),
            precision: precision.into(),
            scenario: scenario.into(),
            batch_size,
            latency_p95_ms: Some(batch_size as f64),
            ..Row::default()
        };
        let rows = [
            row("m", "fp16", "short_b1", 1),
            row("m", "fp16", "long_b1", 1),
            row("m", "q4", "short_b1", 1),
            row("m", "fp16", "short_b4", 4),
            row("n", "fp16", "short_b1", 1),
        ];
        let shapes: Vec<Vec<usize>> = latency(&rows)
            .plots
            .iter()
            .map(|plot| match plot {
                Plot::Lines(lines) => lines.lines.iter().map(|line| line.points.len()).collect(),
                _ => Vec::new(),
            })
            .collect();
        assert_eq!(shapes, [vec![2, 1], vec![1], vec![1]]);
    }
}

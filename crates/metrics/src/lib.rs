//! Metrics: what a part of the server counts, as rows that are declared once, and the pages that are made of them.
//!
//! ```text
//! Row (name, kind, labels, help, how to read it) ──collect──> Family (name, samples) ──> text, JSON, tables, documents
//! ```
//! The crate that counts something has a table of [`Row`]s over a reading of its own: a struct with the numbers of one
//! moment. There is no registry that parts write to: a page is made when somebody asks for it, and counting is the
//! business of whoever counts. [`Histogram`] is for one thread, [`SharedHistogram`] for several, without a lock.

mod histogram;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use histogram::{Distribution, Histogram, ROWS, SECONDS, SharedHistogram};
pub use text::{Format, page};

/// What the numbers of a metric mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Counts up from the start of the server. Its name ends with `_total`.
    Counter,
    /// A number of this moment.
    Gauge,
    /// How often values were in which range.
    Histogram,
}

impl Kind {
    /// Its word in documents.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// Values of the labels of a row, in their order, and a number; one for each set of labels.
pub type Samples = Vec<(Vec<String>, Value)>;

/// A metric: declared once, where it is counted.
pub struct Row<R: 'static> {
    /// Its name, with the unit and `_total` at its end.
    pub name: &'static str,
    /// What its numbers mean.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What is counted: a sentence without its point.
    pub help: &'static str,
    /// The samples of a reading.
    pub read: fn(&R) -> Samples,
}

/// A row without its reading, for documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// See [`Row::name`].
    pub name: &'static str,
    /// See [`Row::kind`].
    pub kind: Kind,
    /// See [`Row::labels`].
    pub labels: &'static [&'static str],
    /// See [`Row::help`].
    pub help: &'static str,
}

/// What a table declares.
pub fn declared<R>(rows: &[Row<R>]) -> impl Iterator<Item = Declared> {
    rows.iter().map(|Row { name, kind, labels, help, .. }| Declared { name, kind: *kind, labels, help })
}

/// A metric with its samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Family {
    /// See [`Row::name`].
    pub name: String,
    /// See [`Row::kind`].
    pub kind: Kind,
    /// See [`Row::help`].
    pub help: String,
    /// One for each set of labels.
    pub samples: Vec<Sample>,
}

/// One number of a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Its labels, by their names.
    pub labels: BTreeMap<String, String>,
    /// The number.
    pub value: Value,
}

/// The value of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Of a counter or gauge.
    Number(f64),
    /// Of a histogram.
    Distribution(Distribution),
}

impl From<u64> for Value {
    fn from(count: u64) -> Value {
        // Exact up to 2^53, which no counter here reaches.
        Value::Number(count as f64)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Number(number)
    }
}

impl From<Histogram> for Value {
    fn from(histogram: Histogram) -> Value {
        Value::Distribution(histogram.distribution())
    }
}

/// Reads a table. A row without samples is left out.
pub fn collect<R>(rows: &[Row<R>], reading: &R) -> Vec<Family> {
    let family = |row: &Row<R>| Family {
        name: row.name.to_string(),
        kind: row.kind,
        help: row.help.to_string(),
        samples: (row.read)(reading).into_iter().map(|(labels, value)| sample(row, labels, value)).collect(),
    };
    rows.iter().map(family).filter(|family| !family.samples.is_empty()).collect()
}

fn sample<R>(row: &Row<R>, labels: Vec<String>, value: Value) -> Sample {
    assert_eq!(labels.len(), row.labels.len(), "`{}` has the labels {:?}", row.name, row.labels);
    let is_histogram = matches!(value, Value::Distribution(_));
    assert_eq!(is_histogram, row.kind == Kind::Histogram, "`{}` is a {}", row.name, row.kind.name());
    let names = row.labels.iter().map(|name| name.to_string());
    Sample { labels: names.zip(labels).collect(), value }
}

/// What the system tells of this process.
pub mod process {
    /// Bytes of memory that the process has in use; none where the system does not tell.
    pub fn resident_bytes() -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        resident(&status)
    }

    /// Of a file as Linux has it: `VmRSS:     1234 kB`.
    fn resident(status: &str) -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    }

    #[cfg(test)]
    #[test]
    fn the_line_of_linux_is_read() {
        assert_eq!(resident("Name:\tpie\nVmRSS:\t    1234 kB\n"), Some(1234 << 10));
        assert_eq!(resident("Name:\tpie\n"), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table over two numbers.
    pub(crate) const ROWS_OF_TWO: &[Row<(u64, Histogram)>] = &[
        Row {
            name: "things_total",
            kind: Kind::Counter,
            labels: &["kind", "of"],
            help: "Things",
            read: |(count, _)| vec![(vec!["a \"b\"\n\\".into(), "x".into()], (*count).into())],
        },
        Row {
            name: "wait_seconds",
            kind: Kind::Histogram,
            labels: &[],
            help: "Waits",
            read: |(_, waits)| vec![(Vec::new(), (*waits).into())],
        },
        Row { name: "nothing", kind: Kind::Gauge, labels: &[], help: "None", read: |_| Vec::new() },
    ];

    pub(crate) fn reading() -> (u64, Histogram) {
        let mut waits = Histogram::new(&[0.5, 1.0]);
        [0.5, 0.75, 3.0].iter().for_each(|wait| waits.observe(*wait));
        (7, waits)
    }

    #[test]
    fn families_survive_json() {
        let families = collect(ROWS_OF_TWO, &reading());
        assert_eq!(
            families.iter().map(|f| &f.name[..]).collect::<Vec<_>>(),
            ["things_total", "wait_seconds"]
        );
        let json = serde_json::to_string(&families).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Family>>(&json).unwrap(), families);
    }

    #[test]
    #[should_panic(expected = "`x` has the labels")]
    fn a_sample_has_the_labels_of_its_row() {
        let row: &[Row<()>] = &[Row {
            name: "x",
            kind: Kind::Gauge,
            labels: &["one"],
            help: "",
            read: |()| vec![(Vec::new(), 1.0.into())],
        }];
        collect(row, &());
    }
}

//! The page that Prometheus reads, in the two formats that there are.
//!
//! `prometheus-client` writes OpenMetrics. The older text format differs from it in three things: the name of a counter
//! in its comments ends with `_total` too, there is no end mark, and the media type is another.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::{Family, Kind, Sample, Value};

/// The format of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, which every reader knows.
    Prometheus,
    /// OpenMetrics, which Prometheus asks for.
    OpenMetrics,
}

impl Format {
    /// What a client with this `accept` header gets.
    pub fn accepted(accept: &str) -> Format {
        match accept.contains("application/openmetrics-text") {
            true => Format::OpenMetrics,
            false => Format::Prometheus,
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The page of these metrics.
pub fn page(families: Vec<Family>, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)
        .expect("a String takes all that is written");
    match format {
        Format::OpenMetrics => text,
        Format::Prometheus => prometheus(&text),
    }
}

/// A page in the older format.
fn prometheus(open_metrics: &str) -> String {
    let types = open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: Vec<&str> = types.filter_map(|line| line.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        let comment = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        let name = comment.and_then(|comment| comment.split(' ').next());
        match name.filter(|name| counters.contains(name)) {
            Some(name) => {
                let (before, after) = line.split_once(name).expect("it is of this line");
                text += &format!("{before}{name}_total{after}\n");
            }
            None => {
                text += line;
                text.push('\n');
            }
        }
    }
    text
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Family { name, kind, help, samples } in &self.0 {
            let (name, kind) = match kind {
                // It is put there again where the number is.
                Kind::Counter => (name.strip_suffix("_total").unwrap_or(name), MetricType::Counter),
                Kind::Gauge => (&name[..], MetricType::Gauge),
                Kind::Histogram => (&name[..], MetricType::Histogram),
            };
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for Sample { labels, value } in samples {
                let labels: Vec<(String, String)> =
                    labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                match labels.is_empty() {
                    true => number(&mut metric, kind, value)?,
                    false => number(&mut metric.encode_family(&labels)?, kind, value)?,
                }
            }
        }
        Ok(())
    }
}

fn number(metric: &mut MetricEncoder<'_>, kind: MetricType, value: &Value) -> Result<(), fmt::Error> {
    match (kind, value) {
        (MetricType::Counter, Value::Number(number)) => {
            metric.encode_counter::<NoLabelSet, _, f64>(number, None)
        }
        (_, Value::Number(number)) => metric.encode_gauge(number),
        (_, Value::Distribution(distribution)) => {
            let bounds = distribution.bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(distribution.counts.iter().copied()).collect();
            metric.encode_histogram::<NoLabelSet>(distribution.sum, distribution.count(), &buckets, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect;
    use crate::tests::{ROWS_OF_TWO, reading};

    #[test]
    fn both_formats_are_as_their_specifications_have_them() {
        let families = || collect(ROWS_OF_TWO, &reading());
        let samples = "\
            wait_seconds_sum 4.25\nwait_seconds_count 3\nwait_seconds_bucket{le=\"0.5\"} 1\n\
            wait_seconds_bucket{le=\"1.0\"} 2\nwait_seconds_bucket{le=\"+Inf\"} 3\n";
        let labels = r#"{kind="a \"b\"\n\\",of="x"}"#;
        let waits = format!("# HELP wait_seconds Waits\n# TYPE wait_seconds histogram\n{samples}");
        assert_eq!(
            page(families(), Format::OpenMetrics),
            format!("# HELP things Things\n# TYPE things counter\nthings_total{labels} 7.0\n{waits}# EOF\n")
        );
        assert_eq!(
            page(families(), Format::Prometheus),
            format!(
                "# HELP things_total Things\n# TYPE things_total counter\nthings_total{labels} 7.0\n{waits}"
            )
        );
        assert_eq!(Format::accepted("application/openmetrics-text;version=1.0.0,*/*"), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Prometheus);
    }
}

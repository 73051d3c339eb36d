//! The lengths of prompts and answers, as `vllm bench serve --plot-dataset-stats` draws them.

use super::Report;
use super::chart::{Bars, Figure, Plot};
use crate::record::Record;

/// Bars of a plot, at most.
const BINS: u64 = 20;

/// How many values are in each of up to [`BINS`] equally wide ranges of whole numbers: the ranges' names, the counts.
fn histogram(values: &[u32]) -> (Vec<String>, Vec<f64>) {
    let (Some(&low), Some(&high)) = (values.iter().min(), values.iter().max()) else {
        return (Vec::new(), Vec::new());
    };
    // Wider than the values, so that the end of the last range is a number, too.
    let (low, high) = (u64::from(low), u64::from(high));
    let wide = (high - low + 1).div_ceil(BINS);
    let bins = (high - low) / wide + 1;
    let name = |bin: u64| {
        let (from, to) = (low + bin * wide, low + bin * wide + (wide - 1));
        if from == to { from.to_string() } else { format!("{from}-{to}") }
    };
    let count =
        |bin: u64| values.iter().filter(|value| (u64::from(**value) - low) / wide == bin).count() as f64;
    ((0..bins).map(name).collect(), (0..bins).map(count).collect())
}

/// Two plots over the answers that are whole.
pub fn figure(report: &Report) -> Figure {
    let plot = |x_label: &str, tokens: fn(&Record) -> u32| {
        let done = report.run.records.iter().filter(|record| record.completed());
        let (groups, counts) = histogram(&done.map(tokens).collect::<Vec<u32>>());
        let values = counts.into_iter().map(|count| Some(count.into())).collect();
        Plot::Bars(Bars {
            y_label: "Requests".into(),
            x_label: x_label.into(),
            groups,
            series: vec![(String::new(), values)],
            reference: None,
        })
    };
    let plots =
        vec![plot("Prompt tokens", Record::prompt_tokens), plot("Output tokens", Record::output_tokens)];
    Figure { title: "Lengths of prompts and answers".into(), plots }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_range() {
        for values in [&[5][..], &[1, 2, 3, 3], &[0, 1000, 999, 500], &[7, 7 + 20], &[u32::MAX, 0]] {
            let (names, counts) = histogram(values);
            assert!(names.len() <= BINS as usize && names.len() == counts.len(), "{names:?}");
            assert_eq!(counts.iter().sum::<f64>(), values.len() as f64, "{values:?}");
        }
        assert_eq!(histogram(&[1, 2, 3, 3]), (vec!["1".into(), "2".into(), "3".into()], vec![1.0, 1.0, 2.0]));
        assert_eq!(histogram(&[]), (vec![], vec![]));
    }
}

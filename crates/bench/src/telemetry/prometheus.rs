//! The text format of Prometheus, as far as sums need it.

use std::collections::BTreeMap;

/// Name, labels and value of each line. What is no number is left out.
pub fn samples(page: &str) -> impl Iterator<Item = (&str, &str, f64)> {
    page.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).filter_map(|line| {
        // NAME{LABELS} VALUE [TIME], and a label's value may hold any character, also a brace.
        let (name, labels, rest) = match line.find('{') {
            Some(brace) => {
                let end = line.rfind('}').filter(|end| *end > brace)?;
                (&line[..brace], &line[brace + 1..end], &line[end + 1..])
            }
            None => line.split_once(' ').map(|(name, rest)| (name, "", rest))?,
        };
        let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
        value.is_finite().then_some((name.trim(), labels, value))
    })
}

/// The sum of a metric over the lines whose labels hold `label`; `None` when there are none.
pub fn sum(page: &str, name: &str, label: &str) -> Option<f64> {
    let found = samples(page).filter(|(named, labels, _)| *named == name && labels.contains(label));
    found.map(|(_, _, value)| value).reduce(|sum, value| sum + value)
}

/// Values by name, summed over labels. Buckets of histograms are left out.
pub fn sums(page: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for (name, _, value) in samples(page).filter(|(name, _, _)| !name.ends_with("_bucket")) {
        *sums.entry(name.to_string()).or_insert(0.0) += value;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_summed_over_labels() {
        let page = "# HELP a x\na{m=\"1 } 2\"} 3\na{m=\"2\"} 4 1700000000\nb 1e3\nc_bucket{le=\"1\"} 5\nd NaN\nbroken\n";
        let sums = sums(page);
        assert_eq!(sums, BTreeMap::from([("a".to_string(), 7.0), ("b".to_string(), 1000.0)]));
    }
}

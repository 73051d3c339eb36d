//! The text format of Prometheus, as far as sums need it.

use std::collections::BTreeMap;

/// Values by name, summed over labels. Buckets of histograms are left out.
pub fn sums(page: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in page.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        // NAME{LABELS} VALUE [TIME], and a label's value may hold any character, also a brace.
        let (name, rest) = match line.find('{') {
            Some(brace) => {
                let Some(end) = line.rfind('}') else { continue };
                (&line[..brace], &line[end + 1..])
            }
            None => line.split_once(' ').unwrap_or((line, "")),
        };
        let value = rest.split_whitespace().next().and_then(|value| value.parse::<f64>().ok());
        if let Some(value) = value.filter(|value| value.is_finite() && !name.ends_with("_bucket")) {
            *sums.entry(name.trim().to_string()).or_insert(0.0) += value;
        }
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

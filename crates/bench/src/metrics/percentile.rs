//! Percentiles of sorted values, by the two definitions in use.

/// By linear interpolation between neighbours, as numpy does by default. `p` is in 0 to 100; `None` for no values.
pub fn linear(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = (p / 100.0).clamp(0.0, 1.0) * last as f64;
    let (below, part) = (at.floor() as usize, at.fract());
    let above = sorted[(below + 1).min(last)];
    Some(sorted[below] + (above - sorted[below]) * part)
}

/// The value at index `floor(n p / 100)`, the last one at most: a value that occurred.
pub fn nearest_rank(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = (sorted.len() as f64 * (p / 100.0).clamp(0.0, 1.0)) as usize;
    Some(sorted[at.min(last)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_those_of_numpy_and_of_the_index() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(linear(&values, 50.0), Some(5.5));
        assert!((linear(&values, 99.0).unwrap() - 9.91).abs() < 1e-12);
        assert_eq!((linear(&values, 0.0), linear(&values, 100.0)), (Some(1.0), Some(10.0)));
        assert_eq!((nearest_rank(&values, 50.0), nearest_rank(&values, 99.0)), (Some(6.0), Some(10.0)));
        assert_eq!((linear(&[], 50.0), nearest_rank(&[], 50.0)), (None, None));
        assert_eq!(linear(&[3.0], 99.0), Some(3.0));
    }
}

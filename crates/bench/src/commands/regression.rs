//! Whether a figure is worse than before: the one rule of `gate` and of `sage gate`.

/// Percent worse from which on a change matters.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// From here on it is a warning.
    pub warning: f64,
    /// From here on it fails.
    pub critical: f64,
}

/// How bad a change is; the worst is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// No worse than is allowed.
    Ok,
    /// Worse, or gone, and that is meant.
    Expected,
    /// Worse by more than the first threshold.
    Warning,
    /// Worse by more than the second, or no longer measured.
    Critical,
}

impl Severity {
    /// The word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Expected => "expected",
            Self::Warning => "warning",
            Self::Critical => "CRITICAL",
        }
    }
}

/// Percent that `after` is worse than `before`; below zero when it is better. Anything is endlessly worse than nothing.
pub fn worse_by(before: f64, after: f64, more_is_better: bool) -> f64 {
    let worse = if more_is_better { before - after } else { after - before };
    match before {
        0.0 if worse > 0.0 => f64::INFINITY,
        0.0 => 0.0,
        before => worse / before * 100.0,
    }
}

/// What is to be said of a figure: the percent that it is worse, where it is there, and how bad that is. `None` for one
/// that was not measured before. What was measured and is no more has not got better.
pub fn judge(
    before: Option<f64>,
    after: Option<f64>,
    more_is_better: bool,
    thresholds: Thresholds,
    is_expected: bool,
) -> Option<(Option<f64>, Severity)> {
    let before = before?;
    let percent = after.map(|after| worse_by(before, after, more_is_better));
    let severity = match percent {
        Some(percent) if percent > thresholds.critical => Severity::Critical,
        Some(percent) if percent > thresholds.warning => Severity::Warning,
        Some(_) => Severity::Ok,
        None => Severity::Critical,
    };
    Some((percent, if is_expected { severity.min(Severity::Expected) } else { severity }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worse_is_more_time_and_less_throughput() {
        assert_eq!((worse_by(10.0, 9.0, true), worse_by(10.0, 12.0, true)), (10.0, -20.0));
        assert_eq!((worse_by(1.0, 1.5, false), worse_by(0.0, 1.0, false)), (50.0, f64::INFINITY));
        assert_eq!((worse_by(0.0, 0.0, false), worse_by(0.0, 1.0, true)), (0.0, 0.0));
    }

    #[test]
    fn what_is_gone_is_critical_and_what_is_new_is_not_judged() {
        let thresholds = Thresholds { warning: 5.0, critical: 10.0 };
        let severity = |before, after, expected| {
            judge(before, after, false, thresholds, expected).map(|(_, severity)| severity)
        };
        assert_eq!(severity(Some(100.0), Some(104.0), false), Some(Severity::Ok));
        assert_eq!(severity(Some(100.0), Some(107.0), false), Some(Severity::Warning));
        assert_eq!(severity(Some(100.0), Some(120.0), false), Some(Severity::Critical));
        assert_eq!(severity(Some(100.0), Some(120.0), true), Some(Severity::Expected));
        assert_eq!(severity(Some(100.0), Some(90.0), true), Some(Severity::Ok));
        assert_eq!(severity(Some(100.0), None, false), Some(Severity::Critical));
        assert_eq!(severity(None, Some(1.0), false), None);
    }
}

//! One clock for a run: nanoseconds since its start, on the machine's monotonic clock.
//!
//! The time of day is read once, at the start, so that moments can be written as dates and still differ exactly.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment of a run, or a span between two, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// From seconds; what is negative or no number becomes zero.
    pub fn from_secs(seconds: f64) -> Self {
        Self((seconds * 1e9) as u64)
    }

    /// In seconds.
    pub fn secs(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// In milliseconds.
    pub fn millis(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The span since `earlier`; zero if that is later.
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// This much later.
    pub fn plus(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl From<Duration> for Nanos {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Nanos> for Duration {
    fn from(nanos: Nanos) -> Self {
        Self::from_nanos(nanos.0)
    }
}

/// Where the moments of a run are counted from.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    unix: Duration,
}

impl Clock {
    /// A clock whose zero is now.
    pub fn start() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), unix }
    }

    /// The present moment.
    pub fn now(&self) -> Nanos {
        self.start.elapsed().into()
    }

    /// A moment as the system knows it.
    pub fn instant(&self, at: Nanos) -> Instant {
        self.start + Duration::from(at)
    }

    /// A moment in seconds since 1970.
    pub fn unix_secs(&self, at: Nanos) -> f64 {
        self.unix.as_secs_f64() + at.secs()
    }
}

/// A moment in seconds since 1970 as year, month, day, hour, minute and second in UTC.
pub fn civil(unix_secs: f64) -> (i64, u32, u32, u32, u32, u32) {
    let seconds = unix_secs.max(0.0) as i64;
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u32);
    // Days since 0000-03-01, in cycles of 400 years; years begin in March, so that a leap day is their last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day, of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// A moment as `YYYY-MM-DDTHH:MM:SSZ`.
pub fn iso(unix_secs: f64) -> String {
    let (year, month, day, hour, minute, second) = civil(unix_secs);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A moment as `YYYYMMDD-HHMMSS`, as it is in names of files.
pub fn compact(unix_secs: f64) -> String {
    let (year, month, day, hour, minute, second) = civil(unix_secs);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(iso(0.0), "1970-01-01T00:00:00Z");
        assert_eq!(iso(951_782_400.0), "2000-02-29T00:00:00Z");
        assert_eq!(iso(1_709_251_199.9), "2024-02-29T23:59:59Z");
        assert_eq!(compact(1_735_689_600.0), "20250101-000000");
    }
}

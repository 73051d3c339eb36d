//! The values of a schedule, as they are written.

use std::fmt::{self, Display, Formatter};

use super::{ArrivalError, Spec};

/// Values by name, and a list of steps for those that have one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    values: Vec<(&'static str, f64)>,
    /// Steps: requests a second, seconds.
    pub list: Vec<(f64, f64)>,
}

impl Parameters {
    /// A value of the schedule; every one has a default or was given.
    pub fn get(&self, name: &str) -> f64 {
        let value = self.values.iter().find(|(known, _)| *known == name);
        value.map_or_else(
            || panic!("a schedule reads `{name}`, which it does not declare"),
            |(_, value)| *value,
        )
    }

    /// Reads `value,key=value,..`; steps are written `RATExSECS`.
    pub(super) fn parse(spec: &Spec, text: &str) -> Result<Self, ArrivalError> {
        let error = |name: &str, found: &str, expected: String| ArrivalError::Value {
            schedule: spec.name.into(),
            name: name.into(),
            found: found.into(),
            expected,
        };
        let mut parameters = Self::default();
        for (index, part) in text.split(',').filter(|part| !part.is_empty()).enumerate() {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), value.trim()),
                None => (if index == 0 { spec.first } else { "" }, part.trim()),
            };
            if let Some((rate, secs)) = value.split_once('x') {
                let number = |text: &str| text.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0);
                let step = number(rate).zip(number(secs));
                parameters.list.push(step.ok_or_else(|| error("step", part, "RATExSECONDS".into()))?);
                continue;
            }
            let Some((name, _, (low, high))) = spec.values.iter().find(|(known, ..)| *known == name) else {
                return Err(error(name, value, format!("the form {}", spec.form)));
            };
            let number = value.parse::<f64>().ok().filter(|number| (*low..=*high).contains(number));
            let number =
                number.ok_or_else(|| error(name, value, format!("a number from {low} to {high}")))?;
            parameters.values.push((name, number));
        }
        for (name, default, _) in spec.values {
            if parameters.values.iter().all(|(known, _)| known != name) {
                let default =
                    default.ok_or_else(|| error(name, "missing", format!("the form {}", spec.form)))?;
                parameters.values.push((name, default));
            }
        }
        Ok(parameters)
    }
}

impl Display for Parameters {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut separator = ":";
        for (name, value) in &self.values {
            write!(f, "{separator}{name}={value}")?;
            separator = ",";
        }
        for (rate, secs) in self.list.iter().take(8) {
            write!(f, "{separator}{rate}x{secs}")?;
            separator = ",";
        }
        if self.list.len() > 8 { write!(f, ",… {} steps", self.list.len()) } else { Ok(()) }
    }
}

/// Range of a rate: a request in a day to a thousand million a second.
pub(super) const RATE: (f64, f64) = (1e-5, 1e9);
/// Range of a time: a microsecond to a year.
pub(super) const SECS: (f64, f64) = (1e-6, 3.2e7);

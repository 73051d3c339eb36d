//! Schedules of arrivals, each a file and a row of [`TABLE`]. All are made beforehand, in absolute moments, from a seed.
//!
//! Written as `name:value,key=value`, for example `poisson:10`, `gamma:10,burstiness=0.5`, `ramp:1,to=20,secs=60`.

mod closed;
mod constant;
mod gamma;
mod instant;
mod mmpp;
mod parameters;
mod poisson;
mod ramp;
mod series;
mod sine;
mod steps;
mod trace;
mod uniform;

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use fastrand::Rng;
pub use parameters::Parameters;

use crate::clock::Nanos;
use crate::dataset::Sample;

/// What is wrong with a schedule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArrivalError {
    /// No such schedule.
    #[error("`{0}` is no schedule; there are {names}", names = TABLE.map(|spec| spec.form).join(", "))]
    Unknown(String),
    /// A value out of its range.
    #[error("schedule `{schedule}`: {name} is {found}, expected {expected}")]
    Value {
        /// The schedule.
        schedule: String,
        /// The value's name.
        name: String,
        /// What it is.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// The samples have no moments.
    #[error(
        "schedule `trace` needs samples with timestamps, and sample {0} has none: use a trace as dataset"
    )]
    NoTimestamps(usize),
}

/// A kind of schedule.
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// How it is written.
    pub form: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What the value in front of the first comma is called.
    pub first: &'static str,
    /// Every value with its default (`None`: must be given) and its range.
    pub values: &'static [(&'static str, Option<f64>, (f64, f64))],
    /// Mean requests a second, where the schedule has such a number.
    pub rate: fn(&Parameters) -> Option<f64>,
    /// So many moments in seconds, not falling.
    pub moments: fn(&Parameters, &Moments<'_>, &mut Rng) -> Vec<f64>,
}

/// What moments are made for.
pub struct Moments<'a> {
    /// How many.
    pub count: usize,
    /// The moments of the trace, for those that replay one.
    pub recorded: &'a [Option<Nanos>],
}

/// Every schedule.
pub const TABLE: [Spec; 12] = [
    constant::SPEC,
    poisson::SPEC,
    gamma::SPEC,
    uniform::SPEC,
    instant::SPEC,
    ramp::SPEC,
    sine::SPEC,
    steps::SPEC,
    series::SPEC,
    mmpp::SPEC,
    trace::SPEC,
    closed::SPEC,
];

/// A schedule with its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    index: usize,
    parameters: Parameters,
}

impl Arrival {
    fn spec(&self) -> &'static Spec {
        &TABLE[self.index]
    }

    /// The schedule's name.
    pub fn name(&self) -> &'static str {
        self.spec().name
    }

    /// Poisson arrivals of this rate; for `f64::INFINITY` all at once.
    ///
    /// # Errors
    /// [`ArrivalError::Value`] for a rate out of its range.
    pub fn poisson(rate: f64) -> Result<Self, ArrivalError> {
        if rate.is_infinite() { "instant".parse() } else { format!("poisson:{rate}").parse() }
    }

    /// A closed loop of users that pause for `think_secs` on average.
    ///
    /// # Errors
    /// [`ArrivalError::Value`] for no user.
    pub fn closed(users: usize, think_secs: f64) -> Result<Self, ArrivalError> {
        format!("closed:{users},think={think_secs}").parse()
    }

    /// Rates or moments listed by a file or a front end, as requests a second for each interval of `interval` seconds.
    ///
    /// # Errors
    /// [`ArrivalError::Value`] for a rate below zero.
    pub fn series(rates: Vec<f64>, interval: f64) -> Result<Self, ArrivalError> {
        let mut arrival: Self = format!("series:{interval}").parse()?;
        if let Some(bad) = rates.iter().find(|rate| !rate.is_finite() || **rate < 0.0) {
            return Err(arrival.value_error("rate", bad.to_string(), "a rate, 0 or more".into()));
        }
        arrival.parameters.list = rates.into_iter().map(|rate| (rate, interval)).collect();
        Ok(arrival)
    }

    /// Mean requests a second, where the schedule has such a number.
    pub fn rate(&self) -> Option<f64> {
        (self.spec().rate)(&self.parameters)
    }

    /// Users of a closed loop; `None` for an open one.
    pub fn users(&self) -> Option<usize> {
        (self.name() == closed::SPEC.name).then(|| self.parameters.get("users") as usize)
    }

    /// A pause of a user, drawn from an exponential distribution.
    pub fn think(&self, rng: &mut Rng) -> Nanos {
        match self.users() {
            Some(_) => Nanos::from_secs(crate::draw::exponential(rng, self.parameters.get("think"))),
            None => Nanos(0),
        }
    }

    /// A moment of the trace as this schedule replays it.
    pub fn scaled(&self, at: Option<Nanos>) -> Option<Nanos> {
        (self.name() == trace::SPEC.name)
            .then(|| at.map(|at| Nanos::from_secs(at.secs() / self.parameters.get("speed"))))?
    }

    /// Whether these samples can be sent so.
    ///
    /// # Errors
    /// [`ArrivalError::NoTimestamps`].
    pub fn check(&self, samples: &[Sample]) -> Result<(), ArrivalError> {
        let lacks = |sample: &Sample| sample.turn == 0 && sample.at.is_none();
        match samples.iter().position(lacks) {
            Some(index) if self.name() == trace::SPEC.name => Err(ArrivalError::NoTimestamps(index)),
            _ => Ok(()),
        }
    }

    /// Moments for the samples at `firsts`, in order.
    pub fn moments(&self, samples: &[Sample], firsts: &[usize], rng: &mut Rng) -> Vec<Nanos> {
        let recorded: Vec<Option<Nanos>> = firsts.iter().map(|&index| samples[index].at).collect();
        let asked = Moments { count: firsts.len(), recorded: &recorded };
        let moments = (self.spec().moments)(&self.parameters, &asked, rng);
        moments.into_iter().map(Nanos::from_secs).collect()
    }

    /// Up to `count` moments that follow no sample: fewer when the schedule ends before.
    pub fn open_moments(&self, count: usize, rng: &mut Rng) -> Vec<Nanos> {
        let moments = (self.spec().moments)(&self.parameters, &Moments { count, recorded: &[] }, rng);
        moments.into_iter().map(Nanos::from_secs).collect()
    }

    fn value_error(&self, name: &str, found: String, expected: String) -> ArrivalError {
        ArrivalError::Value { schedule: self.name().into(), name: name.into(), found, expected }
    }
}

impl FromStr for Arrival {
    type Err = ArrivalError;

    fn from_str(text: &str) -> Result<Self, ArrivalError> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let index = TABLE.iter().position(|spec| spec.name == name);
        let index = index.ok_or_else(|| ArrivalError::Unknown(name.to_string()))?;
        Ok(Self { index, parameters: Parameters::parse(&TABLE[index], rest)? })
    }
}

impl Display for Arrival {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name(), self.parameters)
    }
}

/// Moments of a Poisson process whose rate changes with time, by thinning: arrivals of the highest rate, of which a
/// share of `rate(t) / highest` is kept. Ends after `count`, or when `end` is reached.
fn thinned(
    count: usize,
    highest: f64,
    end: Option<f64>,
    rng: &mut Rng,
    rate: impl Fn(f64) -> f64,
) -> Vec<f64> {
    let (mut moments, mut at) = (Vec::with_capacity(count), 0.0);
    // A rate of zero for ever would never end; 1000 candidates for each request is far beyond every schedule here.
    for _ in 0..count.saturating_mul(1000).max(1000) {
        at += crate::draw::exponential(rng, 1.0 / highest);
        if moments.len() == count || end.is_some_and(|end| at > end) {
            break;
        }
        if rng.f64() * highest < rate(at) {
            moments.push(at);
        }
    }
    moments
}

#[cfg(test)]
mod tests;

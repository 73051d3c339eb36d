//! When requests are sent.

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::rate;
use crate::clock::Nanos;
use crate::dataset::Sample;
use crate::workload::{Arrival, Limit, Plan, WhenFull};

/// How a rate rises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RampStrategy {
    /// In a line.
    Linear,
    /// By a constant factor.
    Exponential,
}

/// What becomes of a request that finds no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FullPolicy {
    /// It waits, and its response time has the wait in it.
    Queue,
    /// It is dropped and counted.
    Drop,
}

/// When requests are sent.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Load")]
pub struct LoadFlags {
    /// Requests a second, as a Poisson process; inf for all at once.
    #[arg(long, default_value = "inf", value_parser = rate)]
    pub request_rate: f64,
    /// Shape of the gaps: 1 is Poisson, below 1 bursts, above 1 more even.
    #[arg(long, default_value_t = 1.0)]
    pub burstiness: f64,
    /// A schedule in place of a rate: constant:5, poisson:5, gamma:5,burstiness=0.3, uniform:5, instant:8,secs=2,
    /// ramp:1,to=20,secs=60, sine:5,swing=3,period=60, steps:2x30,10x30, mmpp:2,busy=20,calm_secs=10,busy_secs=2,
    /// trace:2 (twice as fast), closed:8,think=1.
    #[arg(long, value_name = "SCHEDULE")]
    pub arrival: Option<Arrival>,
    /// Bound on requests under way. With a rate without end it is a closed loop of so many users.
    #[arg(long)]
    pub max_concurrency: Option<usize>,
    /// What becomes of a request beyond the bound.
    #[arg(long, value_enum, default_value_t = FullPolicy::Queue)]
    pub when_full: FullPolicy,
    /// Bound on sessions that have begun and not ended.
    #[arg(long)]
    pub max_sessions: Option<usize>,
    /// Send no request that is due later than this, in seconds.
    #[arg(long, value_name = "SECS")]
    pub duration: Option<f64>,
    /// Cancel what is under way after this, in seconds.
    #[arg(long, value_name = "SECS")]
    pub stop_after: Option<f64>,
    /// Send requests at the moments of the dataset's trace, which is the default for --dataset-name timed_trace; the same
    /// as --arrival trace.
    #[arg(long, overrides_with = "no_self_timed")]
    pub self_timed: bool,
    /// Send them by the rate, whatever the trace says.
    #[arg(long, overrides_with = "self_timed")]
    pub no_self_timed: bool,
    /// Let the rate rise.
    #[arg(long, value_enum)]
    pub ramp_up_strategy: Option<RampStrategy>,
    /// Requests a second at the beginning of the rise.
    #[arg(long)]
    pub ramp_up_start_rps: Option<f64>,
    /// Requests a second at its end.
    #[arg(long)]
    pub ramp_up_end_rps: Option<f64>,
}

impl LoadFlags {
    /// With what the name of a dataset implies: the moments of a `timed_trace` are its own, unless flags say otherwise.
    pub fn for_dataset(mut self, name: &str) -> Self {
        let says_when = self.no_self_timed
            || self.arrival.is_some()
            || self.request_rate.is_finite()
            || self.ramp_up_strategy.is_some();
        self.self_timed |= name == "timed_trace" && !says_when;
        self
    }

    /// The rise, if there is one: strategy, from, to.
    ///
    /// # Errors
    /// When it is not said completely.
    pub fn ramp(&self) -> anyhow::Result<Option<(String, f64, f64)>> {
        let Some(strategy) = self.ramp_up_strategy else { return Ok(None) };
        let both = self.ramp_up_start_rps.zip(self.ramp_up_end_rps);
        let (from, to) =
            both.context("--ramp-up-strategy needs --ramp-up-start-rps and --ramp-up-end-rps")?;
        let name = if strategy == RampStrategy::Linear { "linear" } else { "exponential" };
        Ok(Some((name.into(), from, to)))
    }

    /// The schedule.
    ///
    /// # Errors
    /// When flags contradict each other, or one is out of its range.
    pub fn arrival(&self, requests: usize) -> anyhow::Result<Arrival> {
        if let Some((strategy, from, to)) = self.ramp()? {
            if self.arrival.is_some() || self.request_rate.is_finite() {
                bail!("--ramp-up-strategy says the rate: leave --request-rate and --arrival out");
            }
            // So many requests at the mean rate take this long.
            let secs = requests as f64 / ((from + to) / 2.0);
            let exponential = u8::from(strategy == "exponential");
            return Ok(format!("ramp:{from},to={to},secs={secs},exponential={exponential}").parse()?);
        }
        if self.self_timed {
            if self.arrival.is_some() || self.request_rate.is_finite() {
                bail!("--self-timed takes the moments of the trace: leave --request-rate and --arrival out");
            }
            return Ok("trace".parse()?);
        }
        if let Some(arrival) = &self.arrival {
            if self.request_rate.is_finite() {
                bail!("--arrival and --request-rate both say when requests are sent: leave one out");
            }
            return Ok(arrival.clone());
        }
        match (self.request_rate, self.max_concurrency) {
            (rate, Some(users)) if rate.is_infinite() => Ok(Arrival::closed(users, 0.0)?),
            (rate, None) if rate.is_infinite() => Ok("instant".parse()?),
            (rate, _) if self.burstiness.is_infinite() => Ok(format!("constant:{rate}").parse()?),
            (rate, _) => Ok(format!("gamma:{rate},burstiness={}", self.burstiness).parse()?),
        }
    }

    /// The plan of these samples.
    ///
    /// # Errors
    /// As [`Self::arrival`].
    pub fn plan(&self, samples: Vec<Sample>, seed: u64) -> anyhow::Result<Plan> {
        if self.max_concurrency == Some(0) || self.max_sessions == Some(0) {
            bail!("--max-concurrency and --max-sessions: found 0, expected 1 or more");
        }
        let arrival = self.arrival(samples.len())?;
        let when_full = match self.when_full {
            FullPolicy::Queue => WhenFull::Queue,
            FullPolicy::Drop => WhenFull::Drop,
        };
        let limit = Limit { requests: self.max_concurrency, sessions: self.max_sessions, when_full };
        let mut plan = Plan::new(samples, &arrival, self.duration.map(Nanos::from_secs), limit, seed)?;
        plan.stop_at = self.stop_after.map(Nanos::from_secs);
        if plan.requests.is_empty() {
            bail!("no request is due within --duration {}", self.duration.unwrap_or_default());
        }
        Ok(plan)
    }
}

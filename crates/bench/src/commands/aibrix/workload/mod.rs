//! Stage `workload`: when which prompt is sent. Each type is a file and a row of [`TABLE`].
//!
//! ```text
//! constant, synthetic, stat    a rate and lengths for each interval -> Poisson arrivals -> a prompt for each
//! azure                        the trace's moments and lengths      -> a prompt of such a length for each
//! mooncake                     the trace's moments, lengths, blocks -> a made-up prompt with those blocks
//! agent                        sessions of calls of a model and of tools
//! ```

mod agent;
mod azure;
mod constant;
mod mooncake;
mod patterns;
mod process;
mod select;
mod stat;
mod synthetic;

use anyhow::Context;
use fastrand::Rng;

use super::config::Config;
use super::plots;
use super::rows::{self, Group};
use crate::dataset::tokens::Tokens;

/// What a workload is made of.
pub struct Making<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// How tokens are counted.
    pub tokens: &'a Tokens,
    /// Random numbers.
    pub rng: Rng,
    /// What a reader should know.
    pub notes: Vec<String>,
}

impl Making<'_> {
    /// Length of the workload in milliseconds.
    ///
    /// # Errors
    /// When it is not above zero.
    pub fn duration_ms(&self) -> anyhow::Result<f64> {
        self.config.positive("duration_ms")
    }

    /// Length of an interval in milliseconds.
    ///
    /// # Errors
    /// When it is not above zero.
    pub fn interval_ms(&self) -> anyhow::Result<f64> {
        self.config.positive("interval_ms")
    }
}

/// A type of workload.
pub struct Spec {
    /// Its name, as in `workload_type`.
    pub name: &'static str,
    /// Makes it.
    pub make: fn(&mut Making<'_>) -> anyhow::Result<Vec<Group>>,
}

/// Every type.
pub const TABLE: [Spec; 6] =
    [constant::SPEC, synthetic::SPEC, stat::SPEC, azure::SPEC, mooncake::SPEC, agent::SPEC];

/// Makes the workload, writes it and draws it.
///
/// # Errors
/// What is wrong with the configuration or a file.
pub fn run(config: &Config, tokens: &Tokens) -> anyhow::Result<()> {
    let name = config.text("workload_type")?;
    let spec = TABLE.iter().find(|spec| spec.name == name).with_context(|| {
        format!("`workload_type`: found `{name}`, expected {}", TABLE.map(|spec| spec.name).join(", "))
    })?;
    let rng = Rng::with_seed(config.count("seed")?);
    let mut making = Making { config, tokens, rng, notes: Vec::new() };
    let groups = (spec.make)(&mut making)?;
    let requests: usize = groups.iter().map(|group| group.requests.len()).sum();
    anyhow::ensure!(
        requests > 0,
        "workload `{name}` has no request: raise duration_ms ({} ms) or the rate",
        making.duration_ms()?
    );
    let path = config.path("workload_file")?;
    rows::write(&path, &groups)?;
    println!("workload: {requests} requests at {} moments, written to {}", groups.len(), path.display());
    making.notes.iter().for_each(|note| println!("  {note}"));
    plots::workload(&groups, &config.path("workload_dir")?.join("workload"))
}

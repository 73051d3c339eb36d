//! Groups of flags that several commands have, and what they become.

mod dataset;
mod load;
mod output;
mod refused;
mod target;

pub use dataset::DatasetFlags;
pub use load::LoadFlags;
pub use output::OutputFlags;
pub use refused::Refused;
pub use target::{LoraAssignment, TargetFlags, first_model};

/// Reads `NAME=VALUE`.
///
/// # Errors
/// Says what was found.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.ok_or_else(|| format!("found `{text}`, expected NAME=VALUE"))?;
    Ok((name.into(), value.into()))
}

/// Reads a rate: a number above zero, or `inf`.
///
/// # Errors
/// Says what was found.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| *rate > 0.0);
    rate.ok_or_else(|| format!("found `{text}`, expected a number above 0, or inf"))
}

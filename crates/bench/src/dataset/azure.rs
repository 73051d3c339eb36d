//! `azure`: traces of Azure's LLM services, `TIMESTAMP,ContextTokens,GeneratedTokens`. They have lengths and no text.

use super::rows::{Row, Rows};
use super::tokens::Tokens;
use super::{Dataset, DatasetError, DatasetOptions, Prompt, Sample, Spec, text};
use crate::clock::Nanos;

/// Azure's traces.
pub const SPEC: Spec = Spec {
    name: "azure",
    about: "a trace of Azure's LLM services: TIMESTAMP,ContextTokens,GeneratedTokens",
    reads_file: true,
    load,
};

/// The second of `YYYY-MM-DD hh:mm:ss.fff` in its era. Only differences matter.
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let (date, time) = text.trim().split_once([' ', 'T'])?;
    let date: Vec<i64> = date.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let time = time.split(['+', 'Z']).next()?;
    let time: Vec<f64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let ([year, month, day], [hour, minute, second]) = (date[..].try_into().ok()?, time[..].try_into().ok()?);
    // Days of the civil calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day;
    Some(days as f64 * 86_400.0 + hour * 3600.0 + minute * 60.0 + second)
}

fn moment(rows: &Rows, row: &Row) -> Result<f64, DatasetError> {
    let value = row.values.get("TIMESTAMP").and_then(|value| value.as_str()).unwrap_or_default();
    seconds(value)
        .ok_or_else(|| rows.malformed(row, format!("`{value}`"), "TIMESTAMP as YYYY-MM-DD hh:mm:ss.fff"))
}

/// A line of a trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceLine {
    /// When, from the first line.
    pub at: Nanos,
    /// Tokens of the prompt, 1 or more.
    pub input: u32,
    /// Tokens of the answer, 1 or more.
    pub output: u32,
}

/// The first lines of a trace, `count` of them at most.
///
/// # Errors
/// [`DatasetError::Read`] and [`DatasetError::Malformed`].
pub fn read(path: &std::path::Path, count: usize) -> Result<(Rows, Vec<TraceLine>), DatasetError> {
    let rows = Rows::read(path)?;
    let start = rows.rows.first().map(|row| moment(&rows, row)).transpose()?.unwrap_or(0.0);
    let line = |row| -> Result<TraceLine, DatasetError> {
        Ok(TraceLine {
            at: Nanos::from_secs(moment(&rows, row)? - start),
            input: rows.tokens(row, &["ContextTokens", "num_prefill_tokens"])?.max(1),
            output: rows.tokens(row, &["GeneratedTokens", "num_decode_tokens"])?.max(1),
        })
    };
    let lines = rows.rows.iter().take(count).map(line).collect::<Result<_, _>>()?;
    Ok((rows, lines))
}

fn load(options: &DatasetOptions, tokens: &Tokens) -> Result<Dataset, DatasetError> {
    let path = options.path.as_deref().ok_or(DatasetError::NoPath(SPEC.name))?;
    let (rows, lines) = read(path, options.count)?;
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let mut samples = Vec::new();
    for TraceLine { at, input, output } in lines {
        if options.max_input_tokens.is_some_and(|limit| input > limit) {
            continue;
        }
        let prompt = Prompt::Text(text::make(&mut rng, tokens, input)?);
        let mut sample = Sample::new(prompt, input, options.output_tokens.unwrap_or(output));
        sample.at = Some(at);
        samples.push(sample);
    }
    super::finish(samples, options, || rows.no_sample("it has no row within the limits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_differ_as_on_a_clock() {
        let at = |text| seconds(text).unwrap();
        assert!((at("2023-11-16 18:17:03.9799600") - at("2023-11-16 18:17:03.0") - 0.97996).abs() < 1e-5);
        assert_eq!(at("2024-03-01 00:00:00") - at("2024-02-28 00:00:00"), 2.0 * 86_400.0);
        assert_eq!(at("2023-01-01 00:00:00") - at("2022-12-31 23:59:00"), 60.0);
        assert_eq!(seconds("yesterday"), None);
    }
}

//! `burstgpt`: `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type`, seconds from the start.

use super::rows::Rows;
use super::tokens::Tokens;
use super::{Dataset, DatasetError, DatasetOptions, Prompt, Sample, Spec, text};
use crate::clock::Nanos;

/// The traces of BurstGPT.
pub const SPEC: Spec = Spec {
    name: "burstgpt",
    about: "a trace of BurstGPT; rows whose answer failed (0 response tokens) are left out",
    reads_file: true,
    load,
};

fn load(options: &DatasetOptions, tokens: &Tokens) -> Result<Dataset, DatasetError> {
    let path = options.path.as_deref().ok_or(DatasetError::NoPath(SPEC.name))?;
    let rows = Rows::read(path)?;
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let mut samples = Vec::new();
    let (mut failed, mut start) = (0, None);
    for row in &rows.rows {
        if samples.len() == options.count {
            break;
        }
        let at = rows.number(row, &["Timestamp"])? * options.time_unit_secs.unwrap_or(1.0);
        let input = rows.tokens(row, &["Request tokens"])?;
        let output = rows.tokens(row, &["Response tokens"])?;
        if input == 0 || output == 0 {
            failed += 1;
            continue;
        }
        if options.max_input_tokens.is_some_and(|limit| input > limit) {
            continue;
        }
        let prompt = Prompt::Text(text::make(&mut rng, tokens, input)?);
        let mut sample = Sample::new(prompt, input, options.output_tokens.unwrap_or(output));
        sample.at = Some(Nanos::from_secs(at - *start.get_or_insert(at)));
        samples.push(sample);
    }
    let mut dataset =
        super::finish(samples, options, || rows.no_sample(format!("{failed} rows without an answer")))?;
    if failed > 0 {
        dataset.notes.push(format!("{failed} rows of the trace had no answer and are left out"));
    }
    Ok(dataset)
}

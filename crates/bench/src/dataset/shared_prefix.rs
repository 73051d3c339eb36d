//! `prefix_repetition`: prompts that begin alike in groups, as with system prompts or few-shot examples.

use fastrand::Rng;

use super::tokens::Tokens;
use super::{Dataset, DatasetError, DatasetOptions, Prompt, Sample, Spec, random, text};
use crate::draw;

/// Prompts that begin alike.
pub const SPEC: Spec = Spec {
    name: "prefix_repetition",
    about: "groups of prompts that begin with the same tokens",
    reads_file: false,
    load,
};

fn load(options: &DatasetOptions, tokens: &Tokens) -> Result<Dataset, DatasetError> {
    let shared = &options.shared_prefix;
    if shared.prefixes == 0 {
        let expected = "at least 1";
        return Err(DatasetError::Option {
            name: "--prefix-repetition-num-prefixes",
            found: "0".into(),
            expected,
        });
    }
    if let Some(exponent) = shared.zipf.filter(|exponent| *exponent <= 1.0) {
        let (found, expected) = (exponent.to_string(), "above 1");
        return Err(DatasetError::Option { name: "--prefix-repetition-zipf", found, expected });
    }
    let mut rng = Rng::with_seed(options.seed);
    let prefixes: Vec<String> = (0..shared.prefixes)
        .map(|_| text::make(&mut rng, tokens, shared.prefix_tokens))
        .collect::<Result<_, _>>()?;
    let mut samples = Vec::with_capacity(options.count);
    for index in 0..options.count {
        let prefix = match shared.zipf {
            None => index % prefixes.len(),
            Some(exponent) => loop {
                let rank = draw::zipf(&mut rng, exponent) as usize;
                if rank <= prefixes.len() {
                    break rank - 1;
                }
            },
        };
        let suffix = text::make(&mut rng, tokens, shared.suffix_tokens)?;
        let output = random::length(&mut rng, options.output_tokens.unwrap_or(128), options.range_ratio);
        let count = shared.prefix_tokens + shared.suffix_tokens;
        let mut sample = Sample::new(Prompt::Text(format!("{} {suffix}", prefixes[prefix])), count, output);
        sample.blocks = vec![prefix as u64];
        samples.push(sample);
    }
    Ok(Dataset { samples, notes: Vec::new() })
}

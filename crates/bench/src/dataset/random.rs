//! `random`: made-up text of given lengths, and `random-ids`: the same as token ids.

use fastrand::Rng;

use super::tokens::Tokens;
use super::{Dataset, DatasetError, DatasetOptions, Prompt, Sample, Spec, text};

/// Made-up text.
pub const SPEC: Spec =
    Spec { name: "random", about: "made-up text of --random-input-len tokens", reads_file: false, load };

/// Made-up token ids.
pub const IDS: Spec = Spec {
    name: "random-ids",
    about: "the same, sent as token ids; needs --tokenizer",
    reads_file: false,
    load: load_ids,
};

/// A length near `mean`: uniform in `[mean (1 - ratio), mean (1 + ratio)]`, at least 1.
pub fn length(rng: &mut Rng, mean: u32, ratio: f64) -> u32 {
    let low = (f64::from(mean) * (1.0 - ratio)).floor().max(1.0) as u32;
    let high = (f64::from(mean) * (1.0 + ratio)).ceil().max(1.0) as u32;
    rng.u32(low.min(high)..=high)
}

fn check(options: &DatasetOptions) -> Result<(), DatasetError> {
    if (0.0..1.0).contains(&options.range_ratio) {
        return Ok(());
    }
    let found = options.range_ratio.to_string();
    Err(DatasetError::Option { name: "--random-range-ratio", found, expected: "at least 0 and below 1" })
}

/// Tokens to request where the run does not say.
const OUTPUT_TOKENS: u32 = 128;

fn load(options: &DatasetOptions, tokens: &Tokens) -> Result<Dataset, DatasetError> {
    check(options)?;
    let mut rng = Rng::with_seed(options.seed);
    let prefix = text::make(&mut rng, tokens, options.prefix_tokens)?;
    let mut samples = Vec::with_capacity(options.count);
    for _ in 0..options.count {
        let input = length(&mut rng, options.input_tokens, options.range_ratio);
        let output = length(&mut rng, options.output_tokens.unwrap_or(OUTPUT_TOKENS), options.range_ratio);
        let body = text::make(&mut rng, tokens, input)?;
        let prompt = if prefix.is_empty() { body } else { format!("{prefix} {body}") };
        samples.push(Sample::new(Prompt::Text(prompt), options.prefix_tokens + input, output));
    }
    Ok(Dataset { samples, notes: Vec::new() })
}

fn load_ids(options: &DatasetOptions, tokens: &Tokens) -> Result<Dataset, DatasetError> {
    check(options)?;
    let Tokens::Exact(exact) = tokens else {
        return Err(DatasetError::Tokenizer("dataset `random-ids` needs --tokenizer".into()));
    };
    let mut rng = Rng::with_seed(options.seed);
    let words = exact.words();
    let ids =
        |rng: &mut Rng, count| -> Vec<u32> { (0..count).map(|_| words[rng.usize(..words.len())]).collect() };
    let prefix = ids(&mut rng, options.prefix_tokens);
    let mut sample = || {
        let input = length(&mut rng, options.input_tokens, options.range_ratio);
        let output = length(&mut rng, options.output_tokens.unwrap_or(OUTPUT_TOKENS), options.range_ratio);
        let prompt = [prefix.clone(), ids(&mut rng, input)].concat();
        let count = prompt.len() as u32;
        Sample::new(Prompt::Tokens(prompt), count, output)
    };
    Ok(Dataset { samples: (0..options.count).map(|_| sample()).collect(), notes: Vec::new() })
}

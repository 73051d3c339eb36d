//! A watermark that nobody sees and a detector finds: the previous token splits the vocabulary into green and
//! red, and green tokens are made likelier. The detector counts them in a text; chance gives a z-score near
//! 0, the mark a high one. `--detect` looks for the mark in a given text.

use std::collections::HashSet;

use inferlet::{Chat, Model, Parameters, Result, SamplingParams, json, random_seed};

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'p', default = "Write a story about the sea.")]
    prompt: String,
    /// Tokens to generate at most.
    #[parameter(short = 'n', default = 128)]
    max_tokens: usize,
    /// Share of green tokens.
    #[parameter(short = 'g', default = 0.5)]
    gamma: f64,
    /// Added to the logits of green tokens.
    #[parameter(short = 'd', default = 4.0)]
    delta: f32,
    /// Of the draws.
    #[parameter(short = 't', default = 0.8)]
    temperature: f32,
    /// Text to look for the mark in, and no more.
    #[parameter(short = 'x')]
    detect: Option<String>,
    /// Seed of the random draws; a random one without it.
    #[parameter(short = 'r')]
    seed: Option<u64>,
}

#[inferlet::main]
async fn main(given: Options) -> Result<String> {
    let draws = SamplingParams::temperature(given.temperature).seed(given.seed.unwrap_or_else(random_seed));
    let model = Model::open_default()?;
    let z = |text: &str| model.tokenize(text).map(|tokens| z_score(&tokens, given.gamma));
    if let Some(found) = given.detect {
        return Ok(json!({ "z": z(&found)?, "detected": z(&found)? > 4.0 }).to_string());
    }
    let mut chat = Chat::new(&model)?;
    let plain = chat.user(&given.prompt).fork()?.answer(draws.clone(), given.max_tokens).await?.text;
    let (context, mut tokens, stops) = (chat.generation_prompt()?, Vec::new(), &model.facts().stop_tokens);
    while tokens.len() < given.max_tokens && !tokens.last().is_some_and(|token| stops.contains(token)) {
        let previous = context.tokens().last().copied().unwrap_or(0);
        let green = (0..model.facts().vocabulary_size).filter(|t| is_green(previous, *t, given.gamma));
        let sampling = draws.clone().logit_bias(green.map(|token| (token, given.delta)).collect());
        tokens.push(context.step(&sampling, &[]).await?.token);
    }
    let text = model.detokenize(&tokens.into_iter().filter(|t| !stops.contains(t)).collect::<Vec<_>>())?;
    let (z, plain) = (z(&text)?, z(&plain)?);
    Ok(json!({ "text": text, "z": z, "detected": z > 4.0, "z_unmarked": plain }).to_string())
}

/// Whether a token is green after another: a hash of the two (splitmix64), compared with the share.
fn is_green(previous: u32, token: u32, gamma: f64) -> bool {
    let mut hash = (u64::from(previous) << 32 | u64::from(token)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((hash ^ hash >> 31) as f64) < gamma * u64::MAX as f64
}

/// How far the count of green tokens is from chance, in standard deviations. A pair of tokens counts once, or
/// text that repeats itself would look marked.
fn z_score(tokens: &[u32], gamma: f64) -> f64 {
    let pairs: HashSet<_> = tokens.windows(2).map(|pair| (pair[0], pair[1])).collect();
    let green = pairs.iter().filter(|(previous, token)| is_green(*previous, *token, gamma)).count();
    let (count, green) = (pairs.len().max(1) as f64, green as f64);
    (green - gamma * count) / (count * gamma * (1.0 - gamma)).sqrt()
}

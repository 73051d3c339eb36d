//! A watermark that nobody sees and a detector finds: the previous token splits the vocabulary into green and
//! red, and green tokens are made likelier. The detector counts them in a text; chance gives a z-score near
//! 0, the mark a high one. `--detect` looks for the mark in a given text.

use std::collections::HashSet;

use inferlet::{Args, Chat, Model, Result, SamplingParams, json};

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt = args.option("prompt", 'p', "what to ask", "Write a story about the sea.".to_string())?;
    let max_tokens = args.option("max-tokens", 'n', "tokens to generate at most", 128)?;
    let gamma = args.option("gamma", 'g', "share of green tokens", 0.5)?;
    let delta = args.option("delta", 'd', "added to the logits of green tokens", 4.0)?;
    let temperature = args.option("temperature", 't', "of the draws", 0.8)?;
    let found = args.option("detect", 'x', "text to look for the mark in, and no more", String::new())?;
    let sampling = SamplingParams::temperature(temperature).seed(args.seed()?);
    args.finish()?;

    let model = Model::open_default()?;
    let z = |text: &str| model.tokenize(text).map(|tokens| z_score(&tokens, gamma));
    if !found.is_empty() {
        return Ok(json!({ "z": z(&found)?, "detected": z(&found)? > 4.0 }).to_string());
    }
    let mut chat = Chat::new(&model)?;
    let unmarked = chat.user(&prompt).fork()?.answer(sampling.clone(), max_tokens).await?.text;
    let (context, mut tokens, stops) = (chat.generation_prompt()?, Vec::new(), &model.facts().stop_tokens);
    while tokens.len() < max_tokens && !tokens.last().is_some_and(|token| stops.contains(token)) {
        let previous = context.tokens().last().copied().unwrap_or(0);
        let green = (0..model.facts().vocabulary_size).filter(|token| is_green(previous, *token, gamma));
        let sampling = sampling.clone().logit_bias(green.map(|token| (token, delta)).collect());
        tokens.push(context.step(&sampling, &[]).await?.token);
    }
    tokens.retain(|token| !stops.contains(token));
    let text = model.detokenize(&tokens)?;
    let (z, z_unmarked) = (z(&text)?, z(&unmarked)?);
    Ok(json!({ "text": text, "z": z, "detected": z > 4.0, "z_unmarked": z_unmarked }).to_string())
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

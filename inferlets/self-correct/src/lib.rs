//! A program that watches what is written and takes it back: when a forbidden word appears, the context goes
//! back to where the word began, and something else is drawn there. Nothing before is computed again.

use inferlet::anyhow::bail;
use inferlet::{Chat, Model, Parameters, Result, SamplingParams, json};

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'p', default = "Describe a day at the beach.")]
    prompt: String,
    /// Words, separated by commas.
    #[parameter(short = 'w', default = "the,sun,sea")]
    forbidden: String,
    /// Tokens to generate at most.
    #[parameter(short = 'n', default = 64)]
    max_tokens: usize,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, forbidden: words, max_tokens } = options;

    let model = Model::open_default()?;
    let forbidden: Vec<String> = words.split(',').map(|word| word.trim().to_lowercase()).collect();
    if forbidden.iter().any(String::is_empty) {
        bail!("a forbidden word is empty");
    }
    let mut chat = Chat::new(&model)?;
    let context = chat.user(&prompt).generation_prompt()?;
    let start = context.tokens().len();
    let mut rewinds = 0;
    // For each place, the tokens that led to a forbidden word there.
    let mut banned: Vec<Vec<(u32, f32)>> = vec![Vec::new(); max_tokens];
    let mut place = 0;
    while place < max_tokens {
        let sampling = SamplingParams::greedy().logit_bias(banned[place].clone());
        let token = context.step(&sampling, &[]).await?.token;
        let stopped = model.facts().stop_tokens.contains(&token);
        if stopped {
            let length = context.tokens().len() - 1;
            context.truncate(length)?;
        }
        let text = model.detokenize(&context.tokens()[start..])?;
        let Some(at) = find_word(&text, &forbidden) else {
            if stopped {
                break;
            }
            place += 1;
            continue;
        };
        // The token in which the word begins; after another token there, the places behind are new.
        let mut first = 0;
        while model.detokenize(&context.tokens()[start..=start + first])?.len() <= at {
            first += 1;
        }
        let wrong = context.tokens()[start + first];
        banned[first].push((wrong, f32::NEG_INFINITY));
        banned[first + 1..].iter_mut().for_each(Vec::clear);
        // One token before it is pending again, so that a pass has something to compute.
        let before = context.tokens()[start + first - 1];
        context.truncate(start + first - 1)?;
        context.append_tokens(&[before]);
        place = first;
        rewinds += 1;
    }
    let text = model.detokenize(&context.tokens()[start..])?;
    let clean = find_word(&text, &forbidden).is_none();
    let report = json!({
        "text": text, "rewinds": rewinds, "clean": clean, "prompt_tokens": start, "work": model.work().json(),
    });
    Ok(report.to_string())
}

/// Where the first forbidden word begins.
fn find_word(text: &str, forbidden: &[String]) -> Option<usize> {
    let mut at = 0;
    for part in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = part.trim_end_matches(|c: char| !c.is_alphanumeric());
        if forbidden.contains(&word.to_lowercase()) {
            return Some(at);
        }
        at += part.len();
    }
    None
}

//! Prompts of the lengths that are asked for.

use anyhow::{Context, ensure};
use fastrand::Rng;

use super::{InferxFlags, PromptDist};
use crate::dataset::text;
use crate::dataset::tokens::Tokens;
use crate::dataset::{Prompt, Sample};

/// The body where none is given.
pub(super) const TEMPLATE: &str = r#"{"prompt": "{prompt}"}"#;

/// Templates were once filled by Python's `format`, for which a brace of JSON is written twice. One that is JSON only
/// after that is meant so.
pub(super) fn with_single_braces(template: &str) -> String {
    let is_json = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
    let single = template.replace("{{", "{").replace("}}", "}");
    if !is_json(template) && is_json(&single) { single } else { template.to_string() }
}

/// Makes `count` samples.
///
/// # Errors
/// What is wrong with a flag or the file.
pub(super) fn samples(flags: &InferxFlags, tokens: &Tokens, count: usize) -> anyhow::Result<Vec<Sample>> {
    let mut rng = Rng::with_seed(flags.seed);
    let sample = |text: String, length| Sample::new(Prompt::Text(text), length, flags.output_tokens);
    if let Some(path) = &flags.sample_prompts_file {
        let file = std::fs::read_to_string(path);
        let file =
            file.with_context(|| format!("--sample-prompts-file: cannot read `{}`", path.display()))?;
        let lines: Vec<&str> = file.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        ensure!(!lines.is_empty(), "--sample-prompts-file: `{}` has no line with a prompt", path.display());
        let lengths = lines.iter().map(|line| tokens.count(line)).collect::<Result<Vec<u32>, _>>()?;
        let draw = |_| rng.usize(..lines.len());
        return Ok((0..count).map(draw).map(|line| sample(lines[line].into(), lengths[line])).collect());
    }
    ensure!(
        flags.min_tokens <= flags.max_tokens,
        "--min-tokens is {}, expected --max-tokens {} or less",
        flags.min_tokens,
        flags.max_tokens
    );
    let has_choices = !flags.choices_tokens.is_empty();
    ensure!(
        has_choices == (flags.prompt_dist == PromptDist::Choices),
        "--choices-tokens and --prompt-dist choices belong together"
    );
    let samples = (0..count).map(|_| {
        let length = length(flags, &mut rng);
        Ok(sample(text::make(&mut rng, tokens, length)?, length))
    });
    samples.collect()
}

fn length(flags: &InferxFlags, rng: &mut Rng) -> u32 {
    match flags.prompt_dist {
        PromptDist::Uniform => rng.u32(flags.min_tokens..=flags.max_tokens),
        PromptDist::Choices => flags.choices_tokens[rng.usize(..flags.choices_tokens.len())],
        // What is drawn counts words from one, and is brought into the bounds.
        PromptDist::Zipf => zipf(rng, flags.max_tokens).max(flags.min_tokens),
    }
}

/// A number by Zipf's law with exponent 2, `highest` at most: 1 has six parts in ten, 2 a quarter of that.
fn zipf(rng: &mut Rng, highest: u32) -> u32 {
    // Devroye's rejection with the exponent 2: candidates 1 / u, kept by the ratio of the law to its hull.
    loop {
        let candidate = (1.0 / (1.0 - rng.f64())).floor();
        let ratio = 1.0 + 1.0 / candidate;
        if rng.f64() * candidate * (ratio - 1.0) <= ratio / 2.0 {
            return if candidate >= f64::from(highest) { highest } else { candidate as u32 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_braces_are_those_of_another_language_and_single_ones_stay() {
        assert_eq!(with_single_braces(r#"{{"prompt": "{prompt}"}}"#), TEMPLATE);
        assert_eq!(with_single_braces(TEMPLATE), TEMPLATE);
        assert_eq!(with_single_braces("plain {{ {prompt}"), "plain {{ {prompt}");
        let nested = r#"{"a":{"prompt":"{prompt}"}}"#;
        assert_eq!(with_single_braces(nested), nested);
    }

    #[test]
    fn zipf_has_the_shares_of_its_law() {
        let mut rng = Rng::with_seed(3);
        let draws: Vec<u32> = (0..20_000).map(|_| zipf(&mut rng, 50)).collect();
        let share = |n| draws.iter().filter(|draw| **draw == n).count() as f64 / draws.len() as f64;
        // 1 / (n^2 zeta(2)), with zeta(2) = 1.6449.
        for n in 1..5 {
            let expected = 1.0 / (f64::from(n * n) * 1.6449);
            assert!((share(n) - expected).abs() < 0.015, "{n}: {} and not {expected}", share(n));
        }
        assert!(draws.iter().all(|draw| (1..=50).contains(draw)));
    }
}

//! Draws several answers in one batch and takes the one most like all the others.

use std::collections::HashSet;

use inferlet::{Args, Chat, Model, Result, SamplingParams, answer_all, json};

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt = args.option("prompt", 'p', "what to ask", "Why is the sky blue?".to_string())?;
    let candidates = args.option("candidates", 'c', "answers to draw", 5)?;
    let max_tokens = args.option("max-tokens", 'n', "tokens of an answer at most", 64)?;
    let temperature = args.option("temperature", 't', "of the draws", 0.8)?;
    args.finish()?;

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    let mut forks = chat.user(&prompt).branch(candidates).await?;
    let answers = answer_all(&mut forks, SamplingParams::temperature(temperature), max_tokens).await?;

    let score = |answer: &String| answers.iter().map(|other| similarity(answer, other)).sum::<f64>();
    let scores: Vec<f64> = answers.iter().map(score).collect();
    let best = (0..answers.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let (text, work) = (best.map(|best| &answers[best]), model.work().json());
    let report = json!({ "best": best, "text": text, "answers": answers, "scores": scores, "work": work });
    Ok(report.to_string())
}

/// Shared pairs of neighbouring words, of all: 1 for texts with the same pairs.
fn similarity(a: &str, b: &str) -> f64 {
    fn pairs(text: &str) -> HashSet<(&str, &str)> {
        text.split_whitespace().zip(text.split_whitespace().skip(1)).collect()
    }
    let (a, b) = (pairs(a), pairs(b));
    2.0 * a.intersection(&b).count() as f64 / (a.len() + b.len()).max(1) as f64
}

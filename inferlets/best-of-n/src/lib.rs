//! Draws several answers in one batch and takes the best. A verifier scores each: the probability that the
//! model, asked about the answer in a new conversation, says yes. `--consensus` takes the answer most like
//! the others in place of it (minimum Bayes risk over shared pairs of words).

use std::collections::HashSet;

use inferlet::futures::future::try_join_all;
use inferlet::{Chat, Model, Parameters, Result, SamplingParams, answer_all, json, random_seed};

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'p', default = "Why is the sky blue?")]
    prompt: String,
    /// Answers to draw.
    #[parameter(short = 'c', default = 5)]
    candidates: usize,
    /// Tokens of an answer at most.
    #[parameter(short = 'n', default = 64)]
    max_tokens: usize,
    /// Of the draws.
    #[parameter(short = 't', default = 0.8)]
    temperature: f32,
    /// Take the answer most like the others.
    #[parameter(short = 'm')]
    consensus: bool,
    /// Seed of the random draws; a random one without it.
    #[parameter(short = 'r')]
    seed: Option<u64>,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, candidates, max_tokens, temperature, consensus, seed } = options;
    let seed = seed.unwrap_or_else(random_seed);

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    let mut forks = chat.user(&prompt).branch(candidates).await?;
    let sampling = SamplingParams::temperature(temperature).seed(seed);
    let answers = answer_all(&mut forks, sampling, max_tokens).await?;
    let answers: Vec<String> = answers.into_iter().map(|answer| answer.text).collect();
    let work = model.work().json();

    let scores: Vec<f64> = if consensus {
        let score = |answer: &String| answers.iter().map(|other| similarity(answer, other)).sum();
        answers.iter().map(score).collect()
    } else {
        try_join_all(answers.iter().map(|answer| verify(&model, &prompt, answer))).await?
    };
    let best = (0..answers.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let text = best.map(|best| &answers[best]);
    let report = json!({
        "best": best, "text": text, "answers": answers, "scores": scores, "seed": seed, "work": work,
    });
    Ok(report.to_string())
}

/// How probable a yes is, of yes and no, when the model is asked whether an answer is right.
async fn verify(model: &Model, question: &str, answer: &str) -> Result<f64> {
    let first_token = |text| model.tokenize(text).map(|tokens| tokens.first().copied().unwrap_or(0));
    let mut judge = Chat::new(model)?;
    judge.user(&format!(
        "Question: {question}\nAnswer: {answer}\nIs this answer right and complete? Write Yes or No."
    ));
    let answers = [first_token("Yes")?, first_token("No")?];
    let log_probs = judge.generation_prompt()?.next_logprobs(&answers).await?;
    Ok(1.0 / (1.0 + f64::from(log_probs[1] - log_probs[0]).exp()))
}

/// Shared pairs of neighbouring words, of all: 1 for texts with the same pairs.
fn similarity(a: &str, b: &str) -> f64 {
    fn pairs(text: &str) -> HashSet<(&str, &str)> {
        text.split_whitespace().zip(text.split_whitespace().skip(1)).collect()
    }
    let (a, b) = (pairs(a), pairs(b));
    2.0 * a.intersection(&b).count() as f64 / (a.len() + b.len()).max(1) as f64
}

//! How probable each of some answers is, exactly: one pass over a fork scores all tokens of a candidate,
//! another one its end, so that a beginning of a right answer is not taken for one. The scores are compared
//! with those of one token at a time, from all logits.

use inferlet::futures::future::try_join_all;
use inferlet::{Chat, Context, Model, Parameters, Result, json, log_softmax};

const PROMPT: &str = "My name is David Chen. What is my name? Answer with the name only.";

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'p', default = PROMPT)]
    prompt: String,
    /// Answers to score, separated by commas.
    #[parameter(short = 'c', default = "John Smith,Mary Anne,David Chen,Chen David")]
    candidates: String,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, candidates } = options;

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    let prompt = chat.user(&prompt).generation_prompt()?;
    let stop_tokens = &model.facts().stop_tokens;
    let score = |candidate: &str| {
        let (tokens, fork, again) = (model.tokenize(candidate), prompt.fork(), prompt.fork());
        async move {
            let (tokens, mut fork) = (tokens?, fork?);
            let log_prob: f32 = fork.logprobs(&tokens).await?.iter().sum();
            let end = fork.next_logprobs(stop_tokens).await?;
            let end: f64 = end.iter().map(|log_prob| f64::from(*log_prob).exp()).sum();
            let log_prob = f64::from(log_prob) + end.ln();
            Ok::<_, inferlet::anyhow::Error>((log_prob, step_by_step(again?, &tokens).await?))
        }
    };
    let scores = try_join_all(candidates.split(',').map(score)).await?;
    let total: f64 = scores.iter().map(|(log_prob, _)| log_prob.exp()).sum();
    let off = scores.iter().map(|(one, two)| (one - two).abs()).fold(0.0, f64::max);
    let describe = |(text, (log_prob, _)): (&str, &(f64, f64))| {
        let share = log_prob.exp() / total;
        json!({ "text": text, "log_prob": log_prob, "share": share })
    };
    let described: Vec<_> = candidates.split(',').zip(&scores).map(describe).collect();
    let best = (0..scores.len()).max_by(|a, b| scores[*a].0.total_cmp(&scores[*b].0));
    let best = best.map(|best| described[best]["text"].clone());
    Ok(json!({ "candidates": described, "best": best, "max_error": off, "exact": off < 0.01 }).to_string())
}

/// The same score the long way.
async fn step_by_step(mut context: Context, tokens: &[u32]) -> Result<f64> {
    let mut sum = 0.0;
    for token in tokens {
        sum += log_softmax(&context.logits().await?)[*token as usize];
        context.append_tokens(&[*token]);
    }
    let last = log_softmax(&context.logits().await?);
    let end: f64 = context.model().facts().stop_tokens.iter().map(|stop| last[*stop as usize].exp()).sum();
    Ok(sum + end.ln())
}

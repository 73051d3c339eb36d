//! The most probable text of several kept at each step. The beams fork one context and share its pages.
//! `--check` compares with a plain search that computes every hypothesis from its first token.

use inferlet::{
    Beam, BeamSearch, Chat, Context, Model, Parameters, Result, SamplingParams, Value, json, log_softmax,
};

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'p', default = "What is the capital of France?")]
    prompt: String,
    /// Tokens to generate at most.
    #[parameter(short = 'n', default = 32)]
    max_tokens: usize,
    /// Beams to keep.
    #[parameter(short = 'b', default = 3, min = 1)]
    beams: usize,
    /// Compare with a plain search, and with greedy decoding.
    #[parameter(short = 'c')]
    check: bool,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, max_tokens, check, beams: width } = options;

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    let prompt = chat.user(&prompt).generation_prompt()?;
    let beams = BeamSearch::new(prompt, width).max_tokens(max_tokens).run().await?;
    let work = model.work();
    let describe = |beam: &Beam| -> Result<Value> {
        Ok(json!({ "text": model.detokenize(&beam.tokens)?, "log_prob": beam.logprob, "ended": beam.ended }))
    };
    let described = beams.iter().map(describe).collect::<Result<Vec<_>>>()?;
    let mut report = json!({ "beams": described, "work": work.json() });
    if check {
        let plain = plain_search(&model, prompt.tokens(), width, max_tokens).await?;
        let same = |(beam, plain): (&Beam, &Hypothesis)| {
            let (found, expected) = (&beam.tokens, plain.tokens.strip_suffix(&plain.stop[..]));
            Some(&found[..]) == expected && (beam.logprob - plain.log_prob).abs() < 1e-2
        };
        report["equal"] = json!(beams.len() == plain.len() && beams.iter().zip(&plain).all(same));
        let greedy = prompt.generate(SamplingParams::greedy()).max_tokens(max_tokens).answer().await?.text;
        report["greedy"] = json!(greedy);
    }
    Ok(report.to_string())
}

/// A hypothesis of the plain search: its tokens, and the stop token at their end if it has one.
#[derive(Clone, Default)]
struct Hypothesis {
    log_prob: f64,
    tokens: Vec<u32>,
    stop: Vec<u32>,
}

/// Beam search as it is in a textbook: all logits of all hypotheses, nothing shared.
async fn plain_search(
    model: &Model,
    prompt: &[u32],
    width: usize,
    max_tokens: usize,
) -> Result<Vec<Hypothesis>> {
    let mut kept = vec![Hypothesis::default()];
    for _ in 0..max_tokens {
        let mut next = Vec::new();
        for (index, one) in kept.iter().enumerate() {
            if !one.stop.is_empty() {
                next.push((one.log_prob, index, None));
                continue;
            }
            let mut context = Context::new(model)?;
            let logits = context.append_tokens(prompt).append_tokens(&one.tokens).logits().await?;
            let scores = log_softmax(&logits).into_iter().zip(0..);
            next.extend(scores.map(|(score, token)| (one.log_prob + score, index, Some(token))));
        }
        next.sort_by(|a, b| b.0.total_cmp(&a.0));
        let extend = |&(log_prob, index, token): &(f64, usize, Option<u32>)| {
            let mut one = Hypothesis { log_prob, ..kept[index].clone() };
            one.tokens.extend(token);
            one.stop.extend(token.filter(|token| model.facts().stop_tokens.contains(token)));
            one
        };
        kept = next.iter().take(width).map(extend).collect();
    }
    Ok(kept)
}

//! What the calls of the API cost, in microseconds: those that only read or change a context, and passes of one token.
//! A call that is faster than the clock is timed many at a time.

use std::time::Instant;

use inferlet::forward::{OutputKind, OutputRequest};
use inferlet::{Args, Context, Model, Result, Sampler, json, runtime};

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let rounds: usize = args.option("rounds", 'n', "samples of each call", 50)?;
    let batch: usize = args.option("batch", 'b', "control calls of one sample", 100)?;
    args.finish()?;

    let model = Model::open_default()?;
    let mut context = Context::new(&model)?;
    context.fill("The quick brown fox jumps over the lazy dog, and then goes home.").flush().await?;
    let length = context.tokens().len();
    let (mut read, mut fork, mut truncate) = (Vec::new(), Vec::new(), Vec::new());
    let (mut usage, mut plain, mut token, mut top, mut logits) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds.max(1) {
        read.push(control(batch, || Ok(_ = context.handle().length()))?);
        fork.push(control(batch, || context.fork().map(drop))?);
        truncate.push(control(batch, || Ok(context.handle().truncate(length as u32)?))?);
        let start = Instant::now();
        runtime::usage().await?;
        usage.push(micros(start));

        let sampling = || OutputKind::Token(Sampler::greedy().sampling(&[], None));
        plain.push(pass(&mut context, None).await?);
        token.push(pass(&mut context, Some(sampling())).await?);
        top.push(pass(&mut context, Some(OutputKind::TopK(32))).await?);
        logits.push(pass(&mut context, Some(OutputKind::Logits)).await?);
    }
    let report = json!({
        "unit": "us", "rounds": rounds, "prompt_tokens": length, "work": model.work().json(),
        "control": { "length": median(read), "fork": median(fork), "truncate": median(truncate), "usage": median(usage) },
        "forward": { "no_output": median(plain), "token": median(token), "top_k_32": median(top),
            "logits": median(logits) },
    });
    Ok(report.to_string())
}

/// Microseconds of one call, from many.
fn control(batch: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..batch.max(1) {
        call()?;
    }
    Ok(micros(start) / batch.max(1) as f64)
}

/// Microseconds of a pass of one token, which is taken back.
async fn pass(context: &mut Context, kind: Option<OutputKind<'_>>) -> Result<f64> {
    let length = context.tokens().len();
    context.fill_tokens(&[0]);
    let start = Instant::now();
    context.pass(kind.map(|kind| OutputRequest { row: 0, kind }).into_iter().collect()).await?;
    let elapsed = micros(start);
    context.truncate(length)?;
    Ok(elapsed)
}

fn micros(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

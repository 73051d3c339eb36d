//! What the calls of the API cost, in microseconds: those that only read or change a context, passes of one
//! token, and what a grammar adds to a step. A pass costs what it takes beyond the model's own time; with
//! `--inferlets`, that many programs make passes at once, and share it.

use std::time::Instant;

use inferlet::forward::{self, Input, OutputKind, OutputRequest, Pass};
use inferlet::futures::future::try_join_all;
use inferlet::{
    Context, Grammar, Model, Parameters, Result, SamplingParams, Value, json, messaging, runtime,
};

const PROMPT: &str = "The quick brown fox jumps over the lazy dog, and then goes home.";
const SCHEMA: &str = r#"{"type": "array", "minItems": 50, "items": {"type": "object",
    "additionalProperties": false, "required": ["name", "age"], "properties": {
    "name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0, "maximum": 120}}}}"#;

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// Samples of each call.
    #[parameter(short = 'n', default = 50)]
    rounds: usize,
    /// Control calls of one sample.
    #[parameter(short = 'b', default = 100)]
    batch: usize,
    /// Programs that make passes at once.
    #[parameter(short = 'i', default = 1)]
    inferlets: usize,
    /// Of the programs launched: whom to tell.
    #[parameter(short = 'c', default = "")]
    child: String,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { rounds, batch, inferlets, child } = options;
    let (rounds, batch) = (rounds.max(1), batch.max(1));

    let model = Model::open_default()?;
    let report = match (child.as_str(), inferlets) {
        ("", 0 | 1) => {
            let control = control(&model, rounds, batch).await?;
            let passes = passes(&model, rounds).await?;
            json!({ "control": control, "forward": passes, "grammar": grammar(&model, rounds).await? })
        }
        ("", inferlets) => at_once(inferlets, rounds).await?,
        (parent, _) => work(&model, parent, rounds).await?,
    };
    Ok(report.to_string())
}

async fn control(model: &Model, rounds: usize, batch: usize) -> Result<Value> {
    let mut context = Context::new(model)?;
    context.append(PROMPT).prefill().await?;
    let length = context.tokens().len();
    let (mut read, mut fork, mut truncate, mut usage) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        read.push(many(batch, || Ok(_ = context.handle().length()))?);
        fork.push(many(batch, || context.fork().map(drop))?);
        truncate.push(many(batch, || Ok(context.handle().truncate(length as u32)?))?);
        let start = Instant::now();
        runtime::usage().await?;
        usage.push(micros(start));
    }
    let [read, fork, truncate, usage] = [read, fork, truncate, usage].map(median);
    Ok(json!({ "length": read, "fork_and_drop": fork, "truncate": truncate, "usage": usage }))
}

/// Microseconds of one call, from many.
fn many(batch: usize, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    for _ in 0..batch {
        call()?;
    }
    Ok(micros(start) / batch as f64)
}

/// Passes of one token, with each kind of output: the whole time, and the part of it beyond the model's time.
async fn passes(model: &Model, rounds: usize) -> Result<Value> {
    let mut context = Context::new(model)?;
    context.append(PROMPT).prefill().await?;
    let sampling = || OutputKind::Token(SamplingParams::greedy().for_token(None, &[]));
    let mut report = json!({});
    for (name, kind) in [
        ("no_output", None),
        ("token", Some(sampling())),
        ("top_k_32", Some(OutputKind::TopK(32))),
        ("logits", Some(OutputKind::Logits)),
    ] {
        let (mut whole, mut overhead) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (elapsed, compute) = pass(&mut context, kind.clone()).await?;
            whole.push(elapsed);
            overhead.push(elapsed - compute);
        }
        report[name] = json!({ "whole": median(whole), "overhead": median(overhead) });
    }
    Ok(report)
}

/// A pass of one token, which is taken back: microseconds, and those among them that the model computed.
async fn pass(context: &mut Context, kind: Option<OutputKind<'_>>) -> Result<(f64, f64)> {
    let (length, before) = (context.tokens().len(), context.model().work().batch_time);
    context.append_tokens(&[0]);
    let start = Instant::now();
    context.pass(kind.map(|kind| OutputRequest { row: 0, kind }).into_iter().collect()).await?;
    let elapsed = micros(start);
    context.truncate(length)?;
    Ok((elapsed, (context.model().work().batch_time - before).as_secs_f64() * 1e6))
}

/// Steps with and without a grammar in turn, on the same tokens.
async fn grammar(model: &Model, rounds: usize) -> Result<Value> {
    let constraint = model.constraint(Grammar::JsonSchema(SCHEMA.to_string())).await?;
    let (mut with, mut without) = (Context::new(model)?, Context::new(model)?);
    // The last token stays pending: a step computes it.
    with.append(PROMPT).prefill_but_last().await?;
    without.append(PROMPT).prefill_but_last().await?;
    let sampling = SamplingParams::temperature(1.0).seed(0);
    let (mut bound, mut free, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let start = Instant::now();
        let token = with.step(&sampling, &[&constraint]).await?.token;
        constraint.advance(&[token])?;
        bound.push(micros(start));
        let start = Instant::now();
        without.step(&sampling, &[]).await?;
        free.push(micros(start));
        added.push(bound[bound.len() - 1] - free[free.len() - 1]);
        without.truncate(with.tokens().len() - 1)?;
        without.append_tokens(&[token]);
    }
    let (bound, free, added) = (median(bound), median(free), median(added));
    let added_percent = 100.0 * added / free;
    Ok(json!({ "step": free, "constrained_step": bound, "added": added, "added_percent": added_percent }))
}

/// Launches programs that begin at once, and divides their time beyond the model's by their passes.
async fn at_once(inferlets: usize, rounds: usize) -> Result<Value> {
    let parent = runtime::instance_id();
    let arguments = || vec![format!("--child={parent}"), format!("--rounds={rounds}")];
    let launched = (0..inferlets).map(|_| runtime::launch("bench-call".to_string(), arguments()));
    let children = try_join_all(launched).await?;
    for _ in &children {
        messaging::pull(parent.clone()).await?;
    }
    let start = Instant::now();
    messaging::broadcast(&parent, "go", true)?;
    let reports = try_join_all(children.iter().map(|child| child.wait())).await?;
    let elapsed = micros(start);
    // The shares of all passes add up to the time of all batches, however they were put together.
    let shares = reports.iter().map(|report| Ok(inferlet::serde_json::from_str::<f64>(report)?));
    let compute = shares.sum::<Result<f64>>()?;
    let each = (elapsed - compute) / (inferlets * rounds) as f64;
    Ok(json!({
        "inferlets": inferlets, "passes_each": rounds, "whole": elapsed, "model": compute,
        "overhead_each": each,
    }))
}

/// What a launched program does: passes one after the other, once the signal is given. Its share of the
/// model's microseconds.
async fn work(model: &Model, parent: &str, rounds: usize) -> Result<Value> {
    let mut context = Context::new(model)?;
    context.append(PROMPT).prefill().await?;
    let signal = messaging::subscribe(parent, true)?;
    messaging::push(parent.to_string(), "ready".to_string()).await?;
    signal.next().await?;
    let mut share_ns = 0;
    for _ in 0..rounds {
        let kind = OutputKind::Token(SamplingParams::greedy().for_token(None, &[]));
        let (input, outputs) = (Input::Tokens(vec![0]), vec![OutputRequest { row: 0, kind }]);
        // Nothing is kept, so that the next pass is the next call.
        let pass = Pass { input, positions: None, masks: None, adapter: None, keep: false, outputs };
        share_ns += forward::execute(context.handle(), pass).await?.compute_share_ns;
    }
    Ok(json!(share_ns as f64 / 1e3))
}

fn micros(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

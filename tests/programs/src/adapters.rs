//! Low-rank adapters, on their own and beside passes without one.

use inferlet::adapter::{Adapter, Source, available};
use inferlet::anyhow::{anyhow, bail, ensure};
use inferlet::bindings::pie::inferlet::context::Context;
use inferlet::forward::{self, Input, Output, OutputKind, OutputRequest, Pass};
use inferlet::{Model, Result, Value, arg_max, json, serde_json, session};

const PROMPT: &str = "The quick brown fox jumps over the lazy dog.";
/// Tokens of a greedy continuation.
const TOKENS: usize = 24;

/// Takes one message, a list of adapters: `{"name": …}`, `{"gguf": hex}` or `{"peft": [config, hex]}`. The
/// result says for each what the model answers with it, or why it was refused, and what the model answers
/// without.
pub async fn adapted() -> Result<String> {
    let sources: Vec<Value> = serde_json::from_str(&session::receive().await?)?;
    let model = Model::open_default()?;
    let plain = answer(&model, None).await?;
    let (mut adapted, mut loaded) = (Vec::new(), Vec::new());
    for source in &sources {
        match Adapter::load(model.handle(), read(source)?).await {
            Err(error) => adapted.push(json!({ "error": format!("{error:?}") })),
            Ok(adapter) => {
                let (logits, tokens) = answer(&model, Some(&adapter)).await?;
                adapted.push(json!({
                    "rank": adapter.rank(), "tensors": adapter.tensors(), "logits": logits, "tokens": tokens,
                }));
                loaded.push(adapter);
            }
        }
    }
    let in_one_call = in_one_call(&model, &loaded).await?;
    Ok(json!({
        "available": available()?,
        "plain": { "logits": plain.0, "tokens": plain.1 },
        "adapted": adapted,
        "together": in_one_call,
    })
    .to_string())
}

fn read(source: &Value) -> Result<Source> {
    let text = |value: &Value| value.as_str().map(str::to_string).ok_or_else(|| anyhow!("no text: {value}"));
    Ok(if let Some(name) = source.get("name") {
        Source::Name(text(name)?)
    } else if let Some(gguf) = source.get("gguf") {
        Source::Gguf(bytes(&text(gguf)?)?)
    } else {
        Source::Peft((text(&source["peft"][0])?, bytes(&text(&source["peft"][1])?)?))
    })
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let pair = |at: usize| Ok(u8::from_str_radix(hex.get(at..at + 2).unwrap_or_default(), 16)?);
    (0..hex.len()).step_by(2).map(pair).collect()
}

/// A pass that wants the logits of its last row. The masks say what holds without them too, but keep the rows
/// out of the prefix cache, so that every pass computes all of its rows.
fn pass<'a>(tokens: &[u32], adapter: Option<&'a Adapter>) -> Pass<'a> {
    let outputs = vec![OutputRequest { row: tokens.len() as u32 - 1, kind: OutputKind::Logits }];
    let masks = Some(vec![vec![0]; tokens.len()]);
    Pass { input: Input::Tokens(tokens.to_vec()), positions: None, masks, adapter, keep: true, outputs }
}

fn logits(answer: forward::Outputs, rows: usize) -> Result<Vec<f32>> {
    ensure!(answer.computed as usize == rows, "{} of {rows} rows were computed", answer.computed);
    match answer.values.into_iter().next() {
        Some(Output::Logits(logits)) => Ok(logits),
        other => bail!("expected logits, got {other:?}"),
    }
}

/// The logits after the prompt, as bits, and a greedy continuation.
async fn answer(model: &Model, adapter: Option<&Adapter>) -> Result<(Vec<u32>, Vec<u32>)> {
    let context = Context::create(model.handle())?;
    let (mut input, mut first, mut tokens) = (model.tokenize(PROMPT)?, None, Vec::new());
    while tokens.len() < TOKENS {
        let next = logits(forward::execute(&context, pass(&input, adapter)).await?, input.len())?;
        input = vec![arg_max(&next) as u32];
        tokens.push(input[0]);
        first.get_or_insert(bits(&next));
    }
    Ok((first.unwrap_or_default(), tokens))
}

/// The logits after the prompt for each adapter and for none, all in one call.
async fn in_one_call(model: &Model, adapters: &[Adapter]) -> Result<Vec<Vec<u32>>> {
    let tokens = model.tokenize(PROMPT)?;
    let adapters: Vec<Option<&Adapter>> = adapters.iter().map(Some).chain([None]).collect();
    let contexts: Vec<Context> =
        adapters.iter().map(|_| Context::create(model.handle())).collect::<Result<_, _>>()?;
    let passes = contexts.iter().zip(&adapters).map(|(context, adapter)| (context, pass(&tokens, *adapter)));
    let answers = forward::execute_many(passes.collect()).await;
    answers.into_iter().map(|answer| Ok(bits(&logits(answer?, tokens.len())?))).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

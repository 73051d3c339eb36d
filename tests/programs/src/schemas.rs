//! Answers that follow JSON Schemas, many at once.

use inferlet::bindings::pie::inferlet::grammar::Constraint;
use inferlet::futures::future::join_all;
use inferlet::{
    Context, Error, FinishReason, Grammar, Model, Result, SamplingParams, Value, json, serde_json, session,
};

/// Contexts that generate at once.
const GROUP: usize = 32;
/// Tokens drawn at first, and then with all the weight on what ends a text.
const TOKENS: [usize; 2] = [128, 600];

/// Takes a JSON Schema a message, and gives a line of JSON for each: the text drawn with seed `value`, or why
/// the schema was refused.
pub async fn answers(value: &str) -> Result<String> {
    let seed: u64 = value.parse()?;
    let model = Model::open_default()?;
    let mut schemas = Vec::new();
    while let Ok(schema) = session::receive().await {
        schemas.push(schema);
    }
    let samplings = samplings(&model)?;
    let mut base = Context::new(&model)?;
    base.append("A short answer in JSON:\n").prefill_but_last().await?;
    let mut lines = Vec::new();
    for (group, schemas) in schemas.chunks(GROUP).enumerate() {
        let answers = schemas.iter().enumerate().map(|(index, schema)| {
            let number = (group * GROUP + index) as u64;
            let samplings = samplings.clone().map(|sampling| sampling.seed(seed << 16 | number));
            answer(&model, base.fork(), schema, samplings)
        });
        for answer in join_all(answers).await {
            lines.push(answer?.to_string());
        }
    }
    Ok(lines.join("\n"))
}

/// Takes messages `[schema, text]`, and says of each whether the schema's grammar takes the whole text.
pub async fn accepted() -> Result<String> {
    let model = Model::open_default()?;
    let mut lines = Vec::new();
    while let Ok(message) = session::receive().await {
        let (schema, text): (Value, String) = serde_json::from_str(&message)?;
        let source = Grammar::JsonSchema(schema.to_string());
        let constraint = Constraint::compile(model.handle(), source).await?;
        let taken = constraint.advance(&model.tokenize(&text)?).is_ok() && constraint.complete()?;
        lines.push(taken.to_string());
    }
    Ok(lines.join("\n"))
}

async fn answer(
    model: &Model,
    fork: Result<Context>,
    schema: &str,
    samplings: [SamplingParams; 2],
) -> Result<Value> {
    let constraint = match Constraint::compile(model.handle(), Grammar::JsonSchema(schema.to_string())).await
    {
        Ok(constraint) => constraint,
        Err(Error::InvalidArgument(reason)) => return Ok(json!({ "refused": reason })),
        Err(error) => return Err(error.into()),
    };
    let (mut fork, mut tokens, mut ended) = (fork?, Vec::new(), false);
    for (sampling, most) in samplings.into_iter().zip(TOKENS) {
        let answer = fork.generate(sampling).constrain(&constraint).max_tokens(most).answer().await?;
        tokens.extend_from_slice(&answer.tokens);
        ended = matches!(answer.finish_reason, FinishReason::Constraint | FinishReason::StopToken(_));
        if ended {
            break;
        }
    }
    let text = String::from_utf8(model.handle().detokenize(&tokens)?)?;
    Ok(json!({ "text": text, "complete": ended && constraint.complete()?, "tokens": tokens.len() }))
}

/// What is drawn with at first, and later: both favour what ends a text, so that schemas without bounds have
/// answers too.
fn samplings(model: &Model) -> Result<[SamplingParams; 2]> {
    let stop = &model.facts().stop_tokens;
    let only = |bytes: &[u8], of: &[u8]| !bytes.is_empty() && bytes.iter().all(|b| of.contains(b));
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for (token, bytes) in (0..).zip(&model.handle().vocabulary()?) {
        if stop.contains(&token) || only(bytes, b"\"}]") {
            first.push((token, 4.0));
            later.push((token, 30.0));
        } else if bytes == b"," {
            // Ends a number, but goes on with a list.
            later.push((token, 15.0));
        } else if only(bytes, b" \t\r\n") {
            first.push((token, -4.0));
            later.push((token, -30.0));
        } else if bytes.iter().any(|b| b"{[".contains(b)) {
            later.push((token, -30.0));
        }
    }
    Ok([first, later].map(|bias| SamplingParams::temperature(1.0).logit_bias(bias)))
}

//! Answers in a given form: JSON Schema, any JSON, a regular expression, a Lark grammar or EBNF. The server
//! finds the tokens that the grammar allows and draws among them; the text is in the language by
//! construction.

use inferlet::anyhow::bail;
use inferlet::{Args, Chat, Grammar, Model, Result, SamplingParams, json, session};

const SCHEMA: &str = r#"{"type": "object", "additionalProperties": false, "required": ["name", "age", "city"],
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0,
    "maximum": 120}, "city": {"type": "string", "maxLength": 20}}}"#;

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let prompt = args.option("prompt", 'p', "what to ask", "Describe a person as JSON.".to_string())?;
    let kind =
        args.option("kind", 'k', "json-schema, json, regex, lark or ebnf", "json-schema".to_string())?;
    let grammar = args.option("grammar", 'g', "text of the grammar", SCHEMA.to_string())?;
    let max_tokens = args.option("max-tokens", 'n', "tokens to generate at most", 128)?;
    let temperature = args.option("temperature", 't', "0 is greedy", 0.0)?;
    let seed = args.seed()?;
    args.finish()?;

    let grammar = match kind.as_str() {
        "json-schema" => Grammar::JsonSchema(grammar),
        "json" => Grammar::Json,
        "regex" => Grammar::Regex(grammar),
        "lark" => Grammar::Lark(grammar),
        "ebnf" => Grammar::Ebnf(grammar),
        other => bail!("no kind of grammar is named `{other}`"),
    };
    let model = Model::open_default()?;
    let constraint = model.constraint(grammar).await?;
    let mut chat = Chat::new(&model)?;
    chat.user(&prompt);
    let sampling = SamplingParams::temperature(temperature).seed(seed);
    let mut generation = chat.generate(sampling)?.constrain(&constraint).max_tokens(max_tokens);
    while let Some(item) = generation.next().await? {
        session::send(item.text).await?;
    }
    session::send("\n".to_string()).await?;
    let answer = generation.rest().await?;
    let (tokens, forced) = (answer.tokens.len(), answer.usage.forced);
    let report = json!({
        "text": answer.text, "complete": answer.complete, "tokens": tokens, "forced": forced, "seed": answer.seed,
    });
    Ok(report.to_string())
}

//! Answers in a given form: JSON Schema, any JSON, a regular expression, a Lark grammar or EBNF. The server
//! finds the tokens that the grammar allows and draws among them; the text is in the language by
//! construction.

use inferlet::anyhow::bail;
use inferlet::{Chat, Grammar, Model, Parameters, Result, SamplingParams, json, random_seed, session};

const SCHEMA: &str = r#"{"type": "object", "additionalProperties": false, "required": ["name", "age", "city"],
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "minimum": 0,
    "maximum": 120}, "city": {"type": "string", "maxLength": 20}}}"#;

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'p', default = "Describe a person as JSON.")]
    prompt: String,
    /// Kind of the grammar.
    #[parameter(short = 'k', choices = ["json-schema", "json", "regex", "lark", "ebnf"], default = "json-schema")]
    kind: String,
    /// Text of the grammar.
    #[parameter(short = 'g', default = SCHEMA)]
    grammar: String,
    /// Tokens to generate at most.
    #[parameter(short = 'n', default = 128)]
    max_tokens: usize,
    /// 0 is greedy.
    #[parameter(short = 't', default = 0.0)]
    temperature: f32,
    /// Seed of the random draws; a random one without it.
    #[parameter(short = 'r')]
    seed: Option<u64>,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, kind, grammar, max_tokens, temperature, seed } = options;
    let seed = seed.unwrap_or_else(random_seed);

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

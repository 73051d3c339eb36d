//! A conversation with tools. The grammar of a call comes from the tools' own schemas, so that even a small
//! model calls a tool that exists with arguments of the right form; `--free` leaves it to the model whether
//! and how to call.

use inferlet::{Chat, Grammar, Model, Parameters, Result, SamplingParams, ToolCall, Value, json, session};
use inferlet::{tool_call_schema, tool_calls};

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// What to ask.
    #[parameter(short = 'p', default = "What is 12.5 times 8?")]
    prompt: String,
    /// Tokens of each answer at most.
    #[parameter(short = 'n', default = 96)]
    max_tokens: usize,
    /// Without a grammar.
    #[parameter(short = 'f')]
    free: bool,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { prompt, max_tokens, free } = options;

    // Bounds, for a number without any may be too large to be one.
    let number = json!({ "type": "number", "minimum": -1_000_000, "maximum": 1_000_000 });
    let tools = json!([
        { "type": "function", "function": {
            "name": "calculate", "description": "Computes with two numbers.",
            "parameters": { "type": "object", "additionalProperties": false,
                "required": ["a", "operation", "b"],
                "properties": { "a": number, "b": number,
                    "operation": { "enum": ["add", "subtract", "multiply", "divide"] } } } } },
        { "type": "function", "function": {
            "name": "word_count", "description": "Counts the words of a text.",
            "parameters": { "type": "object", "additionalProperties": false, "required": ["text"],
                "properties": { "text": { "type": "string", "maxLength": 80 } } } } },
    ]);
    let mut chat = Chat::new(&Model::open_default()?)?;
    chat.tools(&tools.to_string());
    chat.system(&format!("Call one of these tools, as a JSON object with name and arguments: {tools}"));
    chat.user(&prompt);
    let answer = if free {
        chat.answer(SamplingParams::greedy(), max_tokens).await?
    } else {
        let schema = Grammar::JsonSchema(tool_call_schema(&tools).to_string());
        chat.answer_in(schema, SamplingParams::greedy(), max_tokens).await?
    };
    let answer = answer.text;
    session::send(format!("{answer}\n")).await?;
    let calls = tool_calls(&answer);
    let results: Vec<Value> = calls.iter().map(run).collect();
    for result in &results {
        chat.push("tool", &result.to_string());
    }
    // The answer after the results; without a call, the first answer is the last.
    let text =
        if calls.is_empty() { answer } else { chat.answer(SamplingParams::greedy(), max_tokens).await?.text };
    let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
    Ok(json!({ "calls": names, "results": results, "text": text }).to_string())
}

/// Runs a tool. What is wrong with a call is told to the model as the result.
fn run(call: &ToolCall) -> Value {
    let number = |name: &str| call.arguments[name].as_f64();
    match (call.name.as_str(), number("a"), number("b"), call.arguments["text"].as_str()) {
        ("calculate", Some(a), Some(b), _) => match call.arguments["operation"].as_str() {
            Some("add") => json!(a + b),
            Some("subtract") => json!(a - b),
            Some("multiply") => json!(a * b),
            Some("divide") if b != 0.0 => json!(a / b),
            other => json!({ "error": format!("cannot do {other:?} with {a} and {b}") }),
        },
        ("word_count", _, _, Some(text)) => json!(text.split_whitespace().count()),
        (name, ..) => json!({ "error": format!("no tool `{name}` takes these arguments") }),
    }
}

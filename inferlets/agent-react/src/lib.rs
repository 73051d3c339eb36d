//! A ReAct agent: think, call a tool, read what it says, think on. The context stays in the cache while a
//! tool runs, so after an observation only the observation is computed.

use std::time::{Duration, Instant};

use inferlet::{Args, Chat, Model, Result, SamplingParams, json, runtime, session, sleep};

const SYSTEM: &str = "You solve a task in steps. Each step is a Thought, then an Action: Search[query] looks something up, \
    Calculator[expression] computes. An Observation with the result follows. End with Final Answer.";

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let default = "How many people live in the five largest cities of France together?".to_string();
    let task = args.option("prompt", 'p', "the task", default)?;
    let calls = args.option("function-calls", 'f', "tool calls", 3)?;
    let max_tokens = args.option("tokens-between", 't', "tokens between calls at most", 50)?;
    let delay = Duration::from_millis(args.option("delay", 'd', "milliseconds a tool takes", 100)?);
    args.finish()?;

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    // With its own number, no two runs have the same prompt.
    chat.system(SYSTEM).user(&format!("Task {}: {task}", runtime::instance_id()));
    let context = chat.generation_prompt()?;
    context.append("Thought:");
    let (start, mut waited, mut tokens) = (Instant::now(), Duration::ZERO, 0);
    for call in 1..=calls {
        let mut thought =
            context.generate(SamplingParams::greedy()).max_tokens(max_tokens).stop("Observation:");
        let mut text = String::new();
        while let Some(piece) = thought.next().await? {
            text.push_str(&piece);
        }
        tokens += thought.tokens().len();
        let action = action(&text).unwrap_or(("Search", &task));
        session::send(format!("{}\n-> {}[{}]\n", text.trim(), action.0, action.1)).await?;
        let before = Instant::now();
        sleep(delay).await;
        waited += before.elapsed();
        context.append(&format!("\nObservation: Result from function call {call}\nThought:"));
    }
    let text = context.generate(SamplingParams::greedy()).max_tokens(max_tokens).text().await?;
    let (total, waited) = (start.elapsed().as_millis() as u64, waited.as_millis() as u64);
    let work = model.work().json();
    let context_tokens = context.tokens().len();
    let report = json!({
        "text": text, "calls": calls, "tokens": tokens, "context_tokens": context_tokens, "ms": total,
        "tool_ms": waited, "work": work,
    });
    Ok(report.to_string())
}

/// Tool and argument of `Action: Tool[argument]`.
fn action(text: &str) -> Option<(&str, &str)> {
    let (tool, rest) = text.split_once("Action:")?.1.split_once('[')?;
    Some((tool.trim(), rest.split_once(']')?.0))
}

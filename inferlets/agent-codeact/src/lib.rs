//! A CodeACT agent: it acts by writing JavaScript, which an engine inside the program itself runs. The
//! answers of the model are replaced by scripted ones here, so that every run does the same work; `--live`
//! leaves them to the model.

use boa_engine::{Context as Engine, Source};
use inferlet::{Args, Chat, Model, Result, SamplingParams, json, session};

const SYSTEM: &str = "You are CodeACT. You solve a task by writing JavaScript in a block between ```javascript and ```. \
    The value of its last line is told to you. Give the final answer when you know it.";
const TASK: &str = "What is the sum of the first 10 prime numbers?";
const SCRIPT: [&str; 3] = [
    "I list the primes first.\n```javascript\nlet primes = [];\nfor (let n = 2; primes.length < 10; n++) {\n  \
        if (primes.every(p => n % p !== 0)) primes.push(n);\n}\nprimes.join(', ')\n```",
    "Now I add them.\n```javascript\n[2, 3, 5, 7, 11, 13, 17, 19, 23, 29].reduce((a, b) => a + b, 0)\n```",
    "The sum of the first 10 prime numbers is 129.",
];

#[inferlet::main]
async fn main(mut args: Args) -> Result<String> {
    let task = args.option("prompt", 'p', "the task", TASK.to_string())?;
    let calls: usize = args.option("function-calls", 'f', "turns with code", 2)?;
    let max_tokens = args.option("max-tokens", 't', "tokens of a turn at most", 256)?;
    let live = args.flag("live", 'l', "take the code from the model");
    args.finish()?;

    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    chat.system(SYSTEM).user(&task);
    let mut results = Vec::new();
    for turn in 0..calls {
        let generated = chat.generate(SamplingParams::greedy())?.max_tokens(max_tokens).text().await?;
        // More turns than the script has go through it again.
        let answer = if live { &generated } else { SCRIPT[turn % (SCRIPT.len() - 1)] };
        chat.assistant(answer);
        let Some(code) = code_block(answer) else { break };
        let result = evaluate(code);
        session::send(format!("{code}\n=> {result}\n")).await?;
        chat.user(&format!("Code execution result: {result}"));
        results.push(result);
    }
    let last = chat.answer(SamplingParams::greedy(), max_tokens).await?;
    let text = if live { &last } else { SCRIPT[SCRIPT.len() - 1] };
    Ok(json!({ "text": text, "results": results, "work": model.work().json() }).to_string())
}

/// The code between the fences.
fn code_block(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("```javascript")?;
    Some(rest.split("```").next()?.trim())
}

/// Runs code in an engine of its own, within limits; the value of its last line, or what went wrong.
fn evaluate(code: &str) -> String {
    let mut engine = Engine::default();
    engine.runtime_limits_mut().set_loop_iteration_limit(1_000_000);
    engine.runtime_limits_mut().set_recursion_limit(200);
    let value = engine.eval(Source::from_bytes(code)).and_then(|value| value.to_string(&mut engine));
    value.map_or_else(|error| format!("error: {error}"), |text| text.to_std_string_lossy())
}

//! A scripted CodeAct agent, as a load: each turn generates as many tokens as it is told to and throws them away, takes
//! the script's answer in their place, and runs its JavaScript in an engine inside the program. Every run does the
//! same work, whatever the model says; `agent-codeact` is the agent that acts by itself.

use std::time::Instant;

use boa_engine::{Context as Engine, Source};
use inferlet::anyhow::anyhow;
use inferlet::{Chat, Model, Parameters, Result, SamplingParams, json};

const SYSTEM: &str = "You solve a task with JavaScript, in a block between ```javascript and ```. It is run, and you \
    are told the value of its last line. Answer when you know the value.";
const TASK: &str = "What is the sum of the first 10 prime numbers?";
/// The code of each turn. Variables stay.
const TURNS: [&str; 2] = [
    "const primes = [];\nfor (let n = 2; primes.length < 10; n++) if (primes.every(p => n % p)) primes.push(n);\nprimes",
    "primes.reduce((sum, prime) => sum + prime, 0)",
];
const ANSWER: &str = "The sum of the first 10 prime numbers is 129.";

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// Turns with code.
    #[parameter(short = 'f', default = 2, max = 2)]
    turns: usize,
    /// Tokens that each turn generates.
    #[parameter(short = 't', default = 256)]
    max_tokens: usize,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { turns, max_tokens } = options;

    let start = Instant::now();
    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    chat.system(SYSTEM).user(TASK);
    let (mut engine, mut results) = (Engine::default(), Vec::new());
    for code in TURNS.iter().take(turns) {
        generate(&mut chat, max_tokens).await?;
        let value = engine.eval(Source::from_bytes(code)).and_then(|value| value.to_string(&mut engine));
        let value = value.map_err(|error| anyhow!("{error}"))?.to_std_string_lossy();
        chat.assistant(&format!("```javascript\n{code}\n```")).user(&format!("The value is: {value}"));
        results.push(value);
    }
    generate(&mut chat, max_tokens).await?;
    chat.assistant(ANSWER);
    let ms = start.elapsed().as_millis() as u64;
    Ok(json!({ "results": results, "answer": ANSWER, "ms": ms, "work": model.work().json() }).to_string())
}

/// Generates an answer that does not become a part of the chat.
async fn generate(chat: &mut Chat, max_tokens: usize) -> Result<()> {
    let generation = chat.generation_prompt()?.generate(SamplingParams::greedy()).max_tokens(max_tokens);
    generation.ignore_stop_tokens().answer().await?;
    Ok(())
}

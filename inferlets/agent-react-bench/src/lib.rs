//! A scripted agent with long tool descriptions, and three optimisations that only the program itself can
//! make: `--use-prefix-cache` opens a saved system prompt, `--concurrent-calls` runs tools at once where
//! nothing depends on one before, `--drop-tool-cache` takes the description of a tool that is done out of the
//! cache.

use std::time::{Duration, Instant};

use inferlet::futures::future::join_all;
use inferlet::{Chat, Context, Model, Parameters, Result, SamplingParams, json, runtime, sleep};

const INTRO: &str = "You are a research assistant who answers questions with the help of two tools. Think \
    first, then call one tool, then wait for what it says. Say so when the tools do not give the answer.\n\n";
const SEARCH: &str = include_str!("web_search.txt");
const CODE: &str = include_str!("code_interpreter.txt");
const OUTRO: &str =
    "\nWrite your thought in one sentence, and the call of the tool after it on a line of its own.";
const TASK: &str =
    "How much taller than the Eiffel Tower would a tower of all the books of the National Library be?";
/// What the agent does in each turn, and what comes of it: first searches, then computations.
const TURNS: [(&str, &str); 6] = [
    ("WebSearch(\"height of the Eiffel Tower\")", "The Eiffel Tower is 330 metres high."),
    ("WebSearch(\"number of books in the National Library of France\")", "About 16 million books."),
    ("WebSearch(\"average thickness of a book\")", "A book is 2.5 centimetres thick on average."),
    ("CodeInterpreter(\"16e6 * 0.025\")", "400000.0"),
    ("CodeInterpreter(\"400000 - 330\")", "399670"),
    ("CodeInterpreter(\"399670 / 1000\")", "399.67"),
];

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// Tokens of each thought.
    #[parameter(short = 't', default = 50)]
    tokens_between: usize,
    /// Milliseconds a tool takes.
    #[parameter(short = 'd', default = 100)]
    delay: u64,
    /// Save the system prompt, and open it in later runs.
    #[parameter(short = 'c')]
    use_prefix_cache: bool,
    /// Run three tools at once.
    #[parameter(short = 'o')]
    concurrent_calls: bool,
    /// Drop the description of a tool that is done.
    #[parameter(short = 'x')]
    drop_tool_cache: bool,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options {
        tokens_between: max_tokens,
        use_prefix_cache: cache,
        concurrent_calls: concurrent,
        drop_tool_cache: drop,
        delay,
    } = options;
    let delay = Duration::from_millis(delay);

    let start = Instant::now();
    let model = Model::open_default()?;
    let mut chat = Chat::new(&model)?;
    let system = chat.system(&format!("{INTRO}{SEARCH}{CODE}{OUTRO}")).message_tokens()?;
    // Where a text ends in the prompt: as far as the prompt up to there is the same.
    let end = |text: &str| -> Result<usize> {
        let tokens = Chat::new(&model)?.system(text).message_tokens()?;
        Ok(tokens.iter().zip(&system).take_while(|(a, b)| a == b).count())
    };
    let search = end(INTRO)?..end(&format!("{INTRO}{SEARCH}"))?;
    let hit = if cache {
        let (context, hit) = Context::open_or_prefill(&model, "agent-react-bench", &system, true).await?;
        chat.resume(context);
        hit
    } else {
        false
    };
    let context = chat.user(TASK).generation_prompt()?;
    let (at_once, mut waits) = (if concurrent { 3 } else { 1 }, 0);
    for (round, turns) in TURNS.chunks(at_once).enumerate() {
        for (action, _) in turns {
            let thought = context.generate(SamplingParams::greedy()).max_tokens(max_tokens);
            thought.ignore_stop_tokens().answer().await?;
            context.append(&format!("\n{action}\n"));
        }
        join_all(turns.iter().map(|_| sleep(delay))).await;
        waits += 1;
        for (number, (_, observation)) in turns.iter().enumerate() {
            context.append(&format!("Observation {}: {observation}\n", round * at_once + number + 1));
        }
        if drop && (round + 1) * at_once == 3 {
            // Nothing refers to the tool any more: its pages are freed, what follows keeps its positions.
            context.prefill_but_last().await?;
            context.remove(search.start, search.end)?;
        }
    }
    context.prefill().await?;
    let (pages, work) = (runtime::usage().await?.pages_used, model.work().json());
    let ms = start.elapsed().as_millis() as u64;
    let report = json!({
        "calls": TURNS.len(), "waits": waits, "ms": ms, "hit": hit, "system_tokens": system.len(),
        "tool_tokens": search.len(), "pages": pages, "work": work,
    });
    Ok(report.to_string())
}

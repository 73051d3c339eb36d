//! ReAct: a scripted agent with long descriptions of its tools, which only wait. Each turn is a thought, the script's
//! action and, once the tool has waited, its observation; from outside, all that was so far is sent again each turn.

use std::time::Duration;

use super::{Bars, Case, Workload, options, system, user};
use crate::commands::paper::api::{Api, Ask};

const INTRO: &str = "You are a research assistant who answers questions with the help of two tools. Think first, \
    then call one tool, then wait for what it says. Say so when the tools do not give the answer.\n\n";
const SEARCH: &str = include_str!("../../../../../../inferlets/agent-react-bench/src/web_search.txt");
const CODE: &str = include_str!("../../../../../../inferlets/agent-react-bench/src/code_interpreter.txt");
const OUTRO: &str =
    "\nWrite your thought in one sentence, and the call of the tool after it on a line of its own.";
const TASK: &str =
    "How much taller than the Eiffel Tower would a tower of all the books of the National Library be?";
const TURNS: [(&str, &str); 6] = [
    ("WebSearch(\"height of the Eiffel Tower\")", "The Eiffel Tower is 330 metres high."),
    ("WebSearch(\"number of books in the National Library of France\")", "About 16 million books."),
    ("WebSearch(\"average thickness of a book\")", "A book is 2.5 centimetres thick on average."),
    ("CodeInterpreter(\"16e6 * 0.025\")", "400000.0"),
    ("CodeInterpreter(\"400000 - 330\")", "399670"),
    ("CodeInterpreter(\"399670 / 1000\")", "399.67"),
];
const TOKENS: usize = 16;
const DELAY_MS: u64 = 100;

/// Its row.
pub const WORKLOAD: Workload = Workload {
    name: "react",
    program: "agent-react-bench",
    source: include_str!("../../../../../../inferlets/agent-react-bench/src/lib.rs"),
    texts: &[
        INTRO, OUTRO, TASK, TURNS[0].0, TURNS[0].1, TURNS[1].0, TURNS[1].1, TURNS[2].0, TURNS[2].1,
        TURNS[3].0, TURNS[3].1, TURNS[4].0, TURNS[4].1, TURNS[5].0, TURNS[5].1,
    ],
    instances: 128,
    paper: Some(Bars { latency: [0.80, 1.0], throughput: [1.0, 0.679] }),
    arguments: |_| arguments(TOKENS, &[]),
    baseline: |api, case| baseline(api, case, TOKENS),
    differs: None,
};

/// With another number of tokens, and some of the optimisations.
pub fn arguments(tokens: usize, optimisations: &[&str]) -> Vec<String> {
    let mut arguments = options(&[("tokens-between", &tokens.to_string()), ("delay", &DELAY_MS.to_string())]);
    arguments.extend(optimisations.iter().map(|name| format!("--{name}")));
    arguments
}

/// With another number of tokens.
///
/// # Errors
/// When the server fails.
pub fn baseline(api: &Api, _: Case, tokens: usize) -> anyhow::Result<()> {
    let instructions = format!("{INTRO}{SEARCH}{CODE}{OUTRO}");
    let mut text = api.prompt(&[system(&instructions), user(TASK)]);
    for (number, (action, observation)) in TURNS.iter().enumerate() {
        let thought = api.complete(Ask::new(text.clone(), tokens).ignore_eos())?;
        text += &format!("{thought}\n{action}\n");
        std::thread::sleep(Duration::from_millis(DELAY_MS));
        text += &format!("Observation {}: {observation}\n", number + 1);
    }
    Ok(())
}

//! Agents.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::report::{Runs, texts};
use crate::{Arguments, Home, On, Row};

pub(crate) const ROWS: &[Row] = &[
    Row {
        program: "agent-react",
        home: Home::Shared,
        tiny: &[&["--steps", "3", "--max-tokens", "12"]],
        real: &[&["--steps", "4", "--max-tokens", "48"]],
        check: agent_react,
    },
    Row {
        program: "agent-react-bench",
        home: Home::Fresh,
        tiny: &AGENT_REACT_BENCH,
        real: &AGENT_REACT_BENCH,
        check: agent_react_bench,
    },
    Row {
        program: "agent-codeact",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "8", "--script", SCRIPT]],
        real: &[&["--max-tokens", "8", "--script", SCRIPT], &["--prompt", "What is 17 times 23?"]],
        check: agent_codeact,
    },
    Row {
        program: "agent-codeact-bench",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "8"], &["--max-tokens", "8", "--turns", "1"]],
        real: &[&["--max-tokens", "8"], &["--max-tokens", "8", "--turns", "1"]],
        check: agent_codeact_bench,
    },
    Row {
        program: "agent-swarm",
        home: Home::Shared,
        tiny: &[&["--tokens", "12"]],
        real: &[&["--tokens", "24"]],
        check: agent_swarm,
    },
];

const DOCUMENTS: &str = include_str!("../../../../inferlets/agent-react/src/documents.txt");

fn agent_react(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    let calls = run.report["calls"].as_array().context("no calls")?;
    ensure!(run.said.matches("\nObservation: ").count() == calls.len(), "an observation was not streamed");
    for call in calls {
        let result = call["result"].as_str().context("no result")?;
        let found = DOCUMENTS.split("\n\n").any(|text| result.starts_with(text.trim()));
        // What is no call is told to the model.
        let fits = match call["call"].as_str().and_then(|call| call.split_once('[')) {
            Some(("Search", _)) => found || result == "nothing was found",
            Some(("Calculator", _)) => result.starts_with("error: ") || result.parse::<f64>().is_ok(),
            _ => result.starts_with("error: write Action: "),
        };
        ensure!(fits, "{call}");
    }
    // Every token in the cache was computed once, but for those of stop texts, which were taken back.
    let (computed, tokens) = (run.computed()?, run.integer("cached_tokens")?);
    let taken_back = 16 * (calls.len() as u64 + 1);
    ensure!((tokens..=tokens + taken_back).contains(&computed), "{computed} computed of {tokens}");
    if runs.on == On::Real {
        ensure!(calls[0]["call"].as_str().is_some_and(|call| call.starts_with("Search[")), "no search");
        ensure!(run.text("answer")?.starts_with("330"), "the answer was not read");
    }
    Ok(())
}

const AGENT_REACT_BENCH: [Arguments; 6] = [
    &["-t", "4", "-d", "5"],
    &["-t", "4", "-d", "5", "--concurrent-calls"],
    &["-t", "4", "-d", "5", "--drop-tool-cache"],
    &["-t", "4", "-d", "5", "--use-prefix-cache"],
    &["-t", "4", "-d", "5", "--use-prefix-cache"],
    &["-t", "4", "-d", "5", "--use-prefix-cache", "--concurrent-calls", "--drop-tool-cache"],
];

fn agent_react_bench(runs: &Runs) -> Result<()> {
    let [plain, at_once, dropped, miss, hit, all] = &runs.runs[..] else { unreachable!("six runs") };
    for run in &runs.runs {
        ensure!(run.integer("calls")? == 6, "not all tools were called");
    }
    // Tools at once: the same work, a third of the waiting.
    ensure!(at_once.computed()? == plain.computed()? && dropped.computed()? == plain.computed()?);
    ensure!(plain.integer("waits")? == 6 && at_once.integer("waits")? == 2, "tools did not run at once");
    // A dropped description frees its pages, but for those at its ends that other text shares.
    let freed = plain.integer("pages")?.saturating_sub(dropped.integer("pages")?);
    let pages = plain.integer("tool_tokens")? / 16;
    ensure!(pages > 4 && (pages - 1..=pages).contains(&freed), "{freed} pages freed, of {pages}");
    // A saved system prompt is not computed again.
    ensure!(miss.report["hit"] == json!(false) && hit.report["hit"] == json!(true));
    ensure!(miss.computed()? == plain.computed()?);
    ensure!(hit.computed()? == plain.computed()? - plain.integer("system_tokens")?, "not all was reused");
    ensure!(all.computed()? == hit.computed()? && all.integer("waits")? == 2, "flags exclude each other");
    ensure!(all.integer("pages")? < plain.integer("pages")?, "flags exclude each other");
    Ok(())
}

/// Variables stay, the tool is there, an endless loop ends, and the last answer has no code.
const SCRIPT: &str = "I list them.\n```javascript\nlet primes = [];\n\
    for (let n = 2; primes.length < 10; n++) if (primes.every(p => n % p !== 0)) primes.push(n);\n\
    primes.join(', ')\n```---\
    ```javascript\nlet sum = primes.reduce((a, b) => a + b, 0);\nsum\n```---\
    ```javascript\nsum + Number(search('Eiffel Tower').match(/\\d+/)[0])\n```---\
    ```javascript\nwhile (true) {}\n```---\
    The sum is 129.";

fn agent_codeact(runs: &Runs) -> Result<()> {
    let results = texts(&runs.report(0)["results"])?;
    ensure!(results[..3] == ["2, 3, 5, 7, 11, 13, 17, 19, 23, 29", "129", "459"], "{results:?}");
    ensure!(results.len() == 4 && results[3].starts_with("error: RuntimeLimitError"), "{results:?}");
    ensure!(runs.runs[0].said.contains("=> 129\n") && runs.runs[0].text("answer")? == "The sum is 129.");
    if runs.on == On::Real {
        ensure!(runs.report(1)["results"] == json!(["391"]), "the code gave something else");
        ensure!(runs.runs[1].text("answer")?.contains("391"), "the answer is not the agent's");
    }
    Ok(())
}

fn agent_codeact_bench(runs: &Runs) -> Result<()> {
    let (whole, short) = (runs.report(0), runs.report(1));
    ensure!(whole["results"] == json!(["2,3,5,7,11,13,17,19,23,29", "129"]), "{whole}");
    ensure!(short["results"] == json!(["2,3,5,7,11,13,17,19,23,29"]), "{short}");
    for (report, turns) in [(whole, 3), (short, 2)] {
        // Whatever the model says, each turn draws as many tokens, one a pass.
        let passes = report["work"]["passes"].as_u64().context("no passes")?;
        ensure!(passes >= 8 * turns, "{passes} passes in {turns} turns");
        ensure!(report["ms"].is_u64() && report["answer"].as_str().is_some_and(|said| said.contains("129")));
    }
    Ok(())
}

fn agent_swarm(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    let order = texts(&run.report["order"])?;
    let sections = BTreeSet::from(["Concept", "Plot Outline", "Characters", "Climax Dialogue"]);
    ensure!(
        order.len() == 4
            && order[0] == "Concept"
            && order.iter().copied().collect::<BTreeSet<_>>() == sections
    );
    let mut rest = run.said.as_str();
    for section in order {
        let found = rest.split_once(&format!("\n### {section}\n"));
        rest = found.with_context(|| format!("`{section}` is not in its place"))?.1;
    }
    ensure!(run.said.starts_with("A lighthouse at the end of the world\n"), "the story lost its theme");
    // All agents but the first go on over the story so far. Besides the story they computed the two questions
    // who goes on, and on the tiny model text whose tokens are not those drawn.
    let (computed, tokens) = (run.integer("computed")?, run.integer("tokens")?);
    let most = if runs.on == On::Tiny { 2 * tokens } else { tokens + 2 * 50 };
    ensure!(run.integer("reused")? > tokens && computed < most, "{computed} computed of {tokens}");
    Ok(())
}

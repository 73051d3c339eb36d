//! Agents.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::report::Runs;
use crate::{Arguments, Home, Row};

pub(crate) const ROWS: &[Row] = &[
    Row {
        program: "agent-react",
        home: Home::Shared,
        tiny: &[&["--function-calls", "3", "--tokens-between", "12", "--delay", "5"]],
        real: &[&["--function-calls", "3", "--tokens-between", "12", "--delay", "5"]],
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
        tiny: &[&["--max-tokens", "8"]],
        real: &[&["--max-tokens", "8"]],
        check: agent_codeact,
    },
    Row {
        program: "agent-swarm",
        home: Home::Shared,
        tiny: &[&["--tokens", "12"]],
        real: &[&["--tokens", "24"]],
        check: agent_swarm,
    },
];

fn agent_react(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    let calls = run.said.lines().filter(|line| line.starts_with("-> ") && line.ends_with(']')).count();
    ensure!(run.integer("calls")? == 3 && calls == 3, "{calls} calls instead of 3");
    ensure!((1..=36).contains(&run.integer("tokens")?), "at most 12 tokens between calls");
    // Every token of the final context was computed once; the last one may be pending.
    let pending = run.integer("context_tokens")?.checked_sub(run.computed()?);
    ensure!(pending.is_some_and(|pending| pending <= 1), "something was computed twice");
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

fn agent_codeact(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    let expected = json!(["2, 3, 5, 7, 11, 13, 17, 19, 23, 29", "129"]);
    ensure!(run.report["results"] == expected, "the code gave something else");
    ensure!(run.said.contains("=> 129\n") && run.text("text")?.contains("129"));
    Ok(())
}

fn agent_swarm(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    ensure!(run.integer("agents")? == 4 && run.integer("sections")? == 4);
    let mut rest = run.said.as_str();
    for section in ["Concept", "Plot Outline", "Characters", "Climax Dialogue"] {
        let found = rest.split_once(&format!("\n### {section}\n"));
        rest = found.with_context(|| format!("`{section}` is not in its place"))?.1;
    }
    ensure!(run.said.starts_with("A lighthouse at the end of the world\n"), "the story lost its theme");
    Ok(())
}

//! The others: messages, children, tools, benchmarks.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::report::{Runs, integer, positive, texts};
use crate::{Home, On, Row};

pub(crate) const ROWS: &[Row] = &[
    Row {
        program: "messaging",
        home: Home::Shared,
        tiny: &[&["--messages", "25"]],
        real: &[&["--messages", "25"]],
        check: messaging,
    },
    Row {
        program: "parallel-generation",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "8"]],
        real: &[&["--max-tokens", "8"]],
        check: parallel_generation,
    },
    Row {
        program: "mcts",
        home: Home::Shared,
        tiny: &[&["--iterations", "8", "--step-tokens", "8", "--rollout-tokens", "12", "--seed", "1"]],
        real: &[&["--iterations", "8", "--step-tokens", "8", "--rollout-tokens", "12", "--seed", "1"]],
        check: mcts,
    },
    Row {
        program: "launch-children",
        home: Home::Shared,
        tiny: &[&["--children", "5"]],
        real: &[&["--children", "5"]],
        check: launch_children,
    },
    Row {
        program: "tool-calling",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "250"], &["--max-tokens", "250", "--prompt", "a"]],
        real: &[&["--max-tokens", "48"], &["--max-tokens", "48", "--prompt", WORDS]],
        check: tool_calling,
    },
    Row {
        program: "bench-spawn",
        home: Home::Shared,
        tiny: &[&[], &["--launches", "16", "--rounds", "2"]],
        real: &[&[], &["--launches", "16", "--rounds", "2"]],
        check: bench_spawn,
    },
    Row {
        program: "bench-call",
        home: Home::Shared,
        tiny: &[&["--rounds", "5"], &["--rounds", "5", "--inferlets", "8"]],
        real: &[&["--rounds", "5"], &["--rounds", "5", "--inferlets", "8"]],
        check: bench_call,
    },
];

fn messaging(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    ensure!(run.integer("messages")? == 25);
    ["topic", "late_listener", "queue"].iter().try_for_each(|key| run.holds(key))
}

fn parallel_generation(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    let texts = texts(&run.report["texts"])?;
    let starts =
        ["The weather in spring is pleasant, because", "The weather in spring is unpleasant, because"];
    ensure!(texts.len() == 2 && texts.iter().zip(starts).all(|(text, start)| text.starts_with(start)));
    ensure!(texts.iter().zip(starts).all(|(text, start)| text.len() > start.len()), "nothing was added");
    // What both share is given once (the prefix cache would hide that in what is computed); the last token of
    // each may not be.
    let once = run.integer("tokens_apart")? - run.integer("shared_tokens")?;
    let given = integer(&run.report["work"], "tokens")?;
    ensure!(run.integer("shared_tokens")? > 4 && (once - 2..=once).contains(&given), "given twice");
    // And a step of both is one batch. How often it is two depends on how late the machine lets the second ask; one
    // after the other they would never meet.
    let together = run.number("together")?;
    ensure!(together > 1.01, "{together} together");
    Ok(())
}

fn mcts(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    let lines = run.said.lines().filter_map(|line| line.split_once(": node ")?.1.split_once(", depth "));
    let rollouts = lines.map(|(_, rest)| {
        let (depth, grade) = rest.split_once(", ").context("no grade")?;
        anyhow::Ok((depth.parse::<u32>()?, grade.parse::<f64>()?))
    });
    let rollouts = rollouts.collect::<Result<Vec<_>>>()?;
    ensure!(
        rollouts.len() == 8 && run.report["visits"].as_f64() == Some(8.0),
        "not a visit for each rollout"
    );
    let best = rollouts.iter().map(|(_, grade)| *grade).fold(f64::MIN, f64::max);
    ensure!(run.report["grade"].as_f64() == Some(best) && (0.0..=100.0).contains(&best), "not the best");
    ensure!(!run.text("answer")?.is_empty());
    // Each node that grew has three children; the search goes down by a step at a time, and below the first
    // level.
    let grown = run.integer("nodes")? - 1;
    ensure!(grown % 3 == 0 && (2..8).contains(&(grown / 3)), "{grown} nodes grew");
    ensure!(rollouts[0].0 == 0 && rollouts.iter().any(|(depth, _)| *depth >= 2), "never went deeper");
    Ok(())
}

fn launch_children(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    run.holds("cancelled")?;
    let (children, results) = (texts(&run.report["children"])?, texts(&run.report["results"])?);
    ensure!(children.iter().collect::<HashSet<_>>().len() == 5, "not five programs");
    ensure!(results.len() == 5 && results.iter().all(|result| !result.is_empty()), "a child says nothing");
    for (result, topic) in results.iter().zip(["river", "mountain", "desert", "forest", "island"]) {
        ensure!(runs.on == On::Tiny || result.to_lowercase().contains(topic), "no {topic} in `{result}`");
    }
    Ok(())
}

const WORDS: &str = "How many words are in the text `one two three`?";

fn tool_calling(runs: &Runs) -> Result<()> {
    let mut called = BTreeSet::new();
    for run in &runs.runs {
        let calls = texts(&run.report["calls"])?;
        ensure!(calls.len() == 1, "{} calls", calls.len());
        // The call was streamed before the report.
        let call = serde_json::Deserializer::from_str(&run.said).into_iter::<Value>().next();
        let call = call.context("no call")??;
        let found = run.report["results"][0].as_f64().context("the tool refused the arguments")?;
        let expected = call_tool(&call).with_context(|| format!("{call} is no call"))?;
        ensure!(call["name"] == calls[0] && (found - expected).abs() <= 1e-9 * expected.abs());
        called.extend(calls);
    }
    ensure!(called == BTreeSet::from(["calculate", "word_count"]), "called {called:?}");
    Ok(())
}

/// What a tool of `tool-calling` gives.
fn call_tool(call: &Value) -> Option<f64> {
    let arguments = &call["arguments"];
    if call["name"] == "word_count" {
        return Some(arguments["text"].as_str()?.split_whitespace().count() as f64);
    }
    let (a, b) = (arguments["a"].as_f64()?, arguments["b"].as_f64()?);
    Some(match arguments["operation"].as_str()? {
        "add" => a + b,
        "subtract" => a - b,
        "multiply" => a * b,
        "divide" => a / b,
        _ => return None,
    })
}

fn bench_spawn(runs: &Runs) -> Result<()> {
    ensure!(runs.runs[0].said.is_empty(), "it does something");
    let many = &runs.runs[1];
    ensure!(many.integer("launches")? == 16 && positive(&many.report["min"])?, "no time was measured");
    Ok(())
}

fn bench_call(runs: &Runs) -> Result<()> {
    let (alone, together) = (runs.report(0), runs.report(1));
    for call in ["length", "fork_and_drop", "truncate", "usage"] {
        ensure!(positive(&alone["control"][call])?, "{call}: {}", alone["control"]);
    }
    for kind in ["no_output", "token", "top_k_32", "logits"] {
        // The model's time was measured, and is a part of the whole.
        let (whole, overhead) = (&alone["forward"][kind]["whole"], &alone["forward"][kind]["overhead"]);
        let part = positive(overhead)? && overhead.as_f64() < whole.as_f64();
        ensure!(part, "{kind}: {overhead} of {whole}");
    }
    ensure!(positive(&alone["grammar"]["step"])? && positive(&alone["grammar"]["constrained_step"])?);
    ensure!(integer(together, "inferlets")? == 8 && integer(together, "passes_each")? == 5);
    let (whole, model) = (&together["whole"], &together["model"]);
    ensure!(positive(model)? && model.as_f64() < whole.as_f64(), "{model} of {whole}");
    Ok(())
}

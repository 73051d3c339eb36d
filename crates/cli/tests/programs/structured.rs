//! Structured generation: trees and graphs of thoughts.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::report::{Runs, integer, texts};
use crate::{Home, On, Row};

pub(crate) const ROWS: &[Row] = &[
    Row {
        program: "tree-of-thought",
        home: Home::Shared,
        tiny: &[&["--branches", "3", "--keep", "2", "--max-tokens", "16", "--seed", "1"]],
        real: &[&["--branches", "3", "--keep", "2", "--max-tokens", "16", "--seed", "1"]],
        check: tree_of_thought,
    },
    Row {
        program: "recursion-of-thought",
        home: Home::Shared,
        tiny: &[&["--depth", "2", "--max-tokens", "250"], &["--depth", "0", "--max-tokens", "16"]],
        real: &[
            &["--depth", "2", "--max-tokens", "64", "--question", RECURSION_QUESTION],
            &["--depth", "0", "--max-tokens", "16"],
        ],
        check: recursion_of_thought,
    },
    Row {
        program: "graph-of-thought",
        home: Home::Shared,
        tiny: &[
            &["--aggregation-tokens", "16", "--seed", "1"],
            &["--proposal-tokens", "8,40,2", "--aggregation-tokens", "8", "--seed", "1"],
        ],
        real: &[
            &["--aggregation-tokens", "16", "--seed", "1"],
            &["--proposal-tokens", "8,40,2", "--aggregation-tokens", "8", "--seed", "1"],
        ],
        check: graph_of_thought,
    },
    Row {
        program: "skeleton-of-thought",
        home: Home::Shared,
        tiny: &[&["--points", "3", "--plan-tokens", "250", "--elaboration-tokens", "16"]],
        real: &[&["--points", "3", "--plan-tokens", "80", "--elaboration-tokens", "16"]],
        check: skeleton_of_thought,
    },
    Row {
        program: "prefix-tree",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "8"]],
        real: &[&["--max-tokens", "8"]],
        check: prefix_tree,
    },
];

fn tree_of_thought(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    // Three ways, two of which are carried out in three ways each; three grades for each thought, the best
    // first.
    for (level, count) in [("ways", 3), ("results", 6)] {
        let grades =
            run.report[level].as_array().context("no grades")?.iter().filter_map(|grade| grade.as_u64());
        let grades: Vec<u64> = grades.collect();
        ensure!(grades.len() == count && grades.is_sorted_by(|a, b| a >= b), "{level}: {grades:?}");
        ensure!(grades.iter().all(|grade| (3..=15).contains(grade)), "{level}: {grades:?}");
    }
    let best = format!("{}: {}\n", run.report["results"][0], run.text("answer")?.trim());
    ensure!(run.integer("leaves")? == 27 && run.said.contains(&best), "the answer is not the best result");
    let (tree, apart, computed) =
        (run.integer("tree_tokens")?, run.integer("tokens_apart")?, run.computed()?);
    // Each of 9 thoughts and 27 grades computes one token that it shares with a sibling, and an answer may be
    // in the conversation in other tokens than those drawn: bytes that are no text, which only the tiny model
    // writes.
    let rewritten = if runs.on == On::Tiny { 9 * 16 } else { 0 };
    ensure!(computed <= tree + 36 + rewritten, "what branches share was computed more than once");
    // The last token of a leaf is not computed.
    ensure!(computed + 27 >= tree && 2 * computed < apart, "the tree is no tree");
    Ok(())
}

const RECURSION_QUESTION: &str = "What is the sum of 123456789 and 987654321?";

fn recursion_of_thought(runs: &Runs) -> Result<()> {
    let [deep, flat] = &runs.runs[..] else { unreachable!("two runs") };
    let problems = deep.integer("problems")?;
    // Halves of halves: two for each problem that was split, none below the second level.
    ensure!(problems % 2 == 1 && (3..=7).contains(&problems), "{problems} problems");
    let lines: Vec<&str> = deep.said.split('\n').filter(|line| !line.is_empty()).collect();
    ensure!(lines.len() as u64 == problems + 1, "{} lines for {problems} problems", lines.len());
    ensure!(lines.iter().all(|line| !line.starts_with("      ")), "split below the depth allowed");
    // Both halves are begun before either goes on to halves of its own.
    let first_level = |line: &str| line.starts_with("  ") && !line.starts_with("    ");
    ensure!(lines[1..3].iter().all(|line| first_level(line)), "the halves were solved one after the other");
    ensure!(!deep.text("answer")?.is_empty(), "no answer");
    ensure!(flat.integer("problems")? == 1, "split below the depth allowed");
    Ok(())
}

fn graph_of_thought(runs: &Runs) -> Result<()> {
    for (run, count) in runs.runs.iter().zip([8, 3]) {
        let list = |text: &str| serde_json::from_str::<Vec<u64>>(text).ok();
        let thoughts = run.said.lines().filter_map(|line| list(&line[..=line.find(']')?]));
        let thoughts: Vec<Vec<u64>> = thoughts.collect();
        let (alone, merged): (Vec<_>, Vec<_>) = thoughts.iter().partition(|thought| thought.len() == 1);
        ensure!(alone.len() == count && merged.len() == count - 1, "{thoughts:?}");
        ensure!(run.integer("merges")? == merged.len() as u64);
        // Each joins two that were there before and in no other; the last has all.
        let mut free: Vec<&[u64]> = Vec::new();
        for thought in &thoughts {
            if thought.len() > 1 {
                let (later, earlier) = (1..thought.len())
                    .map(|at| thought.split_at(at))
                    .find(|(a, b)| free.contains(a) && free.contains(b))
                    .with_context(|| format!("{thought:?} is not two of {free:?}"))?;
                free.retain(|one| *one != later && *one != earlier);
            }
            free.push(thought);
        }
        ensure!(free.len() == 1 && free[0].len() == count, "{free:?} remain");
        ensure!(run.report["proposals"] == json!(free[0]), "another answer than the last");
        // Two drafts of it were graded.
        let grades = texts(&run.report["grades"])?;
        ensure!(grades.len() == 2 && grades.iter().all(|g| ("1"..="9").contains(g)), "{grades:?}");
        ensure!(run.said.contains(&format!("{:?} {}", free[0], run.text("answer")?.trim())));
        if count == 3 {
            // The shortest is ready first and waits for the next, whose conversation goes on. How long the
            // drafts of a merge take, beside the longest proposal, depends on the machine.
            ensure!(thoughts[..2] == [vec![3], vec![1]] && thoughts.contains(&vec![1, 3]), "{thoughts:?}");
        }
    }
    Ok(())
}

fn skeleton_of_thought(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    let (points, texts) = (texts(&run.report["points"])?, texts(&run.report["texts"])?);
    ensure!((1..=3).contains(&points.len()) && texts.len() == points.len(), "{} points", points.len());
    for (point, text) in points.iter().zip(&texts) {
        ensure!(point.chars().count() <= 60 && !point.contains('<'), "`{point}` is no point");
        ensure!(run.said.contains(&format!("## {point}\n{}\n", text.trim())), "`{point}` is missing");
    }
    ensure!(runs.on == On::Tiny || points.len() > 1 && texts.iter().all(|text| !text.is_empty()));
    // The points are written at once: they share batches, more or fewer as the machine lets them.
    let together = run.number("together")?;
    ensure!(points.len() == 1 || together > 1.01, "{together} together");
    Ok(())
}

fn prefix_tree(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    let (tree, prompts) = (run.integer("tree_tokens")?, run.integer("prompt_tokens")?);
    let work = |name| integer(&run.report["prompt_work"], name);
    let (given, computed) = (work("tokens")?, work("computed")?);
    // Each token of the tree is given once. Where branches begin alike, the prefix cache has some of them: those that fill the
    // page in which their parent ended.
    let is_tree = given == tree && computed <= tree && tree - computed < 16;
    ensure!(run.integer("leaves")? == 8 && is_tree, "{computed} computed, {given} given of a tree of {tree}");
    // The root is shared by eight, its children by four, theirs by two.
    ensure!(2 * tree < prompts, "{tree} as a tree, {prompts} apart");
    ensure!(run.computed()? - computed <= 8 * 8, "more than the answers was computed");
    Ok(())
}

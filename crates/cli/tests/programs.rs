//! The example programs do what they are for, on the tiny model and on the default one.
//!
//! One table: a row has a program, the arguments of its runs on either model, and a check of what the runs report. A
//! run is `pie run` as a user types it. The tiny model says noise, so a check on it is about form, counts and equality;
//! what needs sense is asserted on the real model. Nothing here asserts a time.

mod common;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

type Arguments = &'static [&'static str];

/// A program, and what shows that it does what it is for.
struct Row {
    program: &'static str,
    home: Home,
    /// Runs on the tiny model, in order.
    tiny: &'static [Arguments],
    /// Runs on the real model.
    real: &'static [Arguments],
    check: fn(&Runs) -> Result<()>,
}

/// Whose files a row's runs see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    /// Those of all programs: they are compiled once, also for later runs of this test.
    Shared,
    /// Those of the row alone: nothing has been saved before its first run.
    Fresh,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Tiny,
    Real,
}

/// What the runs of a row said, in order.
struct Runs {
    on: On,
    runs: Vec<Run>,
}

struct Run {
    arguments: Arguments,
    /// All of stdout.
    said: String,
    /// Its last line, where that is JSON.
    report: Value,
}

impl Runs {
    fn report(&self, run: usize) -> &Value {
        &self.runs[run].report
    }
}

impl Run {
    fn integer(&self, key: &str) -> Result<u64> {
        integer(&self.report, key)
    }

    /// Tokens computed over all passes.
    fn computed(&self) -> Result<u64> {
        integer(&self.report["work"], "computed")
    }

    fn passes(&self) -> Result<u64> {
        integer(&self.report["work"], "passes")
    }

    fn number(&self, key: &str) -> Result<f64> {
        self.report[key].as_f64().with_context(|| format!("`{key}` is no number"))
    }

    fn text(&self, key: &str) -> Result<&str> {
        self.report[key].as_str().with_context(|| format!("`{key}` is no text"))
    }

    fn holds(&self, key: &str) -> Result<()> {
        ensure!(self.report[key] == json!(true), "`{key}` is not true");
        Ok(())
    }
}

fn integer(report: &Value, key: &str) -> Result<u64> {
    report[key].as_u64().with_context(|| format!("`{key}` is no count"))
}

fn texts(value: &Value) -> Result<Vec<&str>> {
    let items = value.as_array().context("not a list")?;
    items.iter().map(|item| item.as_str().context("not a text")).collect()
}

/// Programs that answer HTTP requests instead of running: `tests/http.rs` has them.
const SERVED: [&str; 1] = ["http-server"];

const TABLE: [Row; 32] = [
    Row {
        program: "text-completion",
        home: Home::Shared,
        tiny: &[&["--prompt", "hello", "--max-tokens", "16", "--output"]],
        real: &[
            &["--prompt", "Tell me a very long story.", "--max-tokens", "16", "--output"],
            &["--prompt", "What is the capital of France?", "--max-tokens", "16", "--output"],
        ],
        check: text_completion,
    },
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
    Row {
        program: "tree-of-thought",
        home: Home::Shared,
        tiny: &[&["--branches", "2", "--max-tokens", "16"]],
        real: &[&["--branches", "2", "--max-tokens", "16"]],
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
            &["--aggregation-tokens", "16"],
            &["--proposal-tokens", "8,40,2", "--aggregation-tokens", "8"],
        ],
        real: &[
            &["--aggregation-tokens", "16"],
            &["--proposal-tokens", "8,40,2", "--aggregation-tokens", "8"],
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
    Row {
        program: "constrained-decoding",
        home: Home::Shared,
        tiny: &CONSTRAINED_DECODING,
        real: &CONSTRAINED_DECODING,
        check: constrained_decoding,
    },
    Row {
        program: "beam-search",
        home: Home::Shared,
        tiny: &BEAM_SEARCH,
        real: &BEAM_SEARCH,
        check: beam_search,
    },
    Row {
        program: "speculative-decoding",
        home: Home::Shared,
        tiny: &[
            &["--max-tokens", "96", "--check"],
            &["--max-tokens", "96", "--check", "--temperature", "0.7", "--seed", "3"],
        ],
        real: &[
            &["--max-tokens", "64", "--check", "--prompt", REPETITIVE],
            &["--max-tokens", "96", "--check", "--prompt", TABLE_OF_3, "--temperature", "0.3", "--seed", "3"],
        ],
        check: speculative_decoding,
    },
    Row {
        program: "jacobi-decoding",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "64", "--check"]],
        real: &[&["--max-tokens", "96", "--check", "--prompt", TABLE_OF_3]],
        check: jacobi_decoding,
    },
    Row {
        program: "best-of-n",
        home: Home::Shared,
        tiny: &[&["--candidates", "5", "--max-tokens", "48"], &["--candidates", "2", "--max-tokens", "16"]],
        real: &[&["--candidates", "5", "--max-tokens", "24"], &["--candidates", "2", "--max-tokens", "8"]],
        check: best_of_n,
    },
    Row {
        program: "watermarking",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "128"], &["--max-tokens", "128", "--delta", "0"]],
        real: &[&["--max-tokens", "64"], &["--max-tokens", "64", "--delta", "0"]],
        check: watermarking,
    },
    Row {
        program: "output-validation",
        home: Home::Shared,
        tiny: &[&[]],
        real: &[&[]],
        check: output_validation,
    },
    Row {
        program: "token-healing",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "8"]],
        real: &[&["--max-tokens", "8"]],
        check: token_healing,
    },
    Row {
        program: "classifier-free-guidance",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "12", "--check"]],
        real: &[&["--max-tokens", "24", "--check"]],
        check: classifier_free_guidance,
    },
    Row {
        program: "self-correct",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "48", "--forbidden", "the,sun,sea"]],
        real: &[&["--max-tokens", "48", "--forbidden", "the,sun,sea"]],
        check: self_correct,
    },
    Row {
        program: "prefix-caching",
        home: Home::Fresh,
        tiny: &[&["--max-tokens", "8"], &["--max-tokens", "8"], &["--max-tokens", "8", "--invalidate"]],
        real: &[&["--max-tokens", "8"], &["--max-tokens", "8"], &["--max-tokens", "8", "--invalidate"]],
        check: prefix_caching,
    },
    Row {
        program: "modular-caching",
        home: Home::Fresh,
        tiny: &MODULAR_CACHING,
        real: &MODULAR_CACHING,
        check: modular_caching,
    },
    Row {
        program: "attention-sink",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "4096"], &["--max-tokens", "256"]],
        real: &[&["--max-tokens", "512"], &["--max-tokens", "256"]],
        // 64 tokens at the beginning and 32 at the end, in pages of 16, and a part of a page on either side of the gap.
        check: |runs| bounded_memory(runs, 8),
    },
    Row {
        program: "windowed-attention",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "4096"], &["--max-tokens", "256"]],
        real: &[&["--max-tokens", "512"], &["--max-tokens", "256"]],
        check: |runs| bounded_memory(runs, 4),
    },
    Row {
        program: "hierarchical-attention",
        home: Home::Shared,
        tiny: &[&[]],
        real: &[&[]],
        check: hierarchical_attention,
    },
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
        tiny: &[&["--iterations", "8", "--step-tokens", "8", "--rollout-tokens", "12"]],
        real: &[&["--iterations", "8", "--step-tokens", "8", "--rollout-tokens", "12"]],
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

fn text_completion(runs: &Runs) -> Result<()> {
    for run in &runs.runs {
        let (streamed, rest) = run.said.split_once(" tokens, total elapsed").context("no count of tokens")?;
        let (streamed, tokens) = streamed.rsplit_once("\n(").context("no count of tokens")?;
        ensure!(!streamed.is_empty(), "no text");
        let result = rest.split_once("Per token latency: ").and_then(|(_, rest)| rest.split_once('\n'));
        let (_, result) = result.context("no latency")?;
        ensure!(result.strip_suffix('\n') == Some(streamed), "the result is not what was streamed");
        // Of the two on the real model, the short answer ends by itself.
        let short = streamed.contains("Paris");
        ensure!(short || tokens == "16", "{tokens} tokens instead of 16");
    }
    ensure!(runs.on == On::Tiny || runs.runs[1].said.contains("Paris"), "no Paris");
    Ok(())
}

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

fn tree_of_thought(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    ensure!(run.integer("leaves")? == 8 && (2..=10).contains(&run.integer("grade")?));
    let (tree, apart, computed) =
        (run.integer("tree_tokens")?, run.integer("tokens_apart")?, run.computed()?);
    // Each of 14 branches computes one token that it shares with a sibling, and an answer may stand in the conversation
    // in other tokens than those drawn: bytes that are no text, which only the tiny model writes.
    let rewritten = if runs.on == On::Tiny { 6 * 16 } else { 0 };
    ensure!(computed <= tree + 7 + rewritten, "what branches share was computed more than once");
    // The last token of a leaf is not computed.
    ensure!(computed + 8 >= tree && 2 * computed < apart, "the tree is no tree");
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
        ensure!(run.said.contains(&format!("{:?} {}", free[0], run.text("answer")?.trim())));
        if count == 3 {
            // The shortest is ready first and waits for the next, whose conversation goes on.
            ensure!(thoughts == [vec![3], vec![1], vec![1, 3], vec![2], vec![2, 1, 3]], "{thoughts:?}");
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
    // The points are written at once: they share their batches.
    let together = run.number("together")?;
    ensure!(points.len() == 1 || together > 1.0 + 0.5 * (points.len() - 1) as f64, "{together} together");
    Ok(())
}

fn prefix_tree(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    let (tree, prompts) = (run.integer("tree_tokens")?, run.integer("prompt_tokens")?);
    let computed = integer(&run.report["prompt_work"], "computed")?;
    ensure!(run.integer("leaves")? == 8 && computed == tree, "{computed} computed of a tree of {tree}");
    // The root is shared by eight, its children by four, theirs by two.
    ensure!(2 * tree < prompts, "{tree} as a tree, {prompts} apart");
    ensure!(run.computed()? - computed <= 8 * 8, "more than the answers was computed");
    Ok(())
}

const JSON: &str = "Write a JSON object: {\"name\": ...}";

const CONSTRAINED_DECODING: [Arguments; 5] = [
    &["--max-tokens", "400"],
    &["--max-tokens", "400", "--kind", "json", "--prompt", JSON, "--temperature", "0.8", "--seed", "8"],
    &["--kind", "regex", "--grammar", "[a-z]{5}-[0-9]{3}", "--temperature", "1"],
    &["--kind", "lark", "--grammar", "start: (\"red\" | \"blue\") \" \" NUMBER\nNUMBER: /[1-9][0-9]{0,3}/"],
    &["--kind", "ebnf", "--grammar", "root ::= pair \",\" pair\npair ::= [a-z] \"=\" [0-9]"],
];

fn constrained_decoding(runs: &Runs) -> Result<()> {
    for (run, kind) in runs.runs.iter().zip(["json-schema", "json", "regex", "lark", "ebnf"]) {
        ensure!(run.report["complete"] == json!(true), "{kind}: not complete");
        let text = run.text("text")?;
        ensure!(run.said.starts_with(text), "{kind}: the result is not what was streamed");
        let fits = match kind {
            "json-schema" => fits_the_schema(&serde_json::from_str(text).context(kind)?),
            "json" => match serde_json::from_str::<Value>(text).context(kind)? {
                Value::String(_) => runs.on == On::Tiny,
                value => value["name"].is_string(),
            },
            "regex" => text.len() == 9 && form(text) == "aaaaa-000",
            "lark" => text.split_once(' ').is_some_and(|(word, number)| {
                ["red", "blue"].contains(&word)
                    && number.parse::<u32>().is_ok_and(|n| (1..=9999).contains(&n))
            }),
            _ => form(text) == "a=0,a=0",
        };
        ensure!(fits, "{kind}: `{text}` is not in the language");
    }
    Ok(())
}

/// The schema that `constrained-decoding` has by default.
fn fits_the_schema(value: &Value) -> bool {
    let short = |key: &str| value[key].as_str().is_some_and(|text| text.chars().count() <= 20);
    let age = value["age"].as_u64().is_some_and(|age| age <= 120);
    value.as_object().is_some_and(|object| object.len() == 3) && short("name") && short("city") && age
}

/// A text with its small letters as `a` and its digits as `0`.
fn form(text: &str) -> String {
    let kind = |c: char| match c {
        'a'..='z' => 'a',
        '0'..='9' => '0',
        other => other,
    };
    text.chars().map(kind).collect()
}

const BEAM_SEARCH: [Arguments; 3] = [
    &["--max-tokens", "8", "--check"],
    &["--max-tokens", "4"],
    &["--max-tokens", "4", "--beams", "1", "--check"],
];

fn beam_search(runs: &Runs) -> Result<()> {
    let [long, short, greedy] = &runs.runs[..] else { unreachable!("three runs") };
    long.holds("equal")?;
    greedy.holds("equal")?;
    let beams = long.report["beams"].as_array().context("no beams")?;
    let log_probs: Vec<f64> = beams.iter().filter_map(|beam| beam["log_prob"].as_f64()).collect();
    ensure!(log_probs.len() == 3 && log_probs.is_sorted_by(|a, b| a >= b), "not the best first");
    let distinct: HashSet<&str> = beams.iter().filter_map(|beam| beam["text"].as_str()).collect();
    ensure!(distinct.len() == 3 || runs.on == On::Tiny, "beams are equal");
    // A beam more or a step more is a token more: what beams share is computed once.
    ensure!(long.passes()? > short.passes()? && short.passes()? > greedy.passes()?);
    let once = |a: &Run, b: &Run| anyhow::Ok(a.computed()? - b.computed()? == a.passes()? - b.passes()?);
    ensure!(once(long, short)? && once(short, greedy)?, "a prefix was computed more than once");
    ensure!(greedy.report["beams"][0]["text"] == greedy.report["greedy"], "one beam is not greedy decoding");
    ensure!(runs.on == On::Tiny || beams[0]["text"].as_str().is_some_and(|text| text.contains("Paris")));
    Ok(())
}

const REPETITIVE: &str = "Repeat this line ten times: the cat sat on the mat and the dog sat on the cat.";
const TABLE_OF_3: &str = "List the multiplication table of 3: 3 x 1 = 3, 3 x 2 = 6, and so on.";

fn speculative_decoding(runs: &Runs) -> Result<()> {
    for run in &runs.runs {
        run.holds("equal")?;
        let (tokens, passes) = (run.integer("tokens")?, run.integer("passes")?);
        ensure!(passes <= tokens + 1 && run.integer("accepted")? <= run.integer("drafted")?);
    }
    fewer_passes(&runs.runs[0])?;
    // A text that repeats itself is what the drafter is for.
    let (tokens, passes) = (runs.runs[0].integer("tokens")?, runs.runs[0].integer("passes")?);
    ensure!(runs.on == On::Tiny || 2 * passes < tokens, "{passes} passes for {tokens} tokens");
    Ok(())
}

fn jacobi_decoding(runs: &Runs) -> Result<()> {
    runs.runs[0].holds("equal")?;
    fewer_passes(&runs.runs[0])
}

fn fewer_passes(run: &Run) -> Result<()> {
    let (tokens, passes) = (run.integer("tokens")?, run.integer("passes")?);
    ensure!(tokens > 10 && passes < tokens, "{passes} passes for {tokens} tokens");
    // Each pass gives one token and those accepted; the last one may give a stop token.
    ensure!((tokens..=tokens + 1).contains(&(passes + run.integer("accepted")?)), "tokens from nowhere");
    Ok(())
}

fn best_of_n(runs: &Runs) -> Result<()> {
    let [five, two] = &runs.runs[..] else { unreachable!("two runs") };
    let answers = texts(&five.report["answers"])?;
    ensure!(answers.len() == 5 && answers.iter().collect::<HashSet<_>>().len() > 1, "draws are equal");
    fn pairs(text: &str) -> HashSet<(&str, &str)> {
        text.split_whitespace().zip(text.split_whitespace().skip(1)).collect()
    }
    let likeness = |a: &str, b: &str| {
        let (a, b) = (pairs(a), pairs(b));
        2.0 * a.intersection(&b).count() as f64 / (a.len() + b.len()).max(1) as f64
    };
    let scores = answers.iter().map(|a| answers.iter().map(|b| likeness(a, b)).sum::<f64>());
    let scores: Vec<f64> = scores.collect();
    let best = five.integer("best")? as usize;
    ensure!(scores.iter().all(|score| *score <= scores[best]), "{scores:?}: {best} is not the best");
    ensure!(five.text("text")? == answers[best]);
    // One token a pass but for the first: the prompt is computed once, however many answers are drawn.
    let more = (five.computed()? - two.computed()?, five.passes()? - two.passes()?);
    ensure!(more.0 == more.1, "the prompt was computed more than once");
    Ok(())
}

fn watermarking(runs: &Runs) -> Result<()> {
    let [marked, control] = &runs.runs[..] else { unreachable!("two runs") };
    let z = |run: &Run, key: &str| run.report[key].as_f64().context("no z-score");
    marked.holds("detected")?;
    ensure!(z(marked, "z")? > 4.0 && z(marked, "z_unmarked")?.abs() < 4.0);
    // Without a bias nothing is there to be found.
    ensure!(control.report["detected"] == json!(false) && z(control, "z")?.abs() < 4.0);
    Ok(())
}

fn output_validation(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    run.holds("exact")?;
    let candidates = run.report["candidates"].as_array().context("no candidates")?;
    let number = |candidate: &Value, key: &str| candidate[key].as_f64().context("no number");
    let mut total = 0.0;
    for (candidate, text) in candidates.iter().zip(["John Smith", "Mary Anne", "David Chen", "Chen David"]) {
        ensure!(candidate["text"] == text && number(candidate, "log_prob")? < 0.0);
        total += number(candidate, "share")?;
    }
    ensure!(candidates.len() == 4 && (total - 1.0).abs() < 1e-9, "shares add up to {total}");
    let best = candidates.iter().find(|candidate| candidate["text"] == run.report["best"]);
    let best = best.context("the best is no candidate")?;
    for other in candidates {
        ensure!(number(other, "log_prob")? <= number(best, "log_prob")?, "{other} is better");
        let shares = (number(best, "share")? / number(other, "share")?).ln();
        let apart = number(best, "log_prob")? - number(other, "log_prob")?;
        ensure!((shares - apart).abs() < 1e-6, "shares do not follow from log-probabilities");
    }
    ensure!(runs.on == On::Tiny || run.report["best"] == "David Chen");
    Ok(())
}

fn token_healing(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    let (prompt, taken_back) = ("The capital city of Fra", run.text("taken_back")?);
    run.holds("keeps_prompt")?;
    ensure!(!taken_back.is_empty() && prompt.ends_with(taken_back), "`{taken_back}` was taken back");
    ensure!(run.text("plain")?.starts_with(prompt) && run.text("healed")?.starts_with(prompt));
    if runs.on == On::Real {
        ensure!(!run.text("plain")?.contains("France"), "nothing to heal");
        ensure!(run.text("healed")?.contains("France"), "not healed");
    }
    Ok(())
}

fn classifier_free_guidance(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    run.holds("equal")?;
    run.holds("differs")?;
    ensure!(run.integer("tokens")? > 0);
    ensure!(runs.on == On::Tiny || run.text("text")?.contains("Arr"), "not like a pirate");
    Ok(())
}

fn self_correct(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    run.holds("clean")?;
    ensure!(run.integer("rewinds")? > 0, "nothing was forbidden");
    let text = run.text("text")?.to_lowercase();
    let words: HashSet<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
    ensure!(["the", "sun", "sea"].iter().all(|word| !words.contains(word)), "a forbidden word is left");
    // The prompt, then one token a pass.
    ensure!(run.computed()? == run.integer("prompt_tokens")? + run.passes()? - 1, "computed again");
    Ok(())
}

fn prefix_caching(runs: &Runs) -> Result<()> {
    let [miss, hit, invalidated] = &runs.runs[..] else { unreachable!("three runs") };
    for (run, expected) in [(miss, false), (hit, true), (invalidated, false)] {
        ensure!(run.report["hit"] == json!(expected), "{:?}: a hit is not {expected}", run.arguments);
        ensure!(run.text("text")? == miss.text("text")?, "another text");
    }
    let saved = miss.integer("saved_tokens")?;
    ensure!(saved > 500 && hit.computed()? == miss.computed()? - saved, "not all was reused");
    ensure!(invalidated.computed()? == miss.computed()?);
    Ok(())
}

const MODULAR_CACHING: [Arguments; 4] = [
    &["--max-tokens", "8"],
    &["--max-tokens", "8"],
    &["--max-tokens", "8", "--modules", "role,berlin,paris"],
    &["--max-tokens", "16", "--modules", "role,paris"],
];

fn modular_caching(runs: &Runs) -> Result<()> {
    let [miss, hit, other, paris] = &runs.runs[..] else { unreachable!("four runs") };
    ensure!(miss.report["reused"] == json!([]), "something was there before the first run");
    ensure!(hit.report["reused"] == json!(["role", "rome", "paris"]));
    ensure!(other.report["reused"] == json!(["role", "paris"]), "a module is tied to its neighbours");
    let modules = miss.integer("module_tokens")?;
    ensure!(modules > 64 && hit.computed()? == miss.computed()? - modules, "not all was reused");
    ensure!((hit.computed()? + 1..miss.computed()?).contains(&other.computed()?), "more than one module");
    ensure!(hit.text("text")? == miss.text("text")?, "another text");
    // The answer stands in a module that was computed apart, behind a gap.
    ensure!(runs.on == On::Tiny || paris.text("text")?.contains("Tuesday"), "the module was not read");
    Ok(())
}

/// However long the text, the same few pages.
fn bounded_memory(runs: &Runs, bound: u64) -> Result<()> {
    for run in &runs.runs {
        run.holds("flat")?;
        let tokens: u64 = run.arguments[1].parse()?;
        ensure!(run.integer("tokens")? == tokens && run.integer("pages_without")? >= tokens / 16);
        let pages = run.integer("pages_most")?;
        ensure!(run.integer("pages_bound")? == bound && (2..=bound).contains(&pages), "{pages} pages");
    }
    ensure!(runs.report(0)["pages_most"] == runs.report(1)["pages_most"], "pages grow with the text");
    Ok(())
}

fn hierarchical_attention(runs: &Runs) -> Result<()> {
    let run = &runs.runs[0];
    run.holds("independent")?;
    // Of five nodes, the one that was replaced.
    let (changed, rows) = (run.integer("changed")?, run.integer("rows")?);
    ensure!((8..rows / 2).contains(&changed), "{changed} rows of {rows} changed");
    ensure!(runs.on == On::Tiny || run.text("text")?.contains("12 euros"), "the answer is wrong");
    Ok(())
}

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
    // What both share is given once (the prefix cache would hide that in what is computed); the last token of each may
    // not be.
    let once = run.integer("tokens_apart")? - run.integer("shared_tokens")?;
    let given = integer(&run.report["work"], "tokens")?;
    ensure!(run.integer("shared_tokens")? > 4 && (once - 2..=once).contains(&given), "given twice");
    // And a step of both is one batch; now and then it is two, where a step takes no longer than asking for it.
    let least = if runs.on == On::Tiny { 1.01 } else { 1.5 };
    ensure!(run.number("together")? > least, "{} together", run.number("together")?);
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
    // Each node that grew has three children; the search goes down by a step at a time, and below the first level.
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

fn positive(value: &Value) -> Result<bool> {
    value.as_f64().map(|value| value > 0.0).with_context(|| format!("{value} is no number"))
}

fn inferlets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../inferlets")
}

/// Runs a program.
///
/// # Errors
/// When it fails, with what it said.
fn run(home: &Path, model: &str, program: &str, arguments: Arguments) -> Result<Run> {
    let mut command = common::pie(home, &["run", program, "--model", model, "--"]);
    let output = command.args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it failed: {said}\n{complaint}");
    let report = said.trim_end().rsplit('\n').next().unwrap_or_default();
    let report = serde_json::from_str(report).unwrap_or_default();
    Ok(Run { arguments, said, report })
}

/// Runs the whole table, and reports all failures together.
fn every_row(on: On, model: &str) {
    let add = |home: &Path| {
        if on == On::Tiny {
            common::add_tiny_model(home);
        }
    };
    let shared = common::home(match on {
        On::Tiny => "programs-tiny",
        On::Real => "programs-real",
    });
    add(&shared);
    let mut failures = Vec::new();
    for row in &TABLE {
        let fresh = tempfile::tempdir().expect("a folder for temporary files");
        let home = match row.home {
            Home::Shared => shared.as_path(),
            Home::Fresh => fresh.path(),
        };
        if row.home == Home::Fresh {
            add(home);
        }
        let arguments = if on == On::Tiny { row.tiny } else { row.real };
        let mut runs = Runs { on, runs: Vec::new() };
        let mut outcome = Ok(());
        for arguments in arguments {
            match run(home, model, row.program, arguments) {
                Ok(run) => runs.runs.push(run),
                Err(error) => outcome = outcome.and(Err(error.context(format!("{arguments:?}")))),
            }
        }
        if let Err(error) = outcome.and_then(|()| (row.check)(&runs)) {
            let said = runs.runs.iter().map(|run| format!("  {:?}\n{}", run.arguments, run.said));
            failures.push(format!("{}: {error:#}\n{}", row.program, said.collect::<String>()));
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n\n{}", failures.len(), TABLE.len(), failures.join("\n"));
}

#[test]
fn every_program_shows_what_it_is_for_on_the_tiny_model() {
    every_row(On::Tiny, "test-tiny");
}

#[test]
fn every_program_shows_what_it_is_for_on_the_real_model() {
    let Some(model) = common::real_model() else { return };
    every_row(On::Real, &model);
}

/// The folders of programs.
fn folders() -> BTreeSet<String> {
    let entries = std::fs::read_dir(inferlets()).expect("inferlets").map(|entry| entry.expect("an entry"));
    let programs = entries.filter(|entry| entry.path().join("Cargo.toml").exists());
    programs.map(|entry| entry.file_name().into_string().expect("a name in UTF-8")).collect()
}

#[test]
fn the_table_has_a_row_for_each_program() {
    let rows: BTreeSet<String> = TABLE.iter().map(|row| row.program.to_string()).collect();
    let served = SERVED.map(str::to_string);
    assert_eq!(rows.iter().cloned().chain(served).collect::<BTreeSet<_>>(), folders());
    assert_eq!(rows.len(), TABLE.len(), "a program has two rows");
    assert!(TABLE.iter().all(|row| !row.tiny.is_empty() && !row.real.is_empty()), "a row without runs");
}

/// Lines of Rust in a program's sources but for blank ones and comments.
fn lines_of_code(program: &str) -> usize {
    let files = std::fs::read_dir(inferlets().join(program).join("src")).expect("a folder of sources");
    let files = files.map(|file| file.expect("an entry").path());
    let sources = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let count = |path: PathBuf| {
        let source = std::fs::read_to_string(path).expect("a source in UTF-8");
        source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
    };
    sources.map(count).sum()
}

#[test]
fn the_readme_lists_each_program_with_its_lines_of_code() {
    let readme = std::fs::read_to_string(inferlets().join("README.md")).expect("inferlets/README.md");
    let mut listed = BTreeSet::new();
    let mut wrong = Vec::new();
    for row in readme.lines().filter(|line| line.starts_with("| [")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" |").map(str::trim).collect();
        let [link, _, lines, paper] = cells[..] else { panic!("four columns are expected: {row}") };
        let program = link.split('`').nth(1).unwrap_or_default();
        assert_eq!(link, format!("[`{program}`]({program}/src/lib.rs)"));
        assert!(listed.insert(program.to_string()), "`{program}` is listed twice");
        let counted = lines_of_code(program);
        if lines.parse() != Ok(counted) {
            wrong.push(format!("`{program}` has {counted} lines, the table says {lines}"));
        }
        if !paper.is_empty() && counted > paper.parse().expect("a number") {
            wrong.push(format!("`{program}` has {counted} lines, in the paper {paper}"));
        }
    }
    assert_eq!(listed, folders());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! Decoding: constraints, searches, drafts, and what is done to distributions.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::report::{Run, Runs, texts};
use crate::{Arguments, Home, On, Row};

pub(crate) const ROWS: &[Row] = &[
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
            &["--max-tokens", "256", "--check"],
            &["--max-tokens", "96", "--check", "--temperature", "0.7", "--seed", "3"],
            // Drafts that were dropped leave gaps, whose rounding can change a token of this model sooner or later.
            &["--max-tokens", "48", "--check", "--order", "1", "--branches", "3"],
        ],
        real: &[
            &["--max-tokens", "64", "--check", "--prompt", REPETITIVE],
            &["--max-tokens", "96", "--check", "--prompt", TABLE_OF_3, "--temperature", "0.3", "--seed", "3"],
            &["--max-tokens", "64", "--check", "--prompt", COUNTING, "--order", "1", "--branches", "3"],
        ],
        check: speculative_decoding,
    },
    Row {
        program: "jacobi-decoding",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "256", "--check", "--prompt", "sea sea sea sea"]],
        real: &[&["--max-tokens", "96", "--check", "--prompt", TABLE_OF_3]],
        check: jacobi_decoding,
    },
    Row { program: "best-of-n", home: Home::Shared, tiny: &BEST_OF_N, real: &BEST_OF_N, check: best_of_n },
    Row {
        program: "watermarking",
        home: Home::Shared,
        tiny: &[
            &["--max-tokens", "256", "--seed", "1"],
            &["--max-tokens", "256", "--seed", "1", "--delta", "0"],
            &["--detect", UNMARKED],
        ],
        real: &[
            &["--max-tokens", "64", "--seed", "1"],
            &["--max-tokens", "64", "--seed", "1", "--delta", "0"],
            &["--detect", UNMARKED],
            &["--detect", MARKED],
        ],
        check: watermarking,
    },
    Row {
        program: "output-validation",
        home: Home::Shared,
        tiny: &[&[], &["--candidates", "David,David Chen"]],
        real: &[&[], &["--candidates", "David,David Chen"]],
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
        tiny: &[&["--max-tokens", "48", "--forbidden", "the,sun,sea,a,e"]],
        real: &[&["--max-tokens", "48", "--forbidden", "the,sun,sea"]],
        check: self_correct,
    },
];

const JSON: &str = "Write a JSON object: {\"name\": ...}";

const CONSTRAINED_DECODING: [Arguments; 5] = [
    &["--max-tokens", "400"],
    &["--max-tokens", "400", "--kind", "json", "--prompt", JSON, "--temperature", "0.8", "--seed", "60"],
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
        // Keys and punctuation of the schema leave no choice.
        ensure!(kind != "json-schema" || run.integer("forced")? > 0, "nothing was forced");
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

/// Of drafts in branches those that are not taken leave gaps, which change last bits: the text must be sure.
const COUNTING: &str = "Count from 1 to 30.";

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

const BEST_OF_N: [Arguments; 3] = [
    &["--candidates", "5", "--max-tokens", "24", "--seed", "1"],
    &["--candidates", "2", "--max-tokens", "8", "--seed", "1"],
    &["--candidates", "5", "--max-tokens", "24", "--seed", "1", "--consensus"],
];

fn best_of_n(runs: &Runs) -> Result<()> {
    let [five, two, consensus] = &runs.runs[..] else { unreachable!("three runs") };
    let answers = texts(&five.report["answers"])?;
    ensure!(answers.len() == 5 && answers.iter().collect::<HashSet<_>>().len() > 1, "draws are equal");
    ensure!(consensus.report["answers"] == five.report["answers"], "a seed has two texts");
    let scores = |run: &Run| -> Result<Vec<f64>> {
        let scores = run.report["scores"].as_array().context("no scores")?;
        let scores: Vec<f64> = scores.iter().filter_map(Value::as_f64).collect();
        let best = run.integer("best")? as usize;
        ensure!(scores.len() == 5 && scores.iter().all(|score| *score <= scores[best]), "{scores:?}, {best}");
        ensure!(run.text("text")? == answers[best], "the text is not the best answer");
        Ok(scores)
    };
    // The verifier's are probabilities.
    ensure!(scores(five)?.iter().all(|score| (0.0..=1.0).contains(score)), "no probabilities");
    fn pairs(text: &str) -> HashSet<(&str, &str)> {
        text.split_whitespace().zip(text.split_whitespace().skip(1)).collect()
    }
    let likeness = |a: &str, b: &str| {
        let (a, b) = (pairs(a), pairs(b));
        2.0 * a.intersection(&b).count() as f64 / (a.len() + b.len()).max(1) as f64
    };
    for (a, score) in answers.iter().zip(scores(consensus)?) {
        let expected: f64 = answers.iter().map(|b| likeness(a, b)).sum();
        ensure!((score - expected).abs() < 1e-9, "`{a}`: {score}, not {expected}");
    }
    // One token a pass but for the first: the prompt is computed once, however many answers are drawn.
    let more = (five.computed()? - two.computed()?, five.passes()? - two.passes()?);
    ensure!(more.0 == more.1, "the prompt was computed more than once");
    Ok(())
}

const UNMARKED: &str = "The sea was vast and unforgiving, a realm where the boundaries of the human \
    imagination began to unravel. In this mystical land, the inhabitants dwelled in a realm of bioluminescent \
    creatures.";
/// Written by the program on the default model.
const MARKED: &str = "The ocean's crystal-clear glass, it's only been a month since a sudden wave hit. Amidst \
    the familiar rhythms, I found myself crossing our makeshift communication with the town of Grimsby's \
    lounge on a Sunday evening.";

fn watermarking(runs: &Runs) -> Result<()> {
    let z = |run: &Run, key: &str| run.report[key].as_f64().context("no z-score");
    let (marked, control, unmarked) = (&runs.runs[0], &runs.runs[1], &runs.runs[2]);
    marked.holds("detected")?;
    ensure!(z(marked, "z")? > 4.0 && z(marked, "z_unmarked")?.abs() < 4.0);
    // Without a bias nothing is there to be found, and the text is the unmarked one.
    ensure!(control.report["detected"] == json!(false) && z(control, "z")? == z(control, "z_unmarked")?);
    ensure!(unmarked.report["detected"] == json!(false) && z(unmarked, "z")?.abs() < 4.0, "a false alarm");
    runs.runs[3..].iter().try_for_each(|run| run.holds("detected"))
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
    // A beginning of the right answer ends too early to be it.
    ensure!(
        runs.on == On::Tiny || run.report["best"] == "David Chen" && runs.report(1)["best"] == "David Chen"
    );
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

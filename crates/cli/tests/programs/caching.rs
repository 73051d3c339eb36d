//! Cache and attention: what is computed once, and what is forgotten.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::report::Runs;
use crate::{Arguments, Home, On, Row, common};

pub(crate) const ROWS: &[Row] = &[
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
        // 64 tokens at the beginning, 32 at the end and 32 of a prompt, in pages of 16, and a part of a page
        // on either side of the gap.
        check: |runs| bounded_memory(runs, 10),
    },
    Row {
        program: "windowed-attention",
        home: Home::Shared,
        tiny: &[&["--max-tokens", "4096"], &["--max-tokens", "256"]],
        real: &[&["--max-tokens", "512"], &["--max-tokens", "256"]],
        check: |runs| bounded_memory(runs, 6),
    },
    Row {
        program: "hierarchical-attention",
        home: Home::Shared,
        tiny: &[&[]],
        real: &[&[]],
        check: hierarchical_attention,
    },
];

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
    ensure!(hit.report["reused"] == json!(["head", "role", "rome", "paris"]));
    ensure!(other.report["reused"] == json!(["head", "role", "paris"]), "a module is tied to its neighbours");
    let modules = miss.integer("module_tokens")?;
    ensure!(modules > 64 && hit.computed()? == miss.computed()? - modules, "not all was reused");
    ensure!((hit.computed()? + 1..miss.computed()?).contains(&other.computed()?), "more than one module");
    ensure!(hit.text("text")? == miss.text("text")?, "another text");
    // The answer is in a module that was computed apart, behind a gap.
    ensure!(runs.on == On::Tiny || paris.text("text")?.contains("Tuesday"), "the module was not read");
    Ok(())
}

/// However long the text, the same few pages.
fn bounded_memory(runs: &Runs, bound: u64) -> Result<()> {
    for run in &runs.runs {
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

#[test]
fn a_window_holds_its_few_pages_while_a_long_prompt_is_computed() {
    let home = common::tiny_home("programs-tiny");
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let config = folder.path().join("config.toml");
    // Longer than the context of the tiny model, too.
    let prompt = "The sea was calm and the boats lay still. ".repeat(80);
    for (program, pages) in [("attention-sink", 10), ("windowed-attention", 6)] {
        std::fs::write(&config, format!("[limits]\nkv_pages = {pages}\n")).expect("a file");
        let config = config.to_str().expect("a path in UTF-8");
        let arguments = ["run", program, "--model", "test-tiny", "--config", config, "--"];
        let mut pie = common::pie(home, &arguments);
        let output = pie.args(["--max-tokens", "16", "--prompt", &prompt]).output().expect("pie runs");
        assert!(output.status.success(), "{program}: {}", common::text(&output.stderr));
    }
}

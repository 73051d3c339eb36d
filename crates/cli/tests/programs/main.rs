//! The example programs do what they are for, on the tiny model and on the default one.
//!
//! One table, cut into the groups of `inferlets/README.md`: a row has a program, the arguments of its runs on
//! either model, and a check of what the runs report. A run is `pie run` as a user types it. The tiny model
//! says noise, so a check on it is about form, counts and equality; what needs sense is asserted on the real
//! model. Nothing here asserts a time.

mod agents;
mod caching;
#[path = "../common/mod.rs"]
mod common;
mod decoding;
mod others;
mod report;
mod structured;
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use report::{Run, Runs};

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

/// Programs that answer HTTP requests instead of running, or need a server: `tests/http.rs` and `tests/clients` have them,
/// and those of the API's routes.
const ELSEWHERE: [&str; 4] = ["http-server", "launch-server", "api-retrieval", "agent-mcp"];

/// The API's routes with their programs.
const ROUTES: &[(&str, &str)] = include!("../../src/api/routes.rs");

/// The groups of `inferlets/README.md`, in its order.
const GROUPS: [&[Row]; 6] =
    [text::ROWS, agents::ROWS, structured::ROWS, decoding::ROWS, caching::ROWS, others::ROWS];

fn table() -> impl Iterator<Item = &'static Row> {
    GROUPS.into_iter().flatten()
}

fn inferlets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../inferlets")
}

/// Programs whose check is of what their passes share: `batching.toml` says when these run.
const SHARE_BATCHES: [&str; 2] = ["parallel-generation", "skeleton-of-thought"];

/// Runs a program.
///
/// # Errors
/// When it fails, with what it said.
fn run(home: &Path, model: &str, program: &str, arguments: Arguments) -> Result<Run> {
    let mut command = common::pie(home, &["run", program, "--model", model]);
    if SHARE_BATCHES.contains(&program) {
        command.arg("--config").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/batching.toml"));
    }
    let output = command.arg("--").args(arguments).output()?;
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
    let shared = match on {
        On::Tiny => common::tiny_home("programs-tiny").to_path_buf(),
        On::Real => common::home("programs-real"),
    };
    let mut failures = Vec::new();
    for row in table() {
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
    assert!(failures.is_empty(), "{} of {}:\n\n{}", failures.len(), table().count(), failures.join("\n"));
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
    let rows: BTreeSet<String> = table().map(|row| row.program.to_string()).collect();
    let elsewhere = ROUTES.iter().map(|(_, program)| *program).chain(ELSEWHERE).map(str::to_string);
    assert_eq!(rows.iter().cloned().chain(elsewhere).collect::<BTreeSet<_>>(), folders());
    assert_eq!(rows.len(), table().count(), "a program has two rows");
    assert!(table().all(|row| !row.tiny.is_empty() && !row.real.is_empty()), "a row without runs");
}

/// Lines of Rust in a program's sources but for blank ones, comments, attributes and tests.
fn lines_of_code(program: &str) -> usize {
    let files = std::fs::read_dir(inferlets().join(program).join("src")).expect("a folder of sources");
    let files = files.map(|file| file.expect("an entry").path());
    let sources = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let count = |path: PathBuf| {
        let source = std::fs::read_to_string(path).expect("a source in UTF-8");
        let lines = source.lines().map(str::trim).take_while(|line| *line != "#[cfg(test)]");
        lines.filter(|line| !line.is_empty() && !line.starts_with("//") && !line.starts_with("#[")).count()
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

//! A new program, from `pie new` to its first answer, outside of the checkout.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::text;

/// Long enough for a machine that compiles other things, and short enough to find what hangs.
const PATIENCE: Duration = Duration::from_secs(600);

struct Author {
    home: &'static Path,
    desk: tempfile::TempDir,
}

impl Author {
    fn new() -> Author {
        let home = common::tiny_home("home-develop");
        Author { home, desk: tempfile::tempdir().unwrap() }
    }

    /// `pie` where the author works. What is built is kept between runs of the tests.
    fn pie(&self, arguments: &[&str]) -> Command {
        let mut command = common::pie(self.home, arguments);
        command.current_dir(self.desk.path()).env("CARGO_TARGET_DIR", self.home.join("target"));
        // What cargo set for this test is not for the author's cargo.
        for name in ["CARGO_MANIFEST_DIR", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "PIE_PROGRAMS"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.pie(arguments).output().expect("pie runs")
    }

    /// What it prints, where it must succeed.
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// What it says, where it must fail.
    fn error(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded: {}", text(&output.stdout));
        text(&output.stderr)
    }
}

/// Puts other words in the place of some in a file.
fn edit(file: &Path, from: &str, to: &str) {
    let source = std::fs::read_to_string(file).unwrap();
    assert!(source.contains(from), "`{from}` is not in {source}");
    std::fs::write(file, source.replace(from, to)).unwrap();
}

/// The lines of a stream, as they come.
fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn wait_for(lines: &Receiver<String>, wanted: &str) {
    let mut seen = Vec::new();
    loop {
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no `{wanted}` in {seen:#?}"));
        if line.contains(wanted) {
            return;
        }
        seen.push(line);
    }
}

#[test]
fn a_new_program_is_tested_built_run_and_run_again_after_an_edit() {
    let author = Author::new();
    let made = author.said(&["new", "first"]);
    assert!(made.contains("pie test") && made.contains("pie run ."), "{made}");
    let folder = author.desk.path().join("first");
    let again = author.error(&["new", "first"]);
    assert!(again.contains("first is there already"), "{again}");

    let tested = author.said(&["test", "first"]);
    assert!(tested.contains("the_answer_is_streamed ... ok"), "{tested}");

    let built = author.said(&["build", "first"]);
    for expected in ["first.wasm", "fits the API of this server", "is run by `pie run`", "MiB of memory"] {
        assert!(built.contains(expected), "`{expected}` is not in {built}");
    }
    let ran = author.said(&["run", "--model", "test-tiny", "./first", "--", "--max-tokens", "3"]);
    assert!(ran.contains("(3 tokens)"), "{ran}");

    // An edit that breaks it, and one that mends it, on one loaded model.
    let mut watching =
        author.pie(&["run", "--watch", "--model", "test-tiny", "first", "--", "--max-tokens", "2"]);
    let mut watching = watching.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (lines(watching.stdout.take().unwrap()), lines(watching.stderr.take().unwrap()));
    wait_for(&out, "(2 tokens)");
    wait_for(&err, "waiting for an edit");
    let source = folder.join("src/lib.rs");
    edit(&source, "tokens)\"", "tokens made)\"; 1");
    wait_for(&err, "the program does not build");
    wait_for(&err, "waiting for an edit");
    edit(&source, "tokens made)\"; 1", "tokens made)\"");
    wait_for(&out, "(2 tokens made)");
    watching.kill().unwrap();
    watching.wait().unwrap();

    // A test that fails is said.
    edit(&source, ".says(\"Where?\", \"There.\")", ".says(\"Where?\", \"Here.\")");
    let failed = author.error(&["test", "first"]);
    assert!(failed.contains("tests fail"), "{failed}");
}

#[test]
fn the_readmes_program_builds_and_runs() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, section) = readme.split_once("## Write an inferlet").expect("the section");
    let (_, program) = section.split_once("```rust\n").expect("its program");
    let (program, _) = program.split_once("```").expect("its end");
    let author = Author::new();
    author.said(&["new", "drafts"]);
    std::fs::write(author.desk.path().join("drafts/src/lib.rs"), program).unwrap();
    let ran = author.said(&["run", "--model", "test-tiny", "./drafts", "--", "--count", "2"]);
    assert!(ran.contains("\n\n"), "two drafts: {ran}");
}

#[test]
fn what_is_no_program_is_refused_with_the_way_out() {
    let author = Author::new();
    std::fs::create_dir(author.desk.path().join("empty")).unwrap();
    for (arguments, expected) in [
        (vec!["new", "My Program"], "a-z"),
        (vec!["build", "empty"], "pie new"),
        (vec!["test", "empty"], "pie new"),
        (vec!["run", "--model", "test-tiny", "./empty"], "pie new"),
        (vec!["run", "--watch", "--model", "test-tiny", "text-completion"], "pie new"),
    ] {
        let said = author.error(&arguments);
        assert!(said.contains(expected), "{arguments:?}: `{expected}` is not in {said}");
    }
    let library = author.desk.path().join("library");
    std::fs::create_dir_all(library.join("src")).unwrap();
    std::fs::write(library.join("src/lib.rs"), "").unwrap();
    std::fs::write(
        library.join("Cargo.toml"),
        "[package]\nname = \"library\"\nedition = \"2024\"\n[workspace]\n",
    )
    .unwrap();
    let said = author.error(&["build", "library"]);
    assert!(said.contains("cdylib"), "{said}");
}

#[test]
fn the_programs_of_the_binary_need_no_folder() {
    let author = Author::new();
    let ran = author.said(&["run", "--model", "test-tiny", "text-completion", "--", "--max-tokens", "2"]);
    assert!(ran.contains("(2 tokens"), "{ran}");
    let unknown = author.error(&["run", "--model", "test-tiny", "no-such"]);
    assert!(unknown.contains("text-completion") && unknown.contains("tree-of-thought"), "{unknown}");
}

#[test]
fn shells_and_man_know_the_commands() {
    let author = Author::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = author.said(&["completions", shell]);
        assert!(script.contains("batching-strategy") && script.contains("doctor"), "{shell}: {script}");
    }
    author.said(&["man", "pages"]);
    let page = std::fs::read_to_string(author.desk.path().join("pages/pie-run.1")).unwrap();
    assert!(page.contains("watch") && page.starts_with(".ie"), "{page}");
}

#[test]
fn a_trace_has_every_pass_with_what_went_in_and_came_out() {
    let author = Author::new();
    let arguments = ["run", "--model", "test-tiny", "--trace", "passes.jsonl", "text-completion", "--"];
    let ran = author.said(&[&arguments[..], &["--max-tokens", "4", "--prompt", "What is it?"]].concat());
    assert!(ran.contains("(4 tokens"), "{ran}");
    let trace = std::fs::read_to_string(author.desk.path().join("passes.jsonl")).unwrap();
    let passes: Vec<serde_json::Value> = trace
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    let number = |pass: &serde_json::Value, name: &str| {
        pass[name].as_u64().unwrap_or_else(|| panic!("{name} of {pass}"))
    };
    let (mut length, mut drawn, mut text) = (0, None, String::new());
    for pass in &passes {
        let tokens = pass["tokens"].as_array().unwrap();
        assert_eq!(number(pass, "length"), length, "{pass}");
        assert_eq!(number(pass, "computed") + number(pass, "cached"), tokens.len() as u64, "{pass}");
        if let Some(drawn) = drawn.replace(pass["outputs"][0]["token"]["token"].clone()) {
            assert_eq!(tokens.last(), Some(&drawn), "what was drawn goes in next: {pass}");
        }
        length += tokens.len() as u64;
        text += pass["text"].as_str().unwrap();
    }
    assert!(text.contains("What is it?") && passes.len() >= 4, "{trace}");

    let refused =
        author.error(&["run", "--model", "test-tiny", "--trace", "/no/such/folder/x", "text-completion"]);
    assert!(refused.contains("/no/such/folder/x"), "{refused}");
}

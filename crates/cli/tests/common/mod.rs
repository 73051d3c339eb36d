//! The built `pie`, as tests run it.

#![allow(
    dead_code,
    clippy::print_stderr,
    reason = "each test uses a part; and it says why nothing was tested"
)]

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// Where a workspace of guests is built: `inferlets` or `tests/programs`.
pub(crate) fn guests(workspace: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(workspace).join("target/wasm32-wasip2/release")
}

/// The real model, where the environment names a folder that holds it.
pub(crate) fn real_model() -> Option<String> {
    let Some(models) = std::env::var_os("PIE_TEST_MODELS") else {
        eprintln!("skipped: PIE_TEST_MODELS names no folder of models");
        return None;
    };
    let path = Path::new(&models).join("smollm2-135m-q4_1.gguf");
    Some(path.to_str().expect("a path in UTF-8").to_string())
}

/// A `PIE_HOME` of this name, kept between runs of the tests: programs are compiled once.
pub(crate) fn home(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A home of this name with the tiny model, made once for all tests of a file, which all give the same name.
pub(crate) fn tiny_home(name: &str) -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| {
        let home = home(name);
        add_tiny_model(&home);
        home
    })
}

/// Adds the tiny model to a home; does nothing where it is.
pub(crate) fn add_tiny_model(home: &Path) {
    let output = pie(home, &["model", "add", "test-tiny"]).output().expect("pie runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// `pie` with these arguments and all guests known by name; nothing to read from stdin.
pub(crate) fn pie(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pie"));
    let folders = std::env::join_paths([guests("inferlets"), guests("tests/programs")]).expect("paths");
    command.args(arguments).stdin(Stdio::null());
    command.env("PIE_HOME", home).env("PIE_PROGRAMS", folders).env("COLUMNS", "100").env_remove("PIE_LOG");
    command
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Gives a shell a line, and the lines that it answers.
pub(crate) fn ask_shell(input: &mut impl Write, said: &mut impl BufRead, line: &str) -> Vec<String> {
    // The answer to an unknown command marks the end.
    writeln!(input, "{line}\nend-of-answer").expect("the shell reads");
    let lines = said.lines().map(Result::unwrap);
    lines.take_while(|line| !line.contains("end-of-answer")).collect()
}

/// Sends a process a signal by its name.
pub(crate) fn signal(process: &Child, name: &str) {
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &id]).status().expect("kill runs").success());
}

/// Runs the test program on a model with these arguments, each message a line of its input, and gives the
/// lines that it answers.
pub(crate) fn ask(home: &Path, model: &str, arguments: &[&str], messages: &[String]) -> Vec<Value> {
    let mut command = pie(home, &["run", "test-programs", "--model", model, "--"]);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut pie = command.spawn().expect("pie runs");
    let mut input = pie.stdin.take().expect("piped");
    for message in messages {
        writeln!(input, "{message}").expect("pie reads");
    }
    drop(input);
    let output = pie.wait_with_output().expect("pie ends");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answer = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text(&output.stdout).lines().map(answer).collect()
}

/// Reads what a server says until it names its address.
pub(crate) fn address_of(said: &mut impl BufRead) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "pie ended before it was ready");
        if let Some((_, rest)) = line.split_once("http://") {
            return rest.split('/').next().unwrap().to_string();
        }
    }
}

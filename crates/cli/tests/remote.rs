//! `pie run --server` and the commands beside it, against `pie serve`.

mod common;

use std::io::{BufReader, Write};
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use common::text;

struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start() -> Server {
        let arguments = ["serve", "--no-auth", "--port", "0", "--model", "test-tiny"];
        let mut command = common::pie(common::tiny_home("remote"), &arguments);
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("pie starts");
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let url = format!("http://{}", common::address_of(&mut said));
        // What it says later must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Server { process, url }
    }

    /// Runs `pie` with `--server` behind its arguments, and gives it these lines of stdin.
    fn pie(&self, before: &[&str], behind: &[&str], input: &str) -> Output {
        let arguments = [before, &["--server", &self.url], behind].concat();
        let mut command = common::pie(common::tiny_home("remote"), &arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut pie = command.spawn().expect("pie runs");
        // One that does not read has ended.
        let _ = pie.stdin.take().expect("piped").write_all(input.as_bytes());
        pie.wait_with_output().expect("pie ends")
    }

    /// The same, which must succeed: its stdout.
    fn done(&self, before: &[&str], behind: &[&str]) -> String {
        let output = self.pie(before, behind, "");
        assert!(output.status.success(), "{before:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn states(&self) -> Vec<String> {
        let list = self.done(&["ps", "--json"], &[]);
        let state =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["state"].clone();
        list.lines().map(|line| state(line).as_str().expect("a state").to_string()).collect()
    }

    fn wait_for_states(&self, expected: &[&str]) {
        for _ in 0..600 {
            if self.states() == expected {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("expected {expected:?}, found {:?}", self.states());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_program_runs_on_a_server_as_it_does_here() {
    let server = Server::start();
    assert_eq!(server.done(&["run", "test-programs"], &["--", "hello", "there"]), "hello there\n");
    let file = common::guests("tests/programs").join("test_programs.wasm");
    let file = file.to_str().expect("UTF-8");
    assert_eq!(server.done(&["run", file], &["--", "hello", "file"]), "hello file\n");
    // Lines of stdin are messages; its end is the end of them.
    let output = server.pie(&["run", "test-programs"], &["--", "echo"], "one\ntwo\n");
    assert_eq!(text(&output.stdout), "onetwo");
    assert!(
        !output.status.success() && text(&output.stderr).contains("no more messages"),
        "{}",
        text(&output.stderr)
    );
    let failed = server.pie(&["run", "test-programs"], &["--", "fail"], "");
    assert_eq!((failed.status.code(), text(&failed.stderr).as_str()), (Some(1), "error: failed as asked\n"));
    let unknown = server.pie(&["run", "no-such-program"], &[], "");
    assert!(
        text(&unknown.stderr).starts_with("error: no program `no-such-program`; known are:"),
        "{}",
        text(&unknown.stderr)
    );
    assert!(server.states().is_empty(), "nothing is left");
}

#[test]
fn a_detached_inferlet_is_listed_looked_at_attached_to_and_killed() {
    let server = Server::start();
    let id = server.done(&["run", "test-programs", "--detach"], &["--", "hello", "later"]);
    let id = id.trim();
    server.wait_for_states(&["ended"]);
    for _ in 0..2 {
        assert_eq!(server.done(&["logs", &id[..8]], &[]), "hello later\n", "looking takes nothing");
    }
    assert_eq!(server.done(&["attach", id], &[]), "hello later\n");
    assert!(server.states().is_empty());
    let id = server.done(&["run", "test-programs", "--detach"], &["--", "spin"]);
    server.wait_for_states(&["running"]);
    server.done(&["kill", id.trim()], &[]);
    server.wait_for_states(&["ended"]);
    let output = server.pie(&["attach", id.trim()], &[], "");
    assert_eq!(text(&output.stderr), "error: the inferlet was killed\n");
    let unknown = server.pie(&["kill", "0000"], &[], "");
    assert!(text(&unknown.stderr).contains("no single inferlet"), "{}", text(&unknown.stderr));
}

#[test]
fn programs_are_installed_listed_and_removed() {
    let server = Server::start();
    let file = common::guests("tests/programs").join("test_programs.wasm");
    let file = file.to_str().expect("UTF-8");
    // One of the server's own is no program of the user's, also when it was launched.
    server.done(&["run", "test-programs"], &["--", "hello"]);
    let said = server.done(&["install", file, "mine@1.0"], &[]);
    let hash = said.trim().strip_prefix("mine@1.0: hash ").expect(&said).to_string();
    assert_eq!(hash.len(), 64);
    let list = server.done(&["programs"], &[]);
    assert!(list.lines().any(|line| line.contains("mine@1.0") && line.contains(&hash)), "{list}");
    assert_eq!(server.done(&["run", "mine"], &["--", "hello", "mine"]), "hello mine\n");
    // The name that the program gives itself.
    let own = server.done(&["install", file], &[]);
    assert_eq!(own, format!("test-programs@0.1.0: hash {hash}\n"));
    server.done(&["remove", "mine@1.0"], &[]);
    assert!(!server.done(&["programs"], &[]).contains("mine@1.0"));
    server.done(&["remove", &hash], &[]);
    let left = server.done(&["programs", "--json"], &[]);
    assert!(left.lines().count() > 0 && !left.contains("\"user\""), "{left}");
    let unknown = server.pie(&["remove", "mine@1.0"], &[], "");
    assert!(text(&unknown.stderr).contains("no program `mine@1.0`"), "{}", text(&unknown.stderr));
}

#[test]
fn what_a_program_takes_is_known_and_checked_on_a_server() {
    let server = Server::start();
    let help = server.done(&["run", "test-programs", "--help"], &[]);
    for expected in [
        "Usage: pie run test-programs -- [OPTIONS] [<CASE>] [<VALUE>] [<NAME>]",
        "-n, --count <NUMBER>",
        "[default: 1]",
    ] {
        assert!(help.contains(expected), "`{expected}` is not in {help}");
    }
    let refused = server.pie(&["run", "test-programs"], &["--", "count", "--count", "0"], "");
    let said = text(&refused.stderr);
    assert!(
        said.contains("`--count` is `0`, expected a whole number of 1 to 255") && said.contains("--help"),
        "{said}"
    );
    assert!(server.states().is_empty(), "nothing was launched");
}

#[test]
fn where_no_server_is_the_way_out_is_named() {
    let home = common::tiny_home("remote");
    let output = common::pie(home, &["ps", "--server", "http://127.0.0.1:9"]).output().expect("pie runs");
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("pie serve") && said.contains("127.0.0.1:9"), "{said}");
    let output = common::pie(home, &["run", "x", "--detach"]).output().expect("pie runs");
    assert!(text(&output.stderr).contains("--server"), "{}", text(&output.stderr));
}

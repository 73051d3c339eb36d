//! The command line as a user meets it: helps, errors, and programs on the tiny model and the real one.

mod common;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use common::text;

fn pie(arguments: &[&str]) -> Command {
    common::pie(common::tiny_home("home"), arguments)
}

fn run(arguments: &[&str]) -> Output {
    pie(arguments).output().expect("pie runs")
}

/// Runs what must fail, and gives what it says.
fn error(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded: {}", text(&output.stdout));
    text(&output.stderr)
}

#[test]
fn every_command_has_a_help() {
    let commands = [
        "run",
        "ps",
        "logs",
        "attach",
        "kill",
        "install",
        "programs",
        "remove",
        "start",
        "serve",
        "key",
        "stats",
        "new",
        "build",
        "test",
        "model",
        "bench",
        "trace",
        "doctor",
        "completions",
        "man",
    ];
    for command in commands {
        let output = run(&[command, "--help"]);
        assert!(output.status.success() && text(&output.stdout).contains("Usage: pie"), "{command}");
    }
    let help = text(&run(&["--help"]).stdout);
    for expected in
        ["run ", "start ", "key ", "stats ", "model ", "bench ", "trace ", "doctor ", "Examples:", "PIE_HOME"]
    {
        assert!(help.contains(expected), "`{expected}` is not in {help}");
    }
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let start = words(&text(&run(&["start", "--help"]).stdout));
    for policy in scheduler::POLICIES {
        let expected = words(&format!("{}: {}", policy.name, policy.about));
        assert!(start.contains(&expected), "`{expected}` is not in {start}");
    }
    // And every program has one, which needs no model.
    for arguments in
        [&["run", "graph-of-thought", "--help"][..], &["run", "graph-of-thought", "--", "--help"]]
    {
        let output = run(arguments);
        let help = text(&output.stdout);
        assert!(output.status.success(), "{arguments:?}");
        for expected in [
            "Usage: pie run graph-of-thought -- [OPTIONS]",
            "-p, --proposal-tokens <NUMBER,...>",
            "[default: 4,32,16,8,4,16,3,32]",
        ] {
            assert!(help.contains(expected), "{arguments:?}: `{expected}` is not in {help}");
        }
    }
}

#[test]
fn mistakes_are_named_with_found_expected_and_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_string()
    };
    let config = file("config.toml", b"prot = 1\n");
    let no_model = file("no.gguf", b"this is no model");
    let module = file("module.wasm", b"\0asm\x01\0\0\0");
    let text_file = file("text.wasm", b"hello");
    let tiny = ["--model", "test-tiny"];
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (arguments, expected) in [
        (
            vec!["start", "--no-auth", "--port", &port, tiny[0], tiny[1]],
            vec!["cannot listen on 127.0.0.1", "--port"],
        ),
        (vec!["run", "text-completion", "--model", "no-such-model"], vec!["no-such-model", "pie model add"]),
        (vec!["run", "text-completion", "--model", &no_model], vec!["no.gguf", "GGUF"]),
        (vec!["run", "no-such-program", tiny[0], tiny[1]], vec!["no-such-program", "text-completion"]),
        (vec!["run", "/no/such/file.wasm", tiny[0], tiny[1]], vec!["/no/such/file.wasm"]),
        (vec!["run", &module, tiny[0], tiny[1]], vec!["core module", "wasm32-wasip2"]),
        (vec!["run", &text_file, tiny[0], tiny[1]], vec!["not WebAssembly"]),
        (vec!["start", "--config", &config], vec!["unknown key `prot`", "did you mean `port`"]),
        (vec!["start", "--config", "/no/such.toml"], vec!["/no/such.toml"]),
        (vec!["start", "--batching-strategy", "best", tiny[0], tiny[1]], vec!["best", "adaptive"]),
        (vec!["model", "add", "no-such-model"], vec!["no-such-model"]),
        (vec!["model", "remove", "no-such-model"], vec!["no-such-model"]),
        (vec!["bench", "test-tiny", "--prompt", "100000"], vec!["100000", "context"]),
        (vec!["bench", "test-tiny", "--repeat", "0"], vec!["--repeat"]),
        (
            vec!["run", "text-completion", tiny[0], tiny[1], "--", "--promt", "x"],
            vec!["unknown argument `--promt`", "--prompt"],
        ),
        (
            vec!["run", "graph-of-thought", tiny[0], tiny[1], "--", "--proposal-tokens", "4,x"],
            vec!["`--proposal-tokens` is `x`, expected a whole number"],
        ),
    ] {
        let said = error(&arguments);
        for expected in expected {
            assert!(said.contains(expected), "{arguments:?}: `{expected}` is not in: {said}");
        }
    }
}

#[test]
fn programs_are_installed_on_this_machine_under_a_version() {
    let home = tempfile::tempdir().unwrap();
    common::add_tiny_model(home.path());
    let pie = |arguments: &[&str]| {
        let mut command = common::pie(home.path(), arguments);
        command.env_remove("PIE_PROGRAMS").output().expect("pie runs")
    };
    let said = |arguments: &[&str]| {
        let output = pie(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let failed = |arguments: &[&str]| {
        let output = pie(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        text(&output.stderr)
    };
    let guest = |name: &str| common::guests("inferlets").join(name).to_str().expect("UTF-8").to_string();
    let (healing, beams) = (guest("token_healing.wasm"), guest("beam_search.wasm"));
    let own = common::guests("tests/programs").join("test_programs.wasm");
    let own = own.to_str().expect("UTF-8");

    assert!(failed(&["remove", "mine"]).contains("no program `mine` is installed in"), "nothing is there");
    assert!(said(&["install", own, "mine@0.2.0"]).starts_with("mine@0.2.0: hash "));
    assert_eq!(said(&["run", "mine", "--model", "test-tiny", "--", "hello", "one"]), "hello one\n");
    assert!(said(&["run", "mine", "--help"]).contains("[<CASE>]"));
    let taken = failed(&["install", &healing, "mine@0.2.0"]);
    assert!(taken.contains("raise the version") && taken.contains("pie remove mine@0.2.0"), "{taken}");
    assert!(said(&["run", "mine", "--help"]).contains("[<CASE>]"), "a refused one changes nothing");
    // The version that was installed last, whatever its number is.
    said(&["install", &healing, "mine@0.1.0"]);
    assert!(said(&["run", "mine", "--help"]).contains("token-healing 0.1.0"));
    said(&["install", &beams]);
    let programs = said(&["programs"]);
    for expected in ["mine@0.1.0", "mine@0.2.0", "beam-search@0.1.0", "text-completion", "Any width;"] {
        assert!(programs.contains(expected), "`{expected}` is not in {programs}");
    }
    let lines = said(&["programs", "--json"]);
    let found = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let found = found.into_iter().find(|one| one["name"] == "beam-search@0.1.0").expect("it is listed");
    assert!(
        found["version"] == "0.1.0" && found["path"].as_str().is_some_and(|path| path.ends_with(".wasm")),
        "{found}"
    );
    assert!(failed(&["remove", "mine"]).contains("several versions"), "which is meant");
    assert_eq!(said(&["remove", "mine@0.1.0"]), "removed mine@0.1.0\n");
    assert_eq!(said(&["remove", "mine"]), "removed mine@0.2.0\n");
    assert!(failed(&["run", "mine", "--help"]).contains("no program `mine`"));
    for (arguments, expected) in [
        (vec!["install", own, "../mine@1"], "no name of a program"),
        (vec!["install", "/no/such/file.wasm"], "/no/such/file.wasm"),
        (vec!["install", own, "nameless"], "expected `NAME@VERSION`"),
    ] {
        let said = failed(&arguments);
        assert!(said.contains(expected), "{arguments:?}: `{expected}` is not in {said}");
    }
    let left: Vec<_> = std::fs::read_dir(home.path().join("programs")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_program_runs_on_the_tiny_model_the_same_each_time() {
    let arguments = [
        "run",
        "text-completion",
        "--model",
        "test-tiny",
        "--",
        "--prompt",
        "hello",
        "--max-tokens",
        "16",
        "--output",
    ];
    let (first, second) = (run(&arguments), run(&arguments));
    assert!(first.status.success(), "{}", text(&first.stderr));
    let result = |output: &Output| {
        text(&output.stdout).split("Per token latency").nth(1).map(|s| s.lines().skip(1).collect::<String>())
    };
    assert!(result(&first).is_some_and(|r| !r.is_empty()), "{}", text(&first.stdout));
    assert_eq!(result(&first), result(&second));
}

#[test]
fn the_shell_runs_programs_and_explains_itself() {
    let mut shell = pie(&["start", "--no-auth", "--model", "test-tiny", "--port", "0"]);
    let mut shell =
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = "help\nhelp run\nmodels\nprograms\nrun text-completion -- --prompt \"What is it?\" --max-tokens 4\n\
        run nothing\nps\nkill 123\nfrobnicate\nstats\nexit\n";
    shell.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let said = text(&output.stdout);
    for expected in [
        "Run an inferlet and print what it says",
        "Usage: run [OPTIONS] <PROGRAM> [-- <ARGUMENTS>...]",
        "test-tiny",
        "Inferlet launched with ID",
        "Per token latency",
        "Terminated. Reason: instance normally finished",
        "no program `nothing`",
        "no single inferlet",
        "unknown command `frobnicate`; `help` lists the commands",
        "generated tokens",
    ] {
        assert!(said.contains(expected), "`{expected}` is not in: {said}\n{}", text(&output.stderr));
    }
    assert!(output.status.success());
}

#[test]
fn a_reader_that_leaves_is_no_mistake() {
    for arguments in [&["model", "list"][..], &["model", "list", "--available"], &["doctor", "--json"]] {
        let mut pie = pie(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Before pie has anything to say.
        drop(pie.stdout.take());
        let output = pie.wait_with_output().unwrap();
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(128 + 13), "{arguments:?}");
    }
}

#[test]
fn bench_prints_one_object_a_line() {
    let output = run(&[
        "bench",
        "test-tiny",
        "--prompt",
        "32",
        "--generate",
        "8",
        "--batch",
        "1,4",
        "--repeat",
        "2",
        "--json",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let lines: Vec<serde_json::Value> = said.lines().map(|l| serde_json::from_str(l).expect(l)).collect();
    assert_eq!(lines.len(), 4, "the machine, one prefill, two decodes: {said}");
    assert!(lines[0]["machine"]["read_gb_per_s"].as_f64().is_some_and(|v| v > 0.0));
    for row in &lines[1..] {
        for key in ["model", "test", "tokens", "batch", "context", "threads", "bandwidth_share", "int8_share"]
        {
            assert!(!row[key].is_null(), "`{key}` is missing in {row}");
        }
        assert!(row["tokens_per_s"]["median"].as_f64().is_some_and(|v| v > 0.0), "{row}");
    }
}

#[test]
fn a_thousand_inferlets_at_once_finish() {
    let arguments = ["run", "launch-children", "--model", "test-tiny", "--"];
    let output = run(&[&arguments[..], &["--children", "1000", "--max-tokens", "8"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    let results = report["results"].as_array().expect("results");
    assert_eq!(results.len(), 1000);
    // There are five topics in turn; the same topic has the same text.
    assert!(results.iter().enumerate().all(|(i, result)| *result == results[i % 5]), "{results:?}");
    assert_eq!(report["cancelled"], true, "one was ended at its work");
}

#[test]
fn a_pool_of_a_quarter_gives_the_same_texts() {
    // 64 programs with 29 pages each, the shared ones counted once: 1856 pages.
    let folder = tempfile::tempdir().unwrap();
    let crowd = |pages: u32, count: &str| {
        let path = folder.path().join(format!("{pages}.toml"));
        let config = format!("[[backend]]\nmodel = 'test-tiny'\nmax_num_kv_pages = {pages}\n");
        std::fs::write(&path, config).unwrap();
        let mut command = pie(&["run", "test-programs", "--config", path.to_str().unwrap()]);
        let output = command.args(["--", "crowd", count]).output().expect("pie runs");
        assert!(output.status.success(), "{pages} pages: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let roomy = crowd(4096, "64");
    assert_eq!(roomy.lines().count(), 64);
    assert!(crowd(464, "64") == roomy, "a short pool gives other texts");
    assert!(roomy.starts_with(crowd(464, "1").trim()), "one alone gives another text");
}

#[test]
fn the_real_model_knows_the_capital_of_france() {
    let Some(model) = common::real_model() else { return };
    let question = "What is the capital of France?";
    let output =
        run(&["run", "text-completion", "--model", &model, "--", "--prompt", question, "--max-tokens", "32"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("Paris"), "{}", text(&output.stdout));
}

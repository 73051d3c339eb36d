//! Servers that commands start end with them, by whichever signal.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Far longer than any step takes, for a machine that is busy with something else.
const LIMIT: Duration = Duration::from_secs(60);

fn wait_for<T>(what: &str, mut state: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = state() {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program that writes its number and never becomes a server. It has a child of its own, as a shell has.
fn never_ready(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("server");
    let pid = folder.join("pid");
    let script =
        format!("#!/bin/sh\nsleep 1000 &\necho $! $$ > {0}.part\nmv {0}.part {0}\nwait\n", pid.display());
    std::fs::write(&path, script).expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a program");
    path
}

fn pids(folder: &Path) -> Option<Vec<Pid>> {
    let text = std::fs::read_to_string(folder.join("pid")).ok()?;
    text.split_whitespace().map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

fn bench(arguments: &[&str], server: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pie-bench"));
    command.args(arguments).env("PIE_BIN", server).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("pie-bench")
}

/// Ends pie-bench by a signal once it has started the server, and returns how it ended; then the server is gone.
fn ended_by(signal: Signal, arguments: &[&str], folder: &Path) -> ExitStatus {
    let mut child = bench(arguments, &never_ready(folder));
    let servers = wait_for("the start of the server", || pids(folder));
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a number")).expect("a process");
    kill_process(pid, signal).expect("a signal");
    let status = wait_for("the end of pie-bench", || child.try_wait().expect("a status"));
    for server in servers {
        // An orphan is gone when whoever has adopted it has looked; until then it is a zombie, which runs no more.
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", server.as_raw_nonzero())).ok();
        let runs = || {
            let state = state()?;
            let state = state.rsplit_once(')')?.1.trim_start().chars().next()?;
            (state != 'Z' && test_kill_process(server).is_ok()).then_some(())
        };
        wait_for("the end of the server", || runs().is_none().then_some(()));
    }
    status
}

#[test]
fn a_server_of_sage_ends_with_a_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("out");
        let arguments = ["sage", "run", "--output", out.to_str().expect("a path"), "--server-wait", "600"];
        let status = ended_by(signal, &arguments, folder.path());
        assert_eq!(status.code(), Some(1), "{signal:?}: stopped in words");
    }
}

#[test]
fn a_server_of_the_paper_ends_with_a_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let programs = folder.path().to_str().expect("a path");
    let arguments = ["paper", "fig9", "--programs", programs, "--output-dir", programs];
    let status = ended_by(Signal::TERM, &arguments, folder.path());
    assert_eq!(status.code(), Some(128 + 15));
}

#[test]
fn commands_of_targets_are_started_and_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let (one, two) = (free(), free());
    let mock = |port: u16| format!("{} mock --ttft 5 --gap 1 --port {port}", env!("CARGO_BIN_EXE_pie-bench"));
    let out = folder.path().join("out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pie-bench"));
    command
        .args(["sage", "compare", "--batch-size", "1", "--max-output-tokens", "4", "--output-dir"])
        .arg(&out);
    for (label, port) in [("one", one), ("two", two)] {
        command.arg("--target").arg(format!("{label}=http://127.0.0.1:{port}/v1"));
        command.arg("--target-command").arg(format!("{label}={}", mock(port)));
    }
    let output = command.output().expect("pie-bench");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.join("comparison.json").exists());
    for port in [one, two] {
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "{port} still answers");
    }
    // A command that ends says so at once, and not after the wait.
    let output = Command::new(env!("CARGO_BIN_EXE_pie-bench"))
        .args(["sage", "compare", "--server-wait", "600", "--output-dir"])
        .arg(&out)
        .args(["--target", "a=http://127.0.0.1:1/v1", "--target", "b=http://127.0.0.1:2/v1"])
        .args(["--target-command", "a=echo no model here; exit 3"])
        .output()
        .expect("pie-bench");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("exit status: 3") && said.contains("no model here"),
        "{said}"
    );
}

//! The shell: of a server elsewhere, and of the server of its own process.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::text;

/// A `pie` that has a shell, or is a server, and what it says.
struct Process {
    child: Child,
    said: BufReader<ChildStdout>,
    errors: BufReader<ChildStderr>,
}

impl Process {
    fn start(mut command: Command) -> Process {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("pie starts");
        let said = BufReader::new(child.stdout.take().expect("piped"));
        let errors = BufReader::new(child.stderr.take().expect("piped"));
        Process { child, said, errors }
    }

    /// A server in this home, and its address.
    fn server(home: &Path, arguments: &[&str]) -> (Process, String) {
        let mut server = Process::start(common::pie(home, arguments));
        let address = common::address_of(&mut server.errors);
        (server, format!("http://{address}"))
    }

    /// Sends it a signal by its name.
    fn signal(&self, name: &str) {
        common::signal(&self.child, name);
    }

    fn read(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it is read");
        line.trim_end().to_string()
    }

    fn write(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("piped");
        writeln!(input, "{line}").expect("it reads");
    }

    /// Gives the shell a line, and the lines that it answers.
    fn ask(&mut self, line: &str) -> Vec<String> {
        common::ask_shell(self.child.stdin.as_mut().expect("piped"), &mut self.said, line)
    }

    /// Asks again until a line of the answer has this.
    fn wait_for(&mut self, line: &str, expected: &str) -> Vec<String> {
        for _ in 0..600 {
            let answer = self.ask(line);
            if answer.iter().any(|line| line.contains(expected)) {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("`{expected}` is not in the answer to `{line}`: {:?}", self.ask(line));
    }

    /// Ends its input; how it ends, and what is left on stdout and stderr.
    fn finish(mut self) -> (ExitStatus, String, String) {
        drop(self.child.stdin.take());
        let (mut said, mut errors) = (Vec::new(), Vec::new());
        self.said.read_to_end(&mut said).expect("it is read");
        self.errors.read_to_end(&mut errors).expect("it is read");
        (self.child.wait().expect("it ends"), text(&said), text(&errors))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The id in what `run --detach` says.
fn launched(said: &[String]) -> String {
    let id = said.first().and_then(|line| line.strip_prefix("\u{2705} Inferlet launched with ID: "));
    id.unwrap_or_else(|| panic!("an id is expected in {said:?}")).to_string()
}

#[test]
fn a_shell_has_the_commands_of_a_server_elsewhere() {
    let home = common::tiny_home("shell");
    let (_server, url) =
        Process::server(home, &["serve", "--no-auth", "--port", "0", "--model", "test-tiny"]);
    let mut shell = Process::start(common::pie(home, &["shell", "--server", &url]));

    // In the foreground: each line with the inferlet's id, and how it ended. It gets no lines of the shell.
    let said = shell.ask("run test-programs -- hello 'from a shell'");
    assert_eq!(said.len(), 3, "{said:?}");
    let id = launched(&said);
    assert_eq!(said[1], format!("[Inst {}] Result: hello from a shell", &id[..8]));
    let ended = format!("[Inferlet {id}] Terminated. Reason: instance normally finished (");
    assert!(said[2].starts_with(&ended), "{said:?}");
    let said = shell.ask("run test-programs -- echo");
    assert!(said[1].contains("Terminated. Reason: closed: the client sends no more messages"), "{said:?}");

    // In the background: what it says is kept, and it takes what it is sent.
    let id = launched(&shell.ask("run -d test-programs -- echo"));
    shell.wait_for("ps", &id);
    assert!(shell.ask(&format!("send {id} 'two words'")).is_empty());
    let kept = shell.wait_for(&format!("logs {}", &id[..12]), "two words");
    assert_eq!(kept, [format!("[Inst {}] two words", &id[..8])]);
    assert!(shell.ask(&format!("kill {id}")).is_empty());
    let said = shell.ask(&format!("attach {id}"));
    assert_eq!(said[0], format!("[Inst {}] two words", &id[..8]));
    assert!(said[1].starts_with(&format!("[Inferlet {id}] Terminated. Reason: the inferlet was killed")));
    // Its events were taken, so it is not kept. It is listed until the runtime has given up what it had.
    let start = Instant::now();
    while !shell.ask("ps").is_empty() {
        assert!(start.elapsed() < Duration::from_secs(30), "it is still listed");
    }

    // Ctrl-C ends what runs in the foreground, and leaves one that is followed.
    shell.write("run test-programs -- spin");
    let id = launched(&[shell.read()]);
    shell.signal("INT");
    assert!(
        shell.read().starts_with(&format!("[Inferlet {id}] Terminated. Reason: the inferlet was killed"))
    );
    let id = launched(&shell.ask("run -d test-programs -- echo"));
    shell.write(&format!("attach {id}"));
    let seen = || text(&common::pie(home, &["ps", "--json", "--server", &url]).output().unwrap().stdout);
    let start = Instant::now();
    while !seen().contains("\"clients\":1") {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", seen());
        std::thread::sleep(Duration::from_millis(20));
    }
    // What has come is printed, though its line has no end.
    let sent =
        common::pie(home, &["shell", "--server", &url]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut sent = sent.expect("pie starts");
    writeln!(sent.stdin.take().expect("piped"), "send {id} 'no end'").expect("it reads");
    assert!(sent.wait().expect("it ends").success());
    std::thread::sleep(Duration::from_millis(500));
    shell.signal("INT");
    assert_eq!(shell.read(), format!("[Inst {}] no end", &id[..8]));
    assert!(shell.wait_for("ps", &id).iter().any(|line| line.contains("running")));
    assert!(shell.ask(&format!("kill {id}")).is_empty());

    // A file is uploaded, and a program installed, listed and removed.
    let file = common::guests("tests/programs").join("test_programs.wasm");
    let file = file.to_str().expect("UTF-8");
    assert_eq!(shell.ask(&format!("run '{file}' -- hello file"))[1][16..], *"Result: hello file");
    assert!(shell.ask(&format!("install '{file}' mine@1.0"))[0].starts_with("mine@1.0: hash "));
    shell.wait_for("programs", "mine@1.0");
    let help = shell.ask("run mine -- --help").join("\n");
    assert!(help.contains("Usage: pie run mine -- [OPTIONS] [<CASE>]"), "{help}");
    assert_eq!(shell.ask("remove mine@1.0"), ["removed mine@1.0"]);
    assert!(shell.ask("stats").iter().any(|line| line.contains("generated tokens")));

    // What is wrong is said among the answers, and the shell goes on.
    for (wrong, expected) in [
        ("run", "the following required arguments were not provided"),
        ("run nothing", "error: no program `nothing`; known are:"),
        ("kill 0000", "error: no single inferlet"),
        ("send 0000 hello", "error: no single inferlet"),
        ("run test-programs 'open", "error: the line ends within quotes"),
        ("serve http-server /hello", "error: unknown command `serve`"),
        ("kil 0000", "error: unknown command `kil` (is it `kill`?)"),
        ("help nothing", "error: unknown command `nothing`"),
        ("./exit", "error: unknown command `./exit`"),
    ] {
        let said = shell.ask(wrong).join("\n");
        assert!(said.contains(expected), "{wrong}: {said}");
    }
    assert!(shell.ask("# a comment").is_empty());

    shell.write("exit");
    let (status, said, errors) = shell.finish();
    // Of each `ask` its end has failed, too.
    assert_eq!((status.code(), said.as_str()), (Some(1), ""), "{errors}");
    assert!(errors.contains(&format!("{url} answers, as user `local`")), "{errors}");
    assert!(errors.contains("of the commands failed"), "{errors}");
}

#[test]
fn a_shell_whose_commands_succeed_succeeds_and_one_without_a_server_does_not() {
    let home = common::tiny_home("shell");
    let (server, url) = Process::server(home, &["serve", "--no-auth", "--port", "0", "--model", "test-tiny"]);
    let mut shell = Process::start(common::pie(home, &["shell", "--server", &url]));
    shell.write("run test-programs -- hello\nps");
    let (status, said, errors) = shell.finish();
    assert!(status.success() && said.contains("hello"), "{said}{errors}");
    // A program that fails has said so, and the shell that ran it tells by its exit code.
    let mut shell = Process::start(common::pie(home, &["shell", "--server", &url]));
    shell.write("run test-programs -- fail\nps");
    let (status, said, errors) = shell.finish();
    assert!(said.contains("Terminated. Reason: failed as asked"), "{said}");
    assert!(status.code() == Some(1) && errors.ends_with("error: 1 of the commands failed\n"), "{errors}");
    // Ctrl-C between two commands is for the shell.
    let mut shell = Process::start(common::pie(home, &["shell", "--server", &url]));
    assert!(shell.ask("help")[0].starts_with("Commands for a server"));
    shell.signal("INT");
    let start = Instant::now();
    // Before its input ends, which would end it too.
    while shell.child.try_wait().expect("it is there").is_none() {
        assert!(start.elapsed() < Duration::from_secs(30), "it still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (status, _, errors) = shell.finish();
    assert!(status.code() == Some(1) && errors.ends_with("error: interrupted\n"), "{errors}");
    drop(server);
    let (status, _, errors) = Process::start(common::pie(home, &["shell", "--server", &url])).finish();
    assert!(!status.success() && errors.contains("Start one with `pie serve`"), "{errors}");
}

/// The operator's shell needs no key, and sees the inferlets of all users.
#[test]
fn the_shell_of_a_server_sees_all_users_and_ends_their_inferlets() {
    let home = common::home("shell-keys");
    common::add_tiny_model(&home);
    let config = home.join("server.toml");
    std::fs::write(&config, "enable_auth = true\n[[backend]]\nmodel = 'test-tiny'\n").unwrap();
    let _ = std::fs::remove_file(home.join("keys.toml"));
    let made = common::pie(&home, &["key", "add", "ann"]).output().expect("pie runs");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let key = text(&made.stdout);
    let config = config.to_str().expect("UTF-8");
    let (mut server, url) = Process::server(&home, &["start", "--config", config, "--port", "0"]);
    let as_ann = |arguments: &[&str]| {
        let arguments = [arguments, &["--server", &url, "--key", key.trim()]].concat();
        common::pie(&home, &arguments)
    };
    let spins =
        as_ann(&["run", "--detach", "test-programs"]).args(["--", "spin"]).output().expect("pie runs");
    assert!(spins.status.success(), "{}", text(&spins.stderr));
    let spins = text(&spins.stdout).trim().to_string();

    assert!(server.ask("run test-programs -- hello")[1].contains("hello"), "without a key");
    let listed = server.wait_for("ps", &spins);
    let row = listed.iter().find(|line| line.contains(&spins)).expect("just found");
    assert!(listed[0].starts_with(" id ") && listed[0].contains(" user "), "{listed:?}");
    assert!(row.contains(" ann "), "{listed:?}");
    let object: serde_json::Value = serde_json::from_str(&server.ask("ps --json")[0]).expect("JSON");
    assert_eq!((&object["user"], &object["id"]), (&"ann".into(), &spins.as_str().into()));
    // Whoever has a key sees the own ones only.
    let mut shell = Process::start(as_ann(&["shell"]));
    let own = launched(&server.ask("run -d test-programs -- spin"));
    server.wait_for("ps", &own);
    let seen = shell.ask("ps").join("\n");
    assert!(seen.contains(&spins) && !seen.contains(&own), "{seen}");
    assert!(shell.ask(&format!("kill {own}"))[0].contains("no single inferlet"));
    assert!(shell.ask("stats")[0].contains("pie key add --admin"));

    assert!(server.ask(&format!("kill {spins}")).is_empty());
    shell.wait_for("ps", "ended");
    assert!(server.ask(&format!("kill {own}")).is_empty());
    server.wait_for("ps", " ended ");
    assert!(server.ask(&format!("kill {own}"))[0].contains("has ended; `attach` takes what it said"));
    // Ctrl-C is for what runs in the foreground, and the server goes on.
    server.write("run test-programs -- spin");
    let id = launched(&[server.read()]);
    server.signal("INT");
    assert!(
        server.read().starts_with(&format!("[Inferlet {id}] Terminated. Reason: the inferlet was killed"))
    );
    assert!(server.ask("kill ''")[0].contains("no single inferlet"), "the beginning of every id is none");
}

/// What runs in the foreground may finish when the server stops, and how it ended is printed.
#[test]
fn the_last_words_of_the_foreground_are_printed_when_the_server_stops() {
    let home = common::tiny_home("shell");
    let config = home.join("stops.toml");
    std::fs::write(&config, "shutdown_ms = 300\n[[backend]]\nmodel = 'test-tiny'\n").unwrap();
    let config = config.to_str().expect("UTF-8");
    let (mut server, _) = Process::server(home, &["start", "--no-auth", "--config", config, "--port", "0"]);
    server.write("run test-programs -- spin");
    let id = launched(&[server.read()]);
    let start = Instant::now();
    server.signal("TERM");
    let (status, said, errors) = server.finish();
    assert!(status.success() && start.elapsed() >= Duration::from_millis(300), "{errors}");
    assert!(
        said.starts_with(&format!("[Inferlet {id}] Terminated. Reason: the inferlet was killed")),
        "{said}"
    );
}

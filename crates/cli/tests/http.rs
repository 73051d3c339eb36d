//! HTTP in both directions: programs that answer requests, and programs that send them.

mod common;

use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use common::text;

fn pie(arguments: &[&str]) -> Command {
    common::pie(common::tiny_home("http"), arguments)
}

fn run(arguments: &[&str]) -> Output {
    pie(arguments).output().expect("pie runs")
}

/// A running `pie start`, whose shell can be asked.
struct Server {
    process: Child,
    shell: BufReader<std::process::ChildStdout>,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Server {
        Server::start_on("test-tiny", arguments)
    }

    fn start_on(model: &str, arguments: &[&str]) -> Server {
        Server::start_with(Stdio::piped(), &[&["--model", model], arguments].concat())
    }

    /// With a config file of this text, which names the tiny model.
    fn start_configured(config: &str, arguments: &[&str]) -> Server {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{config}\n[[backend]]\nmodel = 'test-tiny'\n")).unwrap();
        let path = file.path().to_str().unwrap();
        Server::start_with(Stdio::piped(), &[&["--config", path], arguments].concat())
    }

    fn start_with(stdin: Stdio, arguments: &[&str]) -> Server {
        let mut command = pie(&["start", "--no-auth", "--port", "0"]);
        command.args(arguments).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("pie starts");
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let address = common::address_of(&mut said);
        // What it says later must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let shell = BufReader::new(process.stdout.take().unwrap());
        Server { process, shell, address }
    }

    /// Gives the shell a line, and the lines that it answers.
    fn ask(&mut self, line: &str) -> Vec<String> {
        common::ask_shell(self.process.stdin.as_mut().unwrap(), &mut self.shell, line)
    }

    /// Fails when a context was left, which the shell's `stats` tell. The engine takes what an ended
    /// inferlet gives back between two steps, so it has ten seconds.
    fn has_no_contexts(&mut self) {
        let mut stats = Vec::new();
        for _ in 0..1000 {
            stats = self.ask("stats");
            let contexts =
                stats.iter().find(|line| line.starts_with(" contexts")).expect("a row of contexts");
            if contexts.split_whitespace().last() == Some("0") {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("contexts are left:\n{}", stats.join("\n"));
    }

    /// Sends the process a signal by its name.
    fn signal(&self, name: &str) {
        common::signal(&self.process, name);
    }

    /// Waits until the process has ended, at most so long.
    fn ends_within(&mut self, most: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < most, "pie still runs after {most:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until what runs is as expected; gives up after a minute.
    fn wait(&mut self, about: &str, expected: fn(&[String]) -> bool) {
        for _ in 0..6000 {
            if expected(&self.running()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{about}: {:?}", self.running());
    }

    /// The rows of the shell's `ps`.
    fn running(&mut self) -> Vec<String> {
        let mut lines = self.ask("ps");
        if !lines.is_empty() {
            let head = lines.remove(0);
            assert!(head.starts_with(" id "), "{head}");
        }
        lines
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Response {
    status: u16,
    head: String,
    body: Vec<u8>,
}

fn open(address: &str, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(stream, "{head}\r\nhost: {address}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")
        .unwrap();
    stream.write_all(body).unwrap();
    stream
}

/// Sends one request: its first line and further headers, and a body.
fn request(address: &str, head: &str, body: &[u8]) -> Response {
    answer_of(open(address, head, body))
}

/// The answer to the last request of a connection.
fn answer_of(mut stream: TcpStream) -> Response {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let head = text(&bytes[..end]).to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = match head.contains("transfer-encoding: chunked") {
        true => unchunk(&bytes[end + 4..]),
        false => bytes[end + 4..].to_vec(),
    };
    Response { status, head, body }
}

/// The bytes of a chunked body, which must end as one does.
fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let line = bytes.windows(2).position(|w| w == b"\r\n").expect("the size of a chunk");
        let size = usize::from_str_radix(&text(&bytes[..line]), 16).expect("a hexadecimal size");
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&bytes[line + 2..line + 2 + size]);
        bytes = &bytes[line + 2 + size + 2..];
    }
}

fn get(address: &str, path: &str) -> Response {
    request(address, &format!("GET {path} HTTP/1.1"), b"")
}

#[test]
fn a_program_answers_requests_below_its_path() {
    let server = Server::start(&["--serve", "/hello=http-server"]);
    let address = &server.address;
    let health = get(address, "/health");
    assert_eq!((health.status, text(&health.body).as_str()), (200, r#"{"status":"ok"}"#));
    for path in ["/hello", "/hello/"] {
        let answer = get(address, path);
        assert_eq!(
            (answer.status, text(&answer.body).as_str()),
            (200, "pie serves programs, not prompts.\n")
        );
    }
    let body: Vec<u8> = (0..1_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
    let echo = request(address, "POST /hello/echo HTTP/1.1", &body);
    assert!(echo.status == 200 && echo.body == body, "{} bytes came back", echo.body.len());
    let headers = request(address, "GET /hello/echo-headers HTTP/1.1\r\nx-mine: is this", b"");
    assert!(headers.head.contains("x-mine: is this"), "{}", headers.head);
    assert!(headers.head.contains("x-forwarded-prefix: /hello"), "{}", headers.head);

    let complete = || request(address, "POST /hello/complete HTTP/1.1", b"Once upon a time");
    let first = complete();
    assert!(first.status == 200 && !first.body.is_empty(), "{}", first.head);
    let at_once: Vec<Response> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(complete)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(at_once.iter().all(|answer| answer.body == first.body), "the same prompt, the same text");

    let unknown = get(address, "/hello/nothing");
    assert!(unknown.status == 404 && text(&unknown.body).contains("/echo-headers"));
    let elsewhere = get(address, "/helloo");
    let said = text(&elsewhere.body);
    assert!(
        elsewhere.status == 404
            && ["`/helloo`", " /hello,", " /health"].iter().all(|word| said.contains(word)),
        "{said}"
    );
}

#[test]
fn a_client_launches_programs_by_one_request() {
    let server = Server::start(&["--serve", "/launch=launch-server"]);
    let launch = |body: &str| request(&server.address, "POST /launch HTTP/1.1", body.as_bytes());
    for (body, status, said) in [
        (r#"{"program": "bench-spawn"}"#, 200, r#""result":"""#),
        (
            r#"{"program": "bench-spawn", "arguments": ["--launches=2", "--rounds=1"]}"#,
            200,
            r#"\"launches\":2"#,
        ),
        (r#"{"program": "bench-spawn", "arguments": ["--wrong"]}"#, 400, "unknown argument `--wrong`"),
        (r#"{"program": "no-such-program"}"#, 404, "no program `no-such-program`"),
        (r#"{"arguments": []}"#, 400, "`program`"),
    ] {
        let answer = launch(body);
        let found = text(&answer.body);
        assert!(answer.status == status && found.contains(said), "{body}: {} {found}", answer.status);
    }
}

#[test]
fn the_real_model_completes_what_is_posted() {
    let Some(model) = common::real_model() else { return };
    let server = Server::start_on(&model, &["--serve", "/=http-server"]);
    let answer = request(&server.address, "POST /complete HTTP/1.1", b"The capital of France is");
    assert!(text(&answer.body).contains("Paris"), "{}", text(&answer.body));
}

#[test]
fn a_request_is_an_inferlet_with_its_own_end() {
    let mut server = Server::start(&[]);
    let address = server.address.clone();
    assert_eq!(server.ask("serve test-programs /tests -- one two"), ["`test-programs` answers below /tests"]);
    assert!(server.ask("serve test-programs /tests")[0].contains("served already"));
    assert!(server.ask("serve test-programs tests")[0].contains("`tests` is not a path"));
    assert!(server.ask("serve test-programs /health")[0].contains("the server's own"));
    assert!(server.ask("serve text-completion /text")[0].contains("answers no HTTP requests"));
    assert!(server.ask("run http-server")[0].contains("has no `run`"));
    assert!(server.ask("services").contains(&"/tests  test-programs".to_string()));

    let about = get(&address, "/tests/a/b?c=d");
    assert_eq!(text(&about.body), r#"{"path":"/a/b","query":"c=d","arguments":["one","two"]}"#);
    let failed = get(&address, "/tests/fail");
    assert!(failed.status == 500 && text(&failed.body).contains("failed as asked"));
    let panicked = get(&address, "/tests/panic");
    // What a program writes to stderr is its operator's: it is in the log, beside the id that the answer
    // names.
    let said = text(&panicked.body);
    assert!(panicked.status == 500 && !said.contains("panicked as asked"), "{said}");
    assert!(said.contains("the server's log says why, of inferlet "), "{said}");

    // Who asked leaves: the inferlet ends, whether it spins or writes.
    for path in ["/tests/spin", "/tests/endless"] {
        let mut left = open(&address, &format!("GET {path} HTTP/1.1"), b"");
        if path.ends_with("endless") {
            assert!(left.read(&mut [0; 512]).unwrap() > 0, "its answer begins");
        }
        server.wait(path, |running| !running.is_empty());
        drop(left);
        server.wait(path, <[String]>::is_empty);
    }
    server.has_no_contexts();

    let own_port = server.ask("serve test-programs 0").join("");
    let (_, own_address) = own_port.split_once("http://").expect("an address");
    assert!(text(&get(own_address, "/health").body).contains(r#""path":"/health""#), "all paths are its own");

    assert!(server.ask("unserve /tests").is_empty());
    assert_eq!(get(&address, "/tests/a").status, 404);
    assert!(server.ask("unserve /tests")[0].contains("nothing is served"));
}

/// Answers so many requests with what they sent, and ends.
fn echo_server(requests: usize) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming().take(requests) {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let done = |bytes: &[u8]| match text(bytes).to_lowercase().contains("chunked") {
                true => bytes.ends_with(b"0\r\n\r\n"),
                false => bytes.windows(4).any(|w| w == b"\r\n\r\n"),
            };
            while !done(&bytes) {
                let mut part = [0; 4096];
                let count = stream.read(&mut part).unwrap();
                bytes.extend_from_slice(&part[..count]);
            }
            let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
            let body = match bytes.len() == end {
                true => b"you asked".to_vec(),
                false => unchunk(&bytes[end..]),
            };
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    (address, thread)
}

#[test]
fn requests_leave_only_for_hosts_that_are_allowed() {
    let (address, thread) = echo_server(2);
    let url = format!("http://{address}/a");
    let fetch = |flags: &[&str], case: &str| {
        let before = ["run", "test-programs", "--model", "test-tiny"];
        run(&[&before[..], flags, &["--", case, &url]].concat())
    };
    for flags in [&[][..], &["--allow-host", "example.com"], &["--allow-host", "127.0.0.1:1"]] {
        let denied = fetch(flags, "fetch");
        assert!(!denied.status.success());
        let said = text(&denied.stderr);
        assert!(said.contains("denied") && said.contains(&address), "{flags:?}: {said}");
    }
    let allowed = fetch(&["--allow-host", &address], "fetch");
    assert_eq!(text(&allowed.stdout).trim(), "200 you asked", "{}", text(&allowed.stderr));
    let uploaded = fetch(&["--allow-host", "127.0.0.1"], "upload");
    let expected: String = (0..100).map(|piece| format!("piece {piece}\n")).collect();
    assert_eq!(text(&uploaded.stdout).trim(), expected.trim(), "{}", text(&uploaded.stderr));
    thread.join().unwrap();
    let refused = fetch(&["--allow-host", "*"], "fetch");
    assert!(text(&refused.stderr).contains("failed"), "{}", text(&refused.stderr));
    let wrong = fetch(&["--allow-host", "http://x"], "fetch");
    assert!(text(&wrong.stderr).contains("`http://x` is not a host"), "{}", text(&wrong.stderr));
}

#[test]
fn the_server_lives_on_without_stdin_and_stops_on_a_signal() {
    for signal in ["TERM", "INT"] {
        let arguments = ["--model", "test-tiny", "--serve", "/tests=test-programs"];
        let mut server = Server::start_with(Stdio::null(), &arguments);
        let address = server.address.clone();
        // It has seen the end of its input long ago.
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(get(&address, "/health").status, 200);
        // A request that ends in time is answered whole, and one that comes meanwhile finds no port.
        let slow = open(&address, "GET /tests/sleep?1500 HTTP/1.1", b"");
        std::thread::sleep(Duration::from_millis(300));
        server.signal(signal);
        std::thread::sleep(Duration::from_millis(300));
        assert!(TcpStream::connect(&address).is_err(), "the port is closed");
        assert_eq!(text(&answer_of(slow).body), "slept 1500");
        assert_eq!(server.ends_within(Duration::from_secs(8)).code(), Some(0), "after {signal}");
    }
}

/// The end of a chunked body says that it is whole; an answer that is cut off does not have it.
#[test]
fn an_answer_whose_program_is_killed_or_fails_does_not_look_whole() {
    let mut server = Server::start(&["--serve", "/tests=test-programs"]);
    let mut endless = open(&server.address, "GET /tests/endless HTTP/1.1", b"");
    assert!(endless.read(&mut [0; 512]).unwrap() > 0, "its answer begins");
    let running = server.running();
    let id = running[0].split_whitespace().next().unwrap().to_string();
    // What was written comes, and then nothing.
    let reader = std::thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = endless.read_to_end(&mut rest);
        rest
    });
    assert!(server.ask(&format!("kill {id}")).is_empty());
    assert!(!reader.join().unwrap().ends_with(b"0\r\n\r\n"), "as if it were whole");

    let mut fails = open(&server.address, "GET /tests/breaks-off HTTP/1.1", b"");
    let mut answer = Vec::new();
    let _ = fails.read_to_end(&mut answer);
    let answer = text(&answer);
    assert!(answer.contains("some of it") && !answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[test]
fn what_does_not_end_in_time_is_ended_when_the_server_stops() {
    let mut server = Server::start_configured("shutdown_ms = 500", &["--serve", "/tests=test-programs"]);
    let mut endless = open(&server.address, "GET /tests/endless HTTP/1.1", b"");
    assert!(endless.read(&mut [0; 512]).unwrap() > 0, "its answer begins");
    let spinning = open(&server.address, "GET /tests/spin HTTP/1.1", b"");
    server.wait("both run", |running| running.len() == 2);
    server.signal("TERM");
    let start = Instant::now();
    assert_eq!(server.ends_within(Duration::from_secs(8)).code(), Some(0));
    assert!(start.elapsed() >= Duration::from_millis(500), "they had their time: {:?}", start.elapsed());
    drop((endless, spinning));
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let mut server = Server::start_configured("shutdown_ms = 600000", &["--serve", "/tests=test-programs"]);
    let spinning = open(&server.address, "GET /tests/spin HTTP/1.1", b"");
    server.wait("it runs", |running| running.len() == 1);
    server.signal("TERM");
    // Until it has seen the first.
    while TcpStream::connect(&server.address).is_ok() {
        std::thread::sleep(Duration::from_millis(10));
    }
    server.signal("TERM");
    assert_eq!(server.ends_within(Duration::from_secs(8)).code(), Some(128 + 15));
    drop(spinning);
}

#[test]
fn a_program_goes_on_after_its_answer_however_the_answer_ends() {
    let mut server = Server::start(&["--serve", "/tests=test-programs"]);
    let address = server.address.clone();
    // With a length, without one, and without a body since nobody asked for it.
    for (request_line, key) in [
        ("GET /tests/after HTTP/1.1", "after"),
        ("GET /tests/after-nothing HTTP/1.1", "after-nothing"),
        ("HEAD /tests/after HTTP/1.1", "after"),
    ] {
        let answer = request(&address, request_line, b"");
        let has_length = answer.head.contains("content-length: ");
        assert!(answer.status == 200 && has_length == (key == "after"), "{}", answer.head);
        server.wait(request_line, <[String]>::is_empty);
        let left = get(&address, &format!("/tests/left?{key}"));
        assert_eq!(text(&left.body), "true", "{request_line}: its program was ended at its answer");
    }
    // In the middle of its answer as well, when it is detached.
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /tests/detached HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    drop(stream);
    server.wait("detached", <[String]>::is_empty);
    let left = get(&address, "/tests/left?detached");
    assert_eq!(text(&left.body), "true", "its program was ended with its client");
}

#[test]
fn clients_that_take_too_long_are_answered_and_leave_nothing() {
    let config = "[http]\nhead_ms = 400\nbody_ms = 400\nfirst_byte_ms = 1500\nwrite_ms = 400";
    let mut server = Server::start_configured(config, &["--serve", "/tests=test-programs"]);
    let address = server.address.clone();
    let begin = |head: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let head = answer_of(begin("GET /tests/a HTTP/1.1\r\nhost: "));
    assert!(head.status == 408 && head.head.contains("connection: close"), "{}", head.head);

    let body = "POST /tests/read HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nten bytes.";
    let stalled = answer_of(begin(body));
    assert!(stalled.status == 408 && text(&stalled.body).contains("400ms"), "{}", text(&stalled.body));
    // A byte now and then is no progress either.
    let mut slow = begin(body);
    let trickle = {
        let mut slow = slow.try_clone().unwrap();
        std::thread::spawn(move || {
            for _ in 0..50 {
                if slow.write_all(b".").is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        })
    };
    let mut answer = [0; 12];
    slow.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    drop(slow);
    trickle.join().unwrap();
    // One that is only slow is read to its end.
    let mut fair = begin(
        "POST /tests/read HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 10240\r\n\r\n",
    );
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        fair.write_all(&[b'a'; 1024]).unwrap();
    }
    assert_eq!(text(&answer_of(fair).body), "10240 bytes");

    let late = get(&address, "/tests/spin");
    assert!(late.status == 504 && text(&late.body).contains("1.5s"), "{}", text(&late.body));

    // One that reads nothing of an answer without end holds its inferlet no longer than that.
    let unread = open(&address, "GET /tests/endless HTTP/1.1", b"");
    server.wait("its inferlet runs", |running| running.len() == 1);
    server.wait("its inferlet ends", <[String]>::is_empty);
    drop(unread);
    server.has_no_contexts();
}

#[test]
fn one_address_has_so_many_connections() {
    let server = Server::start_configured("[http]\nconnections_per_address = 3", &[]);
    let held: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    let refused = answer_of(TcpStream::connect(&server.address).unwrap());
    assert_eq!(refused.status, 429);
    drop(held);
}

/// Random numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        // Numbers of a linear congruential generator (Knuth); the high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }
}

/// A request with some of its bytes changed, taken away, doubled or cut off.
fn damaged(random: &mut Random, request: &[u8]) -> Vec<u8> {
    const PIECES: [&[u8]; 12] = [
        b"\r\n",
        b"\r\n\r\n",
        b"\0",
        b" ",
        b"content-length: 99999999999999999999\r\n",
        b"content-length: 4\r\n",
        b"transfer-encoding: chunked\r\n",
        b"ffffffffffffffff\r\n",
        b"0\r\n\r\n",
        b"expect: 100-continue\r\n",
        b"upgrade: h2c\r\n",
        b"\xff\xfe%00%2e%2e/",
    ];
    let mut bytes = request.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len().max(1)).min(bytes.len());
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            3 => {
                let piece = PIECES[random.below(PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            4 => {
                let end = (at + random.below(40)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let long = vec![b'a'; random.below(20_000)];
                bytes.splice(at..at, long);
            }
        }
    }
    bytes
}

/// Sends damaged requests, `count` of them or for so many seconds as `PIE_FUZZ_SECONDS` says, and what each
/// leaves is nothing: the server answers the next as before.
#[test]
#[expect(clippy::print_stdout, reason = "the count is the result of a long run")]
fn damaged_requests_harm_nobody() {
    const REQUESTS: [&[u8]; 4] = [
        b"GET /tests/a/b?c=d HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n",
        b"POST /tests/read HTTP/1.1\r\nhost: localhost\r\ncontent-length: 11\r\n\r\nhello world",
        b"POST /tests/read HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /tests/fail HTTP/1.1\r\nhost: localhost\r\n\r\nGET /health HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ];
    let seconds = std::env::var("PIE_FUZZ_SECONDS").ok().map(|text| text.parse().expect("seconds"));
    let count = if seconds.is_some() { usize::MAX } else { 3000 };
    let limit = Duration::from_secs(seconds.unwrap_or(120));
    let mut server = Server::start(&["--serve", "/tests=test-programs"]);
    let address = server.address.clone();
    let start = Instant::now();
    let sent: usize = std::thread::scope(|scope| {
        let attack = |seed: u64| {
            let address = &address;
            move || {
                let mut random = Random(seed);
                let mut sent = 0;
                while sent < count / 4 && start.elapsed() < limit {
                    let request = REQUESTS[random.below(REQUESTS.len())];
                    let bytes = damaged(&mut random, request);
                    let mut stream = TcpStream::connect(address).expect("the server takes connections");
                    // It may end the connection at the first bytes it does not like.
                    let _ = stream.write_all(&bytes);
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    let mut answer = Vec::new();
                    let ended = stream.read_to_end(&mut answer);
                    let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
                    let shown = String::from_utf8_lossy(&bytes);
                    assert!(!timed_out, "seed {seed}, request {sent}: no end of the answer to {shown:?}");
                    assert!(
                        answer.is_empty() || answer.starts_with(b"HTTP/1."),
                        "seed {seed}, request {sent}"
                    );
                    sent += 1;
                }
                sent
            }
        };
        let threads: Vec<_> = (1..=4).map(|seed| scope.spawn(attack(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    // The test's output is shown with `--nocapture`.
    println!("{sent} damaged requests in {:.0?}", start.elapsed());
    assert!(sent >= 1000 || seconds.is_some(), "only {sent} requests in {limit:?}");
    server.wait("all have ended", <[String]>::is_empty);
    let about = get(&address, "/tests/a/b?c=d");
    assert_eq!(text(&about.body), r#"{"path":"/a/b","query":"c=d","arguments":[]}"#);
    assert_eq!(get(&address, "/health").status, 200);
    server.has_no_contexts();
}

#[test]
fn documents_are_ranked_and_texts_go_on() {
    let server = Server::start(&[]);
    let post = |path: &str, body: &str| {
        let answer = request(&server.address, &format!("POST {path} HTTP/1.1"), body.as_bytes());
        (answer.status, text(&answer.body))
    };
    let (status, ranked) = post("/rerank", r#"{"query": "a", "documents": ["b", "c", "d"], "top_n": 2}"#);
    assert!(status == 200 && ranked.matches("relevance_score").count() == 2, "{ranked}");
    let (status, scored) = post("/score", r#"{"text_1": "a", "text_2": ["b", "c", "d"]}"#);
    assert!(status == 200 && scored.matches(r#""object":"score""#).count() == 3, "{scored}");
    // The routes of one program give one score.
    let score = ranked.split("relevance_score\":").nth(1).unwrap().split(',').next().unwrap();
    assert!(scored.contains(&format!(r#""score":{score}"#)), "{score} is not in {scored}");
    let (status, written) = post("/v1/generate", r#"{"prompt": "a", "max_tokens": 3, "ignore_eos": true}"#);
    assert!(status == 200 && written.contains(r#""completion_tokens":3"#), "{written}");
    let (status, refused) = post("/infill", r#"{"input_prefix": "a"}"#);
    assert!(status == 400 && refused.contains("was not trained to fill in"), "{refused}");
    for path in ["/v1/rerank", "/v2/rerank", "/v1/score"] {
        let (status, refused) = post(path, "{}");
        assert!(status == 400 && refused.contains("is missing"), "{path}: {refused}");
    }
}

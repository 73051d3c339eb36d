//! Launches of programs over sessions, against a scripted server of the protocol.

mod common;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bench::client::api::{Api, Launch};
use bench::client::{Abandon, ClientOptions, Run};
use bench::dataset::{Prompt, Sample};
use bench::metrics::{Distribution, Summary, SummaryOptions};
use bench::record::{ErrorClass, Outcome};
use bench::workload::{Limit, Plan};
use common::{plan, run, within};
use protocol::socket::{Incoming, accept, accept_key};
use protocol::{
    Answer, Call, ClientMessage, ErrorCode, Event, Failure, Framing, Limits, ServerMessage, decode, encode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// What a program sends, and when: its first event, and the others.
const FIRST: Duration = Duration::from_millis(120);
const GAP: Duration = Duration::from_millis(40);
const EVENTS: u64 = 5;

/// What the server saw.
#[derive(Default)]
struct Log {
    /// When it sent each event with a token, by the first argument of the program.
    sent: HashMap<String, Vec<Instant>>,
    arguments: Vec<Vec<String>>,
    sessions: usize,
    terminated: Vec<String>,
    closed: usize,
}

type Shared = Arc<Mutex<Log>>;

/// A server whose programs are named for what they do.
fn server() -> (SocketAddr, Shared) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, log) = (listener.local_addr().expect("an address"), Shared::default());
    let shared = log.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(session(stream, shared.clone()));
            }
        });
    });
    (address, log)
}

async fn session(mut stream: TcpStream, log: Shared) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request"));
    }
    let head = String::from_utf8(head).expect("text");
    assert!(head.starts_with("GET /v1/session "), "{head}");
    let lines: Vec<(&str, &str)> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let key = lines.iter().find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).expect("a key").1;
    let accepted = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
        accept_key(key.as_bytes())
    );
    stream.write_all(accepted.as_bytes()).await.expect("a client");
    let (mut reader, mut writer) = accept(stream, &[], 1 << 20).await;
    let (messages, mut to_send) = unbounded_channel::<Option<ServerMessage>>();
    let mut writing = tokio::spawn(async move {
        while let Some(Some(message)) = to_send.recv().await {
            if writer.feed(encode(&message, Framing::MessagePack)).await.is_err()
                || writer.flush().await.is_err()
            {
                return;
            }
        }
    });
    loop {
        let next = tokio::select! {
            next = reader.next() => next,
            // The connection is cut without a word.
            _ = &mut writing => return,
        };
        let frame = match next {
            Ok(Incoming::Frame(frame)) => frame,
            Ok(Incoming::Alive) => continue,
            Ok(Incoming::Close(_)) => {
                log.lock().expect("a log").closed += 1;
                return;
            }
            Err(_) => return,
        };
        match decode::<ClientMessage>(&frame).expect("a message") {
            ClientMessage::Hello { .. } => {
                let number = {
                    let mut log = log.lock().expect("a log");
                    log.sessions += 1;
                    log.sessions
                };
                let limits = Limits {
                    message_bytes: Limits::MESSAGE_BYTES,
                    requests: Limits::REQUESTS,
                    request_bytes: Limits::REQUEST_BYTES,
                    chunk_bytes: Limits::CHUNK_BYTES,
                    lease_ms: 1000,
                    ping_ms: 30_000,
                };
                let (session, user) = (format!("session-{number}"), "user".into());
                let welcome = ServerMessage::Welcome {
                    version: 1,
                    server: "scripted".into(),
                    session,
                    resumed: false,
                    user,
                    limits,
                };
                messages.send(Some(welcome)).expect("a writer");
            }
            ClientMessage::Request { request, call: Call::Launch { program, arguments, .. } } => {
                log.lock().expect("a log").arguments.push(arguments.clone());
                let inferlet = format!("{program}-{request}");
                if program == "refused" {
                    let error = Failure::new(ErrorCode::UnknownProgram, "there is no such program");
                    messages.send(Some(ServerMessage::Error { request, error })).expect("a writer");
                    continue;
                }
                let answer = Answer::Launched { inferlet: inferlet.clone() };
                messages.send(Some(ServerMessage::Answer { request, answer })).expect("a writer");
                tokio::spawn(act(program, inferlet, arguments, messages.clone(), log.clone()));
            }
            ClientMessage::Request { request, call: Call::Terminate { inferlet } } => {
                log.lock().expect("a log").terminated.push(inferlet);
                messages
                    .send(Some(ServerMessage::Answer { request, answer: Answer::Done }))
                    .expect("a writer");
            }
            ClientMessage::Acknowledge { .. } => {}
            other => panic!("{other:?} is no message of this test"),
        }
    }
}

/// What a program does.
async fn act(
    program: String,
    inferlet: String,
    arguments: Vec<String>,
    messages: UnboundedSender<Option<ServerMessage>>,
    log: Shared,
) {
    let mut number = 0;
    let mut event = |event| {
        number += 1;
        let inferlet = inferlet.clone();
        // The client may be gone.
        let _ = messages.send(Some(ServerMessage::Event { inferlet, number, event }));
    };
    let text = |text: &str| Event::Text { text: text.into() };
    match program.as_str() {
        "steady" => {
            let start = Instant::now();
            event(Event::Stderr { data: protocol::Data(b"begins".to_vec()) });
            for step in 0..EVENTS {
                tokio::time::sleep_until((start + FIRST + GAP * step as u32).into()).await;
                let mut log = log.lock().expect("a log");
                log.sent.entry(arguments[0].clone()).or_default().push(Instant::now());
                event(match step {
                    1 => Event::Stdout { data: protocol::Data(b"b".to_vec()) },
                    _ => text("a"),
                });
            }
            event(Event::Result { text: "done".into() });
        }
        "fails" => event(Event::Error { error: Failure::new(ErrorCode::ProgramFailed, "it failed") }),
        "result" => event(Event::Result { text: "whole".into() }),
        "stalls" => event(text("a")),
        "silent" => {}
        "cuts" => {
            event(text("a"));
            let _ = messages.send(None);
        }
        other => panic!("no program `{other}`"),
    }
}

fn launching(address: SocketAddr, program: &str) -> ClientOptions {
    let arguments = vec!["{prompt}".into(), "--max-tokens={max_tokens}".into()];
    let launch = Launch { program: program.into(), arguments };
    let mut options =
        ClientOptions::new(format!("http://{address}").parse().expect("an address"), Api::Program(launch));
    (options.keep_text, options.threads) = (true, Some(1));
    options
}

fn closed(count: usize, users: usize) -> Plan {
    let sample = |number: usize| Sample::new(Prompt::Text(format!("prompt {number}")), 2, 7);
    plan((0..count).map(sample).collect(), &format!("closed:users={users},think=0"), Limit::NONE)
}

fn classes(run: &Run) -> Vec<Option<ErrorClass>> {
    run.records.iter().map(|record| record.failure().map(|failure| failure.class)).collect()
}

#[test]
fn every_figure_of_a_program_is_what_the_server_did() {
    within(0.01, || {
        let (address, log) = server();
        let run = run(closed(12, 4), launching(address, "steady"));
        let log = log.lock().expect("a log");
        assert_eq!((log.sessions, run.used.connections), (1, 1), "one session of a worker");
        assert!(
            log.terminated.is_empty()
                && log.arguments.contains(&vec!["prompt 3".into(), "--max-tokens=7".into()])
        );
        let (mut ttft, mut itl) = (Vec::new(), Vec::new());
        for (number, record) in run.records.iter().enumerate() {
            assert_eq!(record.outcome, Outcome::Completed);
            assert_eq!((record.chunks.len(), record.text.as_str()), (EVENTS as usize, "abaaa"));
            assert_eq!((record.output_tokens(), record.finish_reason.as_deref()), (5, Some("result")));
            let sent = &log.sent[&format!("prompt {number}")];
            for (seen, sent) in record.chunks.iter().zip(sent) {
                assert!(run.clock.instant(seen.at) >= *sent);
            }
            ttft.push((sent[0] - run.clock.instant(record.service_start())).as_secs_f64());
            itl.extend(sent.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()));
        }
        let summary = Summary::new(&run, &SummaryOptions::default());
        let off = |name: &str, truth: Vec<f64>| {
            let truth = Distribution::new(truth).median().expect("values");
            let found = summary.figure(name).and_then(|figure| figure.median()).expect("a figure");
            (found - truth).abs() / truth
        };
        off("ttft", ttft).max(off("itl", itl))
    });
}

#[test]
fn failures_of_programs_and_sessions_are_classes_of_their_own() {
    let (address, log) = server();
    let found = |program: &str| classes(&run(closed(2, 1), launching(address, program)));
    assert_eq!(found("fails"), [Some(ErrorClass::ServerError); 2]);
    assert_eq!(found("refused"), [Some(ErrorClass::Status); 2]);
    let before = log.lock().expect("a log").sessions;
    assert_eq!(found("cuts"), [Some(ErrorClass::Reset); 2]);
    assert!(log.lock().expect("a log").sessions >= before + 2, "each has a session of its own");
    let whole = run(closed(1, 1), launching(address, "result"));
    assert_eq!((whole.records[0].completed(), whole.records[0].text.as_str()), (true, "whole"));
    assert_eq!((whole.records[0].chunks.len(), whole.records[0].first_token), (0, None));
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    assert_eq!(classes(&run(closed(1, 1), launching(nobody, "steady"))), [Some(ErrorClass::Connect)]);
}

#[test]
fn a_program_that_is_given_up_is_ended() {
    for (program, timeouts, class) in [
        ("silent", [Some(50), None, None], Some(ErrorClass::FirstByteTimeout)),
        ("stalls", [None, Some(50), None], Some(ErrorClass::Stalled)),
        ("silent", [None, None, Some(50)], Some(ErrorClass::Timeout)),
        ("stalls", [None, None, None], None),
    ] {
        let (address, log) = server();
        let mut options = launching(address, program);
        let [first, stall, total] = timeouts.map(|millis| millis.map(Duration::from_millis));
        (options.timeouts.first_byte, options.timeouts.stall) = (first, stall);
        options.timeouts.total = total.or(options.timeouts.total);
        if class.is_none() {
            options.abandon = Some(Abandon { share: 1.0, after: Duration::from_millis(50) });
        }
        let run = run(closed(3, 3), options);
        assert_eq!(classes(&run), [class; 3], "{program}");
        if class.is_none() {
            assert!(run.records.iter().all(|record| record.outcome == Outcome::Cancelled));
        }
        // The session was closed behind them, in order.
        let start = Instant::now();
        while log.lock().expect("a log").closed == 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "the session was not closed");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(log.lock().expect("a log").terminated.len(), 3, "{program}");
    }
}

//! Sessions as a client meets them: programs, messages, lost connections, slow clients, and what is left of all of it.

mod common;

use std::time::Duration;

use common::proxy::{Cut, Proxy};
use common::raw::{self, Raw};
use common::{World, words};
use futures::future::try_join_all;
use protocol::client::{Client, ClientError, Options};
use protocol::{ErrorCode, Event, ProgramSource, State};
use serde_json::json;
use server::{FrontOptions, SessionCounts, SessionOptions};

fn quick() -> SessionOptions {
    SessionOptions { lease: Duration::from_millis(300), ..SessionOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_uploaded_named_launched_and_talked_to() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::with(SessionOptions::default(), FrontOptions::default(), Some(folder.path())).await;
    let client = world.client().await;
    assert_eq!((client.user(), client.limits().requests), ("local", 1024));
    let wasm = world.marked(7);
    let mut seen = Vec::new();
    let hash = client.upload(&wasm, |done, total| seen.push((done, total))).await.unwrap();
    assert_eq!(
        (seen[0], seen[seen.len() - 1]),
        ((0, wasm.len() as u64), (wasm.len() as u64, wasm.len() as u64))
    );
    assert!(seen.len() > 2, "in parts: {seen:?}");
    assert_eq!(client.upload(&wasm, |_, _| ()).await.unwrap(), hash, "the second time it is there");
    client.install(&hash, "mine@1.2").await.unwrap();
    let programs = client.programs().await.unwrap();
    let named = |name: &str| programs.iter().find(|p| p.name.as_deref() == Some(name)).map(|p| p.source);
    assert_eq!(
        (named("mine@1.2"), named("test-programs")),
        (Some(ProgramSource::User), Some(ProgramSource::Server))
    );

    for program in ["mine", "mine@1.2", &hash, "test-programs"] {
        let mut inferlet = client.launch(program, &words(&["echo"])).await.unwrap();
        let listed = client.list().await.unwrap();
        assert_eq!((listed.len(), listed[0].id.as_str(), listed[0].clients), (1, inferlet.id(), 1));
        for text in ["one", "two"] {
            inferlet.send(text).await.unwrap();
            let next = inferlet.next().await.unwrap().unwrap();
            assert_eq!(next.event, Event::Text { text: text.into() });
        }
        let all: Vec<u8> = (0..=255).collect();
        inferlet.send("end").await.unwrap();
        inferlet.send_blob(all.clone()).await.unwrap();
        let mut events = Vec::new();
        while let Some(next) = inferlet.next().await.unwrap() {
            events.push((next.number, next.event));
        }
        let expected = [
            Event::Blob { data: all.into() },
            Event::Stdout { data: b"to stdout\n".to_vec().into() },
            Event::Stderr { data: b"to stderr\n".to_vec().into() },
            Event::Result { text: String::new() },
        ];
        assert_eq!(events, (3..).zip(expected).collect::<Vec<_>>(), "{program}");
        // Its log is gone with its last event, and it is off the list a moment later.
        let late = inferlet.send("late").await.unwrap_err();
        let expected = [ErrorCode::UnknownInferlet, ErrorCode::Ended, ErrorCode::NotAttachable];
        assert!(late.code().is_some_and(|code| expected.contains(&code)), "{late}");
        nothing_runs(&client).await.unwrap();
    }
    client.remove(&hash).await.unwrap();
    let gone = client.launch("mine@1.2", &[]).await.err().unwrap();
    assert_eq!(gone.code(), Some(ErrorCode::UnknownProgram), "{gone}");
    let usage = client.usage().await.unwrap();
    assert_eq!((usage.programs.used, usage.program_bytes.used, usage.host_memory_bytes.used), (0, 0, 0));
    client.close().await;
    world.assert_clean().await;
}

/// Waits until the user of a client has no inferlet. What has ended is off the list a moment after its last event.
async fn nothing_runs(client: &Client) -> Result<(), ClientError> {
    for _ in 0..3000 {
        if client.list().await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("something runs: {:?}", client.list().await?);
}

/// Talks with an inferlet: everything comes once and in order.
async fn talk(options: Options) -> Result<(), ClientError> {
    let client = Client::connect(options).await?;
    let mut inferlet = client.launch("test-programs", &words(&["echo"])).await?;
    for text in ["one", "two", "three"] {
        inferlet.send(text).await?;
    }
    let mut numbers = Vec::new();
    let mut said = Vec::new();
    let mut take = |next: Option<protocol::Numbered>| {
        let next = next.expect("it has not ended");
        numbers.push(next.number);
        said.push(next.event);
    };
    take(inferlet.next().await?);
    inferlet.send("end").await?;
    inferlet.send_blob(vec![1, 2, 3]).await?;
    for _ in 0..6 {
        take(inferlet.next().await?);
    }
    let text = |text: &str| Event::Text { text: text.into() };
    let expected = [
        text("one"),
        text("two"),
        text("three"),
        Event::Blob { data: vec![1, 2, 3].into() },
        Event::Stdout { data: b"to stdout\n".to_vec().into() },
        Event::Stderr { data: b"to stderr\n".to_vec().into() },
        Event::Result { text: String::new() },
    ];
    assert_eq!(said, expected);
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
    // Launched twice, one would wait for its messages.
    nothing_runs(&client).await?;
    client.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_at_every_message_nothing_is_lost_and_nothing_comes_twice() {
    let world = World::with_sessions(SessionOptions { lease: Duration::from_secs(20), ..quick() }).await;
    for cut in [Cut::Before, Cut::Within, Cut::After] {
        let mut at = 1;
        loop {
            let proxy = Proxy::start(world.address, at, cut).await;
            let talked = talk(Options::new(format!("http://{}", proxy.address))).await;
            let case = format!("cut {cut:?} message {at}");
            match talked {
                Ok(()) => {}
                // There is no session yet that could be resumed.
                Err(ClientError::Connect { .. }) if at <= 2 && proxy.has_cut() => {}
                Err(error) => panic!("{case}: {error}"),
            }
            if !proxy.has_cut() {
                break;
            }
            at += 1;
        }
        assert!(at > 15, "{cut:?}: only {at} messages");
    }
    // What a lost `welcome` left, and closes that did not arrive, the lease ends.
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_lost_connections_lose_nothing() {
    let world = World::new().await;
    let client = world.client().await;
    let mut inferlet = client.launch("test-programs", &words(&["echo"])).await.unwrap();
    for turn in 0..500u64 {
        let text = turn.to_string();
        // Before the message, behind it, or behind its answer.
        if turn % 3 == 0 {
            client.interrupt();
        }
        let sent = inferlet.send(text.clone());
        let cut = async {
            if turn % 3 == 1 {
                client.interrupt();
            }
        };
        futures::join!(async { sent.await.unwrap() }, cut);
        if turn % 3 == 2 {
            client.interrupt();
        }
        let next = inferlet.next().await.unwrap().unwrap();
        assert_eq!((next.number, next.event), (turn + 1, Event::Text { text }));
        assert!(world.front.session_counts().sessions == 1, "{:?}", world.front.session_counts());
    }
    inferlet.send("end").await.unwrap();
    inferlet.send_blob(Vec::new()).await.unwrap();
    assert_eq!(inferlet.outcome().await.unwrap(), Ok(String::new()));
    client.close().await;
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_holds_up_its_program_and_fills_no_memory() {
    let options = SessionOptions { log_events: 8, log_bytes: 1 << 20, user_log_bytes: 4 << 20, ..quick() };
    let world = World::with_sessions(options).await;
    let (mut silent, _) = Raw::session(world.address, "", None).await;
    let launch = json!({ "type": "launch", "program": "test-programs", "arguments": ["flood"] });
    for request in 1..=4 {
        silent.call(request, launch.clone()).await;
    }
    let client = world.client().await;
    world
        .until("all wait", async || {
            let list = client.list().await.unwrap();
            list.len() == 4 && world.front.session_counts().event_bytes >= 4 * 7 * (64 << 10)
        })
        .await;
    // It stays so: what is kept is bounded, and the programs go on when somebody takes it.
    for _ in 0..20 {
        let kept = world.front.session_counts().event_bytes;
        assert!(kept <= 4 << 20, "{kept} bytes");
        assert_eq!(client.list().await.unwrap().len(), 4);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Another client of the same user takes all of one, which so comes to its own limit.
    let id = client.list().await.unwrap()[0].id.clone();
    client.terminate(&id).await.unwrap();
    world
        .until("it is ended", async || {
            client.list().await.unwrap().iter().any(|listed| listed.id == id && listed.state == State::Ended)
        })
        .await;
    client.close().await;
    drop(silent);
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_spins_is_terminated() {
    let world = World::new().await;
    let client = world.client().await;
    let mut inferlet = client.launch("test-programs", &words(&["spin"])).await.unwrap();
    inferlet.terminate().await.unwrap();
    let ended = inferlet.outcome().await.unwrap().unwrap_err();
    assert_eq!(ended.code, ErrorCode::Killed);
    client.close().await;
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inferlets_end_as_their_programs_do() {
    let world = World::new().await;
    let client = world.client().await;
    for (case, code, said) in [
        ("fail", ErrorCode::ProgramFailed, "failed as asked"),
        ("panic", ErrorCode::Trapped, "panicked as asked"),
        ("allocate", ErrorCode::MemoryLimit, "memory"),
    ] {
        let mut inferlet = client.launch("test-programs", &words(&[case])).await.unwrap();
        let error = inferlet.outcome().await.unwrap().unwrap_err();
        assert!(error.code == code && error.message.contains(said), "{case}: {error:?}");
    }
    client.close().await;
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_of_one_inferlet_each_get_all_of_it() {
    let world = World::with_sessions(SessionOptions { log_events: 16, ..quick() }).await;
    let (one, two) = (world.client().await, world.client().await);
    let mut of_one = one.launch("test-programs", &words(&["echo"])).await.unwrap();
    let mut of_two = two.attach(&of_one.id()[..13], None).await.unwrap();
    assert_eq!(of_two.id(), of_one.id());
    let all = async |inferlet: &mut protocol::client::Inferlet, client: &Client| {
        let mut events = Vec::new();
        while let Some(next) = inferlet.next().await.unwrap() {
            assert_eq!(next.number, events.len() as u64 + 1);
            if next.number % 50 == 0 {
                client.interrupt();
            }
            events.push(next.event);
        }
        events
    };
    let sends = tokio::spawn({
        let (a, b) = (of_one.sender(), of_two.sender());
        async move {
            for turn in 0..200 {
                let sender = if turn % 2 == 0 { &a } else { &b };
                sender.send(turn.to_string()).await.unwrap();
            }
            a.send("end").await.unwrap();
            b.send_blob(vec![7]).await.unwrap();
        }
    });
    // At once: with a log of 16 events neither comes further than that without the other.
    let (first, second) = futures::join!(all(&mut of_one, &one), all(&mut of_two, &two));
    sends.await.unwrap();
    assert_eq!(first, second);
    let texts = first.iter().filter(|event| matches!(event, Event::Text { .. })).count();
    assert_eq!((texts, first.len()), (200, 204));
    one.close().await;
    two.close().await;
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_session_an_inferlet_ends_unless_it_is_detached() {
    let world = World::with_sessions(quick()).await;
    let (mut lost, welcome) = Raw::session(world.address, "", None).await;
    let launch = json!({ "type": "launch", "program": "test-programs", "arguments": ["echo"] });
    lost.call(1, launch).await;
    lost.answer(1).await;
    drop(lost);
    // Nobody comes back in time.
    world.assert_clean().await;
    let (late, again) = Raw::session(world.address, "", welcome["session"].as_str()).await;
    assert_eq!(again["resumed"], false);
    drop(late);

    let client = world.client().await;
    let id = client.launch_detached("test-programs", &words(&["echo"])).await.unwrap();
    client.close().await;
    let other = world.client().await;
    let mut inferlet = other.attach(&id, None).await.unwrap();
    inferlet.send("still here").await.unwrap();
    assert_eq!(inferlet.next().await.unwrap().unwrap().number, 1);
    inferlet.detach().await.unwrap();
    other.close().await;

    let third = world.client().await;
    // Nothing was acknowledged of the first event; looking at it takes nothing.
    for _ in 0..2 {
        let peek = world.client().await;
        let kept = peek.peek(&id).await.unwrap();
        assert_eq!(kept.iter().map(|next| next.number).collect::<Vec<_>>(), [1]);
        peek.close().await;
    }
    let mut inferlet = third.attach(&id, Some(1)).await.unwrap();
    inferlet.sender().end().await.unwrap();
    let error = inferlet.outcome().await.unwrap().unwrap_err();
    assert!(error.message.contains("no more messages"), "{error}");
    third.close().await;
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_comes_back_for_is_ended() {
    let options = SessionOptions { detached: Duration::from_millis(200), log_events: 4, ..quick() };
    let world = World::with_sessions(options).await;
    let client = world.client().await;
    // One has ended, one waits for room in its log; one that waits for a message is nobody's burden and goes on.
    client.launch_detached("test-programs", &words(&["hello", "you"])).await.unwrap();
    client.launch_detached("test-programs", &words(&["flood"])).await.unwrap();
    let waits = client.launch_detached("test-programs", &words(&["echo"])).await.unwrap();
    world
        .until("two are gone", async || {
            let list = client.list().await.unwrap();
            list.len() == 1 && list[0].id == waits && list[0].state == State::Running
        })
        .await;
    client.terminate(&waits).await.unwrap();
    client.close().await;
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_and_fifty_six_launches_at_once_all_end_well() {
    let world = World::new().await;
    let client = world.client().await;
    let launches = (0..256).map(async |number: u32| {
        let mut inferlet = client.launch("test-programs", &words(&["hello", &number.to_string()])).await?;
        let outcome = inferlet.outcome().await?;
        assert_eq!(outcome, Ok(format!("hello {number}")));
        Ok::<_, ClientError>(())
    });
    try_join_all(launches).await.unwrap();
    client.close().await;
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_an_error_with_a_code() {
    let world = World::with_sessions(quick()).await;
    let (mut raw, _) = Raw::session(world.address, "", None).await;
    let hash = "0".repeat(64);
    let cases = [
        (json!({ "type": "launch", "program": "no-such" }), "unknown-program"),
        (json!({ "type": "launch", "program": hash }), "unknown-program"),
        (
            json!({ "type": "launch", "program": "test-programs", "arguments": vec!["x"; 5000] }),
            "limit-exceeded",
        ),
        (json!({ "type": "attach", "inferlet": "no-such" }), "unknown-inferlet"),
        (json!({ "type": "attach", "inferlet": "" }), "unknown-inferlet"),
        (json!({ "type": "detach", "inferlet": "no-such" }), "not-attached"),
        (json!({ "type": "terminate", "inferlet": "" }), "unknown-inferlet"),
        (
            json!({ "type": "send", "inferlet": "x", "message": { "type": "text", "text": "" } }),
            "unknown-inferlet",
        ),
        (json!({ "type": "signal", "inferlet": "x", "signal": "end-of-input" }), "unknown-inferlet"),
        (json!({ "type": "install", "hash": hash, "name": "a@1" }), "unknown-program"),
        (json!({ "type": "install", "hash": hash, "name": "../a@1" }), "invalid-argument"),
        (json!({ "type": "install", "hash": "x", "name": "a@1" }), "invalid-argument"),
        (json!({ "type": "remove", "program": "a@1" }), "unknown-program"),
        (
            json!({ "type": "upload", "hash": "x", "bytes": 4, "offset": 0, "data": "AAAAAA==" }),
            "invalid-argument",
        ),
        (json!({ "type": "upload", "hash": hash, "bytes": 4, "offset": 2, "data": "AAA=" }), "wrong-offset"),
        (json!({ "type": "upload", "hash": hash, "bytes": 4, "offset": 0, "data": "" }), "invalid-argument"),
        (
            json!({ "type": "upload", "hash": hash, "bytes": 3, "offset": 0, "data": "AAAAAA==" }),
            "invalid-argument",
        ),
        (
            json!({ "type": "upload", "hash": hash, "bytes": 4, "offset": 0, "data": "AAAAAA==" }),
            "hash-mismatch",
        ),
        (
            json!({ "type": "upload", "hash": hash, "bytes": 9u64 << 40, "offset": 0, "data": "AAAAAA==" }),
            "limit-exceeded",
        ),
    ];
    for (request, (call, code)) in (1..).zip(&cases) {
        raw.call(request, call.clone()).await;
        let answer = raw.answer(request).await;
        assert_eq!(answer["error"]["code"], *code, "{call}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().len() > 10, "{answer}");
    }
    // Sent again, it is answered as it was, and not done again; below, nothing is known.
    raw.call(1, cases[0].0.clone()).await;
    assert_eq!(raw.answer(1).await["error"]["code"], "unknown-program");
    raw.call(0, cases[0].0.clone()).await;
    assert_eq!(raw.answer(0).await["error"]["code"], "stale-request");
    raw.call(0, json!({ "type": "list" })).await;
    assert_eq!(raw.answer(0).await["answer"]["inferlets"], json!([]));

    raw.call(100, json!({ "type": "launch", "program": "test-programs", "arguments": ["echo"] })).await;
    let id = raw.answer(100).await["answer"]["inferlet"].clone();
    raw.call(101, json!({ "type": "attach", "inferlet": id, "after": 7 })).await;
    assert_eq!(raw.answer(101).await["error"]["code"], "invalid-argument");
    for (request, text) in [(102, "a"), (103, "b")] {
        raw.call(
            request,
            json!({ "type": "send", "inferlet": id, "message": { "type": "text", "text": text } }),
        )
        .await;
    }
    let mut events = 0;
    while events < 2 {
        events += u32::from(raw.receive().await.unwrap()["type"] == "event");
    }
    raw.send(&json!({ "type": "acknowledge", "inferlet": id, "number": 1 })).await;
    raw.call(104, json!({ "type": "attach", "inferlet": id, "after": 0 })).await;
    assert_eq!(raw.answer(104).await["error"]["code"], "events-gone");
    raw.call(105, json!({ "type": "attach", "inferlet": id, "after": 1 })).await;
    assert_eq!(
        raw.answer(105).await["answer"],
        json!({ "type": "attached", "inferlet": id, "next": 2, "last": 2 })
    );
    assert_eq!(raw.receive().await.unwrap()["number"], 2);
    raw.frame(raw::CLOSE, &1000u16.to_be_bytes()).await;
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_upload_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::with(quick(), FrontOptions::default(), Some(folder.path())).await;
    let (mut raw, _) = Raw::session(world.address, "", None).await;
    let part =
        json!({ "type": "upload", "hash": "0".repeat(64), "bytes": 100 << 20, "offset": 0, "data": "AAAA" });
    raw.call(1, part).await;
    assert_eq!(raw.answer(1).await["answer"], json!({ "type": "received", "bytes": 3, "complete": false }));
    assert_eq!(world.runtime.usage_of("local").host_memory_bytes.taken, 100 << 20, "its user pays");
    drop(raw);
    world.until("it is gone", async || world.runtime.usage_of("local").host_memory_bytes.taken == 0).await;
    assert!(!folder.path().join("programs").exists());
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_random_bytes_end_their_connection_and_nothing_else() {
    let world = World::with_sessions(quick()).await;
    let client = world.client().await;
    let mut random = fastrand::Rng::with_seed(3);
    for turn in 0..300 {
        let mut raw = match turn % 2 {
            0 => Raw::open(world.address, "").await,
            _ => Raw::session(world.address, "", None).await.0,
        };
        let bytes: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
        match turn % 3 {
            0 => raw.frame(raw::BINARY, &bytes).await,
            1 => raw.frame(raw::TEXT, String::from_utf8_lossy(&bytes).as_bytes()).await,
            // Not even a frame.
            _ => tokio::io::AsyncWriteExt::write_all(&mut raw.stream, &bytes).await.is_ok(),
        };
        if turn % 3 < 2 {
            let closing = raw.receive_frame().await.expect("it is told why");
            let text = String::from_utf8_lossy(&closing.1).into_owned();
            assert!(text.contains("malformed-message"), "turn {turn}: {text}");
        }
        drop(raw);
    }
    let mut inferlet = client.launch("test-programs", &words(&["hello", "still"])).await.unwrap();
    assert_eq!(inferlet.outcome().await.unwrap(), Ok("hello still".into()));
    client.close().await;
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_none_and_a_hello_that_is_none_are_refused() {
    let world = World::with_sessions(quick()).await;
    let mut raw = Raw::open(world.address, "").await;
    raw.send(&json!({ "type": "hello", "versions": [99], "client": "future" })).await;
    let closing = raw.receive().await.unwrap();
    assert_eq!(closing["error"]["code"], "unsupported-version", "{closing}");
    let mut raw = Raw::open(world.address, "").await;
    raw.call(1, json!({ "type": "list" })).await;
    let closing = raw.receive().await.unwrap();
    assert!(closing["error"]["message"].as_str().unwrap().contains("not `hello`"), "{closing}");
    let (mut raw, _) = Raw::session(world.address, "", None).await;
    // Its head is enough.
    let head = [&[0x81, 0x80 | 127][..], &((4u64 << 20) + 1).to_be_bytes(), &[0; 4]].concat();
    tokio::io::AsyncWriteExt::write_all(&mut raw.stream, &head).await.unwrap();
    let closing = raw.receive().await.unwrap();
    assert_eq!(closing["error"]["code"], "message-too-large", "{closing}");
    // Without the headers of a WebSocket.
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let request = "GET /v1/session HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 ") && answer.contains("docs/protocol.md"), "{answer}");
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_silent_is_asked_and_then_taken_for_dead() {
    let world = World::with_sessions(SessionOptions { ping: Duration::from_millis(100), ..quick() }).await;
    let (mut raw, _) = Raw::session(world.address, "", None).await;
    assert_eq!(raw.receive_frame().await.map(|(kind, _)| kind), Some(raw::PING));
    raw.frame(raw::PONG, b"").await;
    let mut pings = 0;
    let closing = loop {
        match raw.receive_frame().await.unwrap() {
            (raw::PING, _) => pings += 1,
            (_, bytes) => break String::from_utf8(bytes).unwrap(),
        }
    };
    assert!(pings >= 2 && closing.contains("\"idle\""), "{pings} {closing}");
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_resumes_a_session_takes_it_over() {
    let world = World::with_sessions(quick()).await;
    let (mut before, welcome) = Raw::session(world.address, "", None).await;
    let (mut after, again) = Raw::session(world.address, "", welcome["session"].as_str()).await;
    assert_eq!((again["resumed"].clone(), &again["session"]), (true.into(), &welcome["session"]));
    assert_eq!(before.receive().await.unwrap()["error"]["code"], "taken-over");
    after.call(1, json!({ "type": "usage" })).await;
    assert_eq!(after.answer(1).await["answer"]["user"], "local");
    assert_eq!(
        world.front.session_counts(),
        SessionCounts { sessions: 1, connected: 1, ..SessionCounts::default() }
    );
    drop(after);
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_say_what_sessions_hold() {
    let world = World::new().await;
    let client = world.client().await;
    let mut attached = client.launch("test-programs", &words(&["echo"])).await.unwrap();
    let detached = client.launch_detached("test-programs", &words(&["hello", "metrics"])).await.unwrap();
    let sample = async |name: &str, state: Option<&str>| {
        let families = world.front.metrics().await;
        let family = families.into_iter().find(|family| family.name == name).expect("it is a metric");
        let is_it = |labels: &std::collections::BTreeMap<String, String>| {
            labels.get("state").map(String::as_str) == state
        };
        let sample =
            family.samples.into_iter().find(|sample| is_it(&sample.labels)).expect("it has a sample");
        serde_json::to_value(sample.value).expect("a number").as_f64().expect("a number")
    };
    world
        .until("the result of the detached one is kept", async || {
            sample("pie_session_event_bytes", None).await > 0.0
        })
        .await;
    assert_eq!(sample("pie_sessions", Some("connected")).await, 1.0);
    assert_eq!(sample("pie_sessions", Some("away")).await, 0.0);
    assert_eq!(sample("pie_session_inferlets", Some("attached")).await, 1.0);
    assert_eq!(sample("pie_session_inferlets", Some("detached")).await, 1.0);
    attached.terminate().await.unwrap();
    while attached.next().await.unwrap().is_some() {}
    let mut taken = client.attach(&detached, None).await.unwrap();
    while taken.next().await.unwrap().is_some() {}
    client.close().await;
    world
        .until("nothing is held", async || {
            sample("pie_sessions", Some("connected")).await == 0.0
                && sample("pie_session_event_bytes", None).await == 0.0
        })
        .await;
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_told_by_inferlet_and_to_their_user_only() {
    let world = World::new().await;
    let client = world.client().await;
    // It holds a context while it waits for a message.
    let mut inferlet = client.launch("test-programs", &words(&["hold"])).await.unwrap();
    let of = async |inferlet: Option<&str>| client.pages(inferlet).await.unwrap().remove(0);
    world
        .until("it has a context and a fork", async || {
            of(None).await.inferlets.iter().any(|one| one.contexts == 2)
        })
        .await;
    let model = of(None).await;
    assert!(model.pool > 0 && model.contexts.is_empty() && model.left_out == 0, "{model:?}");
    let [held] = &model.inferlets[..] else { panic!("{model:?}") };
    assert_eq!(held.inferlet, inferlet.id());
    assert!(held.shared > 0 && held.spilled == 0, "{held:?}");
    let contexts = of(Some(inferlet.id())).await.contexts;
    let [first, second] = &contexts[..] else { panic!("{contexts:?}") };
    assert_eq!((first.parent, second.parent), (None, Some(first.context)));
    assert!(first.length > 0 && second.shared > 0 && second.shared <= second.pages, "{contexts:?}");
    assert!(of(Some("0000")).await.contexts.is_empty(), "no such inferlet");
    assert!(world.runtime.pages_of("somebody-else", Some(inferlet.id())).await[0].inferlets.is_empty());
    inferlet.terminate().await.unwrap();
    while inferlet.next().await.unwrap().is_some() {}
    world.until("all is given back", async || of(None).await.inferlets.is_empty()).await;
    client.close().await;
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_says_what_it_takes_and_wrong_arguments_are_refused() {
    let world = World::new().await;
    let client = world.client().await;
    let described = client.describe("test-programs").await.unwrap();
    assert!(described.runs && described.hash.len() == 64);
    let manifest = described.manifest.expect("the SDK writes one");
    assert_eq!(manifest.name, "test-programs");
    let parameters = manifest.parameters.expect("it has some");
    let names: Vec<&str> = parameters.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["count", "case", "value", "name"]);
    let unknown = client.describe("no-such-program").await.unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::UnknownProgram));

    for (arguments, said) in [
        (&["count", "--number", "3"][..], "unknown argument `--number`; the program takes `--count`"),
        (&["count", "--count", "300"], "`--count` is `300`, expected a whole number of 1 to 255"),
        (&["count", "--count"], "`--count` needs a value"),
        (&["a", "b", "c", "d"], "`d` is one argument too many"),
    ] {
        let refused = client.launch("test-programs", &words(arguments)).await.err().expect("it is refused");
        assert_eq!(refused.code(), Some(ErrorCode::InvalidArgument), "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
    }
    let mut inferlet = client.launch("test-programs", &words(&["count", "-n", "7"])).await.unwrap();
    while inferlet.next().await.unwrap().is_some() {}
    assert_eq!(inferlet.outcome().await.unwrap(), Ok("7".to_string()));
    client.close().await;
    world.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_ends_its_sessions_when_they_are_quiet() {
    let world = World::new().await;
    let client = world.client().await;
    let mut inferlet = client.launch("test-programs", &words(&["echo"])).await.unwrap();
    world.front.stop();
    let refused = loop {
        match client.launch("test-programs", &words(&["hello"])).await {
            Err(error) => break error,
            // It is told a moment later.
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    assert_eq!(refused.code(), Some(ErrorCode::Stopping), "{refused}");
    inferlet.send("what runs goes on").await.unwrap();
    assert!(inferlet.next().await.unwrap().is_some());
    inferlet.sender().end().await.unwrap();
    inferlet.outcome().await.unwrap().unwrap_err();
    tokio::time::timeout(Duration::from_secs(30), world.front.drained())
        .await
        .expect("no connection is left");
    let lost = client.list().await.unwrap_err();
    assert!(matches!(lost, ClientError::Lost(_)), "{lost}");
}

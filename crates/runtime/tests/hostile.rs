//! Attackers on a fake backend, each beside a stream of another user: each is refused with a typed error or takes nothing
//! that stays, the stream's tokens are the same bits, and when the attacker is killed nothing is left.
//!
//! Nothing here depends on time; `crates/cli/examples/hostile.rs` measures. `PIE_ATTACK=append` makes one of them.
//! A component of a thousand memories, which is refused before it is a program, is in `inferlets.rs`.

#![allow(clippy::print_stderr, reason = "says which attack takes how much")]

mod common;

use std::time::{Duration, Instant};

use backend::Backend;
use common::Bench;
use common::attacks::{ATTACKS, End, Row};
use common::memory::{Peak, resident_bytes};
use runtime::{Event, Inferlet, InferletError, InferletLimits, LaunchOptions, RuntimeConfig, UserLimits};
use scheduler::SchedulerConfig;

/// Tokens of the stream beside each attack.
const STEPS: &str = "200";

async fn bench(row: &Row) -> Bench {
    // A million outputs are more than a hundred megabytes in the program.
    let memory_bytes = if row.name == "row-outputs" { 512 << 20 } else { 32 << 20 };
    let cpu = matches!(row.end, End::Cpu).then_some(Duration::from_millis(300));
    let limits = InferletLimits { memory_bytes, cpu, host_memory_bytes: 64 << 20, ..Bench::config().limits };
    // As many programs as would fit a small server; they have room for no more.
    let user_limits = UserLimits {
        inferlets_waiting: 500,
        host_memory_bytes: 96 << 20,
        store_bytes: 64 << 20,
        ..UserLimits::default()
    };
    let (inferlets, inferlets_waiting) = (64, 700);
    let config = RuntimeConfig { limits, user_limits, inferlets, inferlets_waiting, ..Bench::config() };
    // A user has half of the pool.
    let scheduler =
        SchedulerConfig { tenant_pages: Some(256), host_pages: 2000, ..SchedulerConfig::default() };
    Bench::of(&["tiny"], 512, config, &scheduler, |fake| Box::new(fake) as Box<dyn Backend>).await
}

fn launch(bench: &Bench, user: &str, words: &[&str]) -> Inferlet {
    let arguments = words.iter().map(ToString::to_string).collect();
    let options = LaunchOptions { arguments, user: user.into(), limits: None };
    bench.runtime.launch(&bench.program, options).expect("there is room")
}

/// Its outcome, its events taken and dropped.
async fn outcome(mut inferlet: Inferlet) -> Result<String, InferletError> {
    while inferlet.next_event().await.is_some() {}
    inferlet.outcome().await
}

/// A program of another user that has its place, and draws tokens once it is told to.
async fn begin_stream(bench: &Bench) -> Inferlet {
    let mut stream = launch(bench, "innocent", &["decode", STEPS]);
    assert_eq!(stream.next_event().await, Some(Event::Text("started".into())));
    stream
}

/// The tokens of the stream.
async fn tokens_of(mut stream: Inferlet) -> String {
    drop(stream.take_input());
    let answer = outcome(stream).await.expect("the stream is not disturbed");
    answer.lines().next().expect("its tokens").to_string()
}

/// The tokens of a stream alone.
async fn stream(bench: &Bench) -> String {
    tokens_of(begin_stream(bench).await).await
}

/// Until an attack that was launched is likely to be under way: an attack may be the one of taking all places, so the
/// stream is there before it.
async fn head_start() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Whether it ended as its row says.
fn judge(row: &Row, outcome: &Result<String, InferletError>) -> bool {
    let refused = |kind: &str, words: &str| {
        outcome
            .as_ref()
            .is_ok_and(|text| text.starts_with("refused") && text.contains(kind) && text.contains(words))
    };
    let took = outcome.as_ref().is_ok_and(|text| text.starts_with("took"));
    match row.end {
        End::Refused(words) => refused("LimitExceeded", words),
        End::OutOfPages => refused("OutOfPages", ""),
        End::Memory => matches!(outcome, Err(InferletError::Memory { .. })),
        End::Cpu => matches!(outcome, Err(InferletError::Cpu { .. })),
        End::CallBytes => {
            matches!(outcome, Err(InferletError::Trap(why)) if why.contains("copied between the host and the guest"))
        }
        End::Nothing => took || refused("LimitExceeded", ""),
    }
}

/// One after the other, since their memory is that of one process.
#[tokio::test(flavor = "multi_thread")]
async fn attackers_are_refused_and_leave_nothing() {
    let only = std::env::var("PIE_ATTACK").ok();
    for row in ATTACKS.iter().filter(|row| only.as_deref().is_none_or(|name| name == row.name)) {
        let start = Instant::now();
        let bench = bench(row).await;
        let alone = stream(&bench).await;
        let (before, peak) = (resident_bytes(), Peak::new());

        // To its end. A client takes what it sends.
        if row.name != "sleep" {
            let arguments = format!("{}/once", row.name);
            let stream = begin_stream(&bench).await;
            let attacker = tokio::spawn(outcome(launch(&bench, "attacker", &["attack", &arguments])));
            head_start().await;
            let beside = tokens_of(stream).await;
            assert_eq!(beside, alone, "{}: the stream has other tokens", row.name);
            let ended = attacker.await.unwrap();
            assert!(
                judge(row, &ended),
                "{} ({}): expected {:?}, got {ended:?}",
                row.name,
                row.about,
                row.end
            );
            if row.name == "launches" {
                // What it launched is still there, and others have room.
                let waits = LaunchOptions {
                    arguments: vec!["attack".into(), "sleep/once".into()],
                    user: "innocent".into(),
                    limits: None,
                };
                let room = (0..3).all(|_| bench.runtime.launch(&bench.program, waits.clone()).is_ok());
                assert!(room, "another user cannot launch programs");
            }
            leave_nothing(&bench, row.name).await;
        }

        // Until it is killed, by a client that takes nothing of what it sends.
        let innocent = begin_stream(&bench).await;
        let attacker = launch(&bench, "attacker", &["attack", &format!("{}/forever", row.name)]);
        head_start().await;
        let beside = tokens_of(innocent).await;
        assert_eq!(beside, alone, "{}: the stream has other tokens", row.name);
        attacker.kill();
        let ended = attacker.outcome().await;
        let by_itself = matches!(row.end, End::Memory | End::Cpu | End::CallBytes) && judge(row, &ended);
        assert!(by_itself || ended == Err(InferletError::Killed), "{}: {ended:?}", row.name);
        leave_nothing(&bench, row.name).await;
        assert_eq!(stream(&bench).await, alone, "{}: the stream after it has other tokens", row.name);

        let grown = peak.bytes().saturating_sub(before) >> 20;
        eprintln!("{}: {grown} MiB, {:.1?}", row.name, start.elapsed());
        assert!(
            grown <= row.most_mib,
            "{}: the process grew by {grown} MiB, the bound is {}",
            row.name,
            row.most_mib
        );
    }
}

/// What an attacker launched is killed, what it kept for its user deleted by the user; then nothing is held.
async fn leave_nothing(bench: &Bench, name: &str) {
    while !bench.runtime.list().is_empty() {
        for inferlet in bench.runtime.list() {
            bench.runtime.kill(&inferlet.id);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let cleaned = outcome(launch(bench, "attacker", &["random", "clean"])).await;
    cleaned.unwrap_or_else(|error| panic!("{name}: {error}"));
    bench.assert_clean().await;
}

/// A reader of an HTTP answer that takes nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_holds_what_it_may_and_gives_it_back() {
    let bench = Bench::new(128).await;
    let alone = stream(&bench).await;
    let options = LaunchOptions { arguments: Vec::new(), user: "attacker".into(), limits: None };
    let service = bench.runtime.serve(&bench.program, options).unwrap();
    let before = resident_bytes();
    let mut stalled = Vec::new();
    for _ in 0..32 {
        let body = http_body_util::Empty::<bytes::Bytes>::new();
        let request = http::Request::get("http://host/endless").body(body).unwrap();
        stalled.push(service.handle(request, None).await.unwrap());
    }
    assert_eq!(stream(&bench).await, alone, "the stream has other tokens");
    let grown = resident_bytes().saturating_sub(before) >> 20;
    assert!(grown < 256, "32 readers that stall grew the process by {grown} MiB");
    let running = bench.runtime.list();
    assert_eq!(running.iter().filter(|inferlet| inferlet.user == "attacker").count(), 32);
    drop((stalled, service));
    bench.assert_clean().await;
}

/// A client that takes no events: the program waits, holds what a queue of events may hold, and can be killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_makes_its_program_wait() {
    let bench = Bench::new(128).await;
    let alone = stream(&bench).await;
    let innocent = begin_stream(&bench).await;
    let mut inferlet = bench.launch(&["attack", "stderr/forever"], None);
    let first = inferlet.next_event().await;
    assert!(matches!(first, Some(Event::Stderr(_))), "it has begun: {first:?}");
    assert_eq!(tokens_of(innocent).await, alone, "the stream has other tokens");
    inferlet.kill();
    assert_eq!(inferlet.outcome().await, Err(InferletError::Killed));
    let mut events = 0;
    while let Some(event) = inferlet.next_event().await {
        assert!(matches!(event, Event::Stderr(_)), "{event:?}");
        events += 1;
    }
    assert!(events <= 1024, "{events} events waited, the queue has 1024");
    bench.assert_clean().await;
}

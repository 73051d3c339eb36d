//! Programs that make random calls (`tests/programs/src/random`), several of several users at once, over a backend that
//! fails by a seed, with clients that talk, stop listening, leave and kill. However they end, nothing is left.
//!
//! A seed draws the settings, the programs, the faults and what the clients do. It does not draw the order in which
//! things happen: the engine has a thread of its own, and files and grammars are worked on by others. So that little else
//! differs between two runs, three seeds of four run on one thread of tokio. A seed that failed may need to be run
//! several times: `PIE_RANDOM_SEEDS=17..18`. `PIE_RANDOM_SEEDS=5000` runs that many.

#![allow(clippy::print_stderr, reason = "says which seed failed, and how much was run")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backend::Backend;
use common::Bench;
use common::faults::{FaultyBackend, INJECTED, Seen};
use fastrand::Rng;
use kernels::DType;
use runtime::{Inferlet, InferletError, InferletLimits, LaunchOptions, RuntimeConfig};
use scheduler::{POLICIES, SchedulerConfig};

/// Seeds that every change is tested with: about 50 s on two cores, most of it waiting.
const SEEDS: u64 = 70;
/// A seed takes less than a second. One that takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// Few, so that several programs are of one.
const USERS: [&str; 3] = ["ann", "bob", "cid"];

/// How often each function succeeded and was refused, as the programs say that ended well.
type Calls = BTreeMap<String, [u64; 2]>;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("PIE_RANDOM_SEEDS") else { return 0..SEEDS };
    let number = |text: &str| text.parse().unwrap_or_else(|e| panic!("PIE_RANDOM_SEEDS: `{text}`: {e}"));
    match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => 0..number(&text),
    }
}

#[test]
fn random_programs_leave_nothing_behind() {
    keep_injected_panics_quiet();
    let (seeds, start) = (seeds(), Instant::now());
    let mut calls = Calls::new();
    let mut ends = BTreeMap::new();
    for seed in seeds.clone() {
        let (running, watched) = channel();
        std::thread::spawn(move || watch(seed, &watched));
        let mut builder = match seed % 4 {
            3 => tokio::runtime::Builder::new_multi_thread(),
            _ => tokio::runtime::Builder::new_current_thread(),
        };
        let tokio = builder.worker_threads(2).enable_all().build().unwrap();
        let run = || tokio.block_on(run_seed(seed, &mut calls, &mut ends));
        let result = catch_unwind(AssertUnwindSafe(run));
        drop(running);
        if let Err(panic) = result {
            eprintln!("PIE_RANDOM_SEEDS={seed}..{} failed", seed + 1);
            resume_unwind(panic);
        }
    }
    let made: u64 = calls.values().flatten().sum();
    eprintln!("{} seeds, {made} calls in {:.0?}; ends: {ends:?}", seeds.end - seeds.start, start.elapsed());
    if seeds == (0..SEEDS) {
        every_function_was_called(&calls);
    }
}

fn every_function_was_called(calls: &Calls) {
    for (function, _) in common::functions() {
        let succeeded = calls.get(&function).map_or(0, |[succeeded, _]| *succeeded);
        assert!(succeeded > 0, "no call of `{function}` ever succeeded: {calls:?}");
    }
}

#[tokio::test]
async fn every_function_is_among_the_random_calls() {
    let bench = Bench::new(16).await;
    let listed = common::run(&bench, &["random", "list"]).await.unwrap();
    let listed: BTreeSet<&str> = listed.lines().collect();
    let functions = common::functions();
    assert!(functions.len() >= 60, "the scan of wit/ found only {functions:?}");
    for (function, _) in &functions {
        assert!(listed.contains(function.as_str()), "`{function}` is not called at random");
    }
    assert_eq!(listed.len(), functions.len(), "a call that is no function of wit/: {listed:?}");
}

/// Ends the process when the seed hangs, on whichever thread.
fn watch(seed: u64, running: &Receiver<()>) {
    if running.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
        eprintln!("PIE_RANDOM_SEEDS={seed}..{} hangs", seed + 1);
        std::process::abort();
    }
}

/// Panics that the backend raises on purpose fill the terminal otherwise.
fn keep_injected_panics_quiet() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !info.payload_as_str().is_some_and(|text| text.starts_with(INJECTED)) {
            others(info);
        }
    }));
}

async fn run_seed(seed: u64, calls: &mut Calls, ends: &mut BTreeMap<&'static str, u32>) {
    let mut random = Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let adapters = folder.path().join("adapters");
    write_adapters(&adapters);
    let data = random.bool().then(|| folder.path().join("data"));
    let limits = InferletLimits {
        contexts: *one_of(&mut random, &[8, 24, 4096]),
        pages: *one_of(&mut random, &[None, None, Some(8)]),
        output_bytes: *one_of(&mut random, &[64 << 10, 4 << 20]),
        cpu: *one_of(&mut random, &[None, None, Some(Duration::from_secs(2))]),
        ..Bench::config().limits
    };
    let config = RuntimeConfig {
        data: data.clone(),
        limits,
        adapters: Some(adapters),
        inferlets: *one_of(&mut random, &[1, 2, 4, 16]),
        inferlets_waiting: 64,
        ..Bench::config()
    };
    let policy = one_of(&mut random, POLICIES);
    let scheduler = SchedulerConfig {
        policy: (policy.make)(3, Duration::from_millis(2)),
        host_pages: *one_of(&mut random, &[0, 16, 1000]),
        tenant_pages: *one_of(&mut random, &[None, Some(20), Some(60)]),
        prefix_cache: random.u8(0..4) > 0,
        patience: Duration::from_millis(30),
        idle_after: Duration::from_millis(random.u64(0..3)),
        ..SchedulerConfig::default()
    };
    let faults_per_mille = *one_of(&mut random, &[0, 0, 5, 50]);
    let mut seen = Vec::new();
    let backend = |fake| {
        let (backend, counts) = FaultyBackend::new(fake, seed ^ seen.len() as u64, faults_per_mille);
        seen.push(counts);
        Box::new(backend) as Box<dyn Backend>
    };
    let pages = *one_of(&mut random, &[24, 64, 300]);
    let bench = Bench::of(&["tiny", "other"], pages, config, &scheduler, backend).await;

    let clients: Vec<_> = (0..random.u32(3..10)).map(|_| client(&bench, &mut random)).collect();
    let clients: Vec<_> = clients.into_iter().map(tokio::spawn).collect();
    let killer = tokio::spawn(kill_some(bench.runtime.clone(), random.fork()));
    for client in clients {
        for outcome in client.await.unwrap() {
            *ends.entry(judge(outcome, calls)).or_default() += 1;
        }
    }
    // Those whose client has left, and those that were launched by others.
    wait_for_all(&bench).await;
    killer.abort();
    let _ = killer.await;
    nothing_is_left(&bench, &seen, data.as_deref()).await;
    bench.join();
}

fn one_of<'a, T>(random: &mut Rng, all: &'a [T]) -> &'a T {
    &all[random.usize(0..all.len())]
}

/// One that is whole, and one that is not.
fn write_adapters(folder: &Path) {
    use model::gguf::Value;
    let mut writer = model::gguf::writer::GgufWriter::new();
    writer.metadata_str("general.type", "adapter").metadata_str("adapter.type", "lora");
    writer.metadata_str("general.architecture", "llama");
    writer.metadata("adapter.lora.alpha", Value::F32(2.0));
    writer.tensor("blk.0.attn_output.weight.lora_a", DType::F32, &[2, 64], vec![0; 2 * 64 * 4]);
    writer.tensor("blk.0.attn_output.weight.lora_b", DType::F32, &[64, 2], vec![0; 2 * 64 * 4]);
    let whole = writer.to_bytes();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("damaged.gguf"), &whole[..whole.len() - 100]).unwrap();
    std::fs::write(folder.join("whole.gguf"), whole).unwrap();
}

/// Starts some programs of one user, one after the other, and is their client: takes events or does not, sends messages,
/// kills, leaves. Gives the outcomes that it waited for.
fn client(
    bench: &Bench,
    random: &mut Rng,
) -> impl Future<Output = Vec<Result<String, InferletError>>> + use<> {
    let mut random = random.fork();
    let user = one_of(&mut random, &USERS).to_string();
    let (runtime, program) = (bench.runtime.clone(), bench.program.clone());
    async move {
        let mut outcomes = Vec::new();
        for _ in 0..random.u32(1..4) {
            let value = format!("{}/{}/{}", random.u64(..), random.u32(0..3), random.u32(10..400));
            let arguments = vec!["random".to_string(), value];
            let options = LaunchOptions { arguments, user: user.clone(), limits: None };
            // The limit of those that wait.
            let Ok(inferlet) = runtime.launch(&program, options) else { continue };
            outcomes.extend(talk(inferlet, &mut random).await);
        }
        outcomes
    }
}

async fn talk(mut inferlet: Inferlet, random: &mut Rng) -> Option<Result<String, InferletError>> {
    let mut input = inferlet.take_input();
    if random.u8(0..10) == 0 {
        return None;
    }
    let listens = random.u8(0..10) > 0;
    let kill_at =
        (random.u8(0..4) == 0).then(|| Instant::now() + Duration::from_micros(random.u64(0..150_000)));
    loop {
        if kill_at.is_some_and(|at| Instant::now() >= at) {
            inferlet.kill();
        }
        match random.u8(0..20) {
            0..4 => {
                if let Some(input) = &input {
                    let text = input.send("from the client".into());
                    let _ = tokio::time::timeout(Duration::from_millis(1), text).await;
                }
            }
            4..6 => {
                if let Some(input) = &input {
                    let blob = input.send_blob(vec![1; random.usize(0..100)]);
                    let _ = tokio::time::timeout(Duration::from_millis(1), blob).await;
                }
            }
            6 => input = None,
            _ => {}
        }
        let pause = Duration::from_millis(random.u64(0..4));
        if listens {
            if let Ok(None) = tokio::time::timeout(pause, inferlet.next_event()).await {
                break;
            }
        } else if tokio::time::timeout(pause, inferlet.outcome()).await.is_ok() {
            break;
        }
    }
    Some(inferlet.outcome().await)
}

/// Kills one that runs every now and then, those included that others launched.
async fn kill_some(runtime: runtime::Runtime, mut random: Rng) {
    loop {
        tokio::time::sleep(Duration::from_millis(random.u64(20..300))).await;
        let running = runtime.list();
        if !running.is_empty() {
            runtime.kill(&one_of(&mut random, &running).id);
        }
    }
}

/// How it ended; a panic where no program may end so.
fn judge(outcome: Result<String, InferletError>, calls: &mut Calls) -> &'static str {
    match outcome {
        Ok(report) => {
            for line in report.lines() {
                let words: Vec<&str> = line.split(' ').collect();
                let [name, succeeded, refused] = words[..] else { panic!("no line of a report: {line}") };
                let counts = calls.entry(name.to_string()).or_default();
                counts[0] += succeeded.parse::<u64>().unwrap();
                counts[1] += refused.parse::<u64>().unwrap();
            }
            "well"
        }
        Err(InferletError::Program(text)) if text == "failed as asked" => "with an error",
        Err(InferletError::Trap(text)) if text.contains("panicked as asked") => "with a panic",
        Err(InferletError::Killed) => "killed",
        Err(InferletError::Cpu { .. }) => "out of time",
        Err(other) => panic!("a call ended its program: {other:?}"),
    }
}

/// Until none runs, all but the first seconds with help.
async fn wait_for_all(bench: &Bench) {
    let start = Instant::now();
    while !bench.runtime.list().is_empty() {
        if start.elapsed() > Duration::from_secs(5) {
            for inferlet in bench.runtime.list() {
                bench.runtime.kill(&inferlet.id);
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Nothing is held that belonged to an inferlet. What belongs to a user can be deleted by the user, and then nothing is
/// held at all.
async fn nothing_is_left(bench: &Bench, seen: &[Arc<Mutex<Seen>>], data: Option<&Path>) {
    bench.settled().await;
    for engine in bench.engines() {
        let saved = engine.list("saving ".into()).await.unwrap().unwrap();
        assert!(saved.is_empty(), "hidden snapshots: {saved:?}");
    }
    for user in USERS {
        let (arguments, user) = (vec!["random".into(), "clean".into()], user.to_string());
        let options = LaunchOptions { arguments, user, limits: None };
        bench
            .runtime
            .launch(&bench.program, options)
            .unwrap()
            .outcome()
            .await
            .expect("everything is deleted");
    }
    bench.assert_clean().await;
    for (engine, seen) in bench.engines().zip(seen) {
        let stats = engine.stats().await.unwrap().unwrap();
        assert_eq!(stats.pages_spilled, 0, "{stats:?}");
        let seen = seen.lock().unwrap();
        assert!(seen.adapters.is_empty(), "adapters are loaded: {:?}", seen.adapters);
        assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
    }
    if let Some(data) = data {
        let files = common::walk(&data.join("snapshots"));
        assert!(files.is_empty(), "files of snapshots that no user has: {files:?}");
    }
}

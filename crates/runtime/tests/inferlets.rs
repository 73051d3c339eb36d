//! Programs of `tests/programs` on a fake backend: what the API promises, and what hostile programs leave behind.

#![allow(clippy::print_stderr, reason = "says why nothing was tested")]

mod common;

use std::time::{Duration, Instant};

use backend::{Backend, FakeBackend, Limits};
use common::{Bench, run, walk};
use metrics::{Sample, Value};
use runtime::{Event, InferletError, InferletLimits, LaunchOptions};
use scheduler::SchedulerConfig;

/// Runs a case that must end well, and gives its result.
async fn good(bench: &Bench, words: &[&str]) -> String {
    run(bench, words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_returns_its_result_or_its_error() {
    let bench = Bench::new(256).await;
    assert_eq!(good(&bench, &["hello", "you"]).await, "hello you");
    assert_eq!(run(&bench, &["fail"]).await, Err(InferletError::Program("failed as asked".into())));
    let Err(InferletError::Trap(reason)) = run(&bench, &["panic"]).await else { panic!("a panic is a trap") };
    assert!(reason.contains("panicked as asked"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_inferlets_did_is_counted_for_their_program_and_model() {
    let bench = Bench::with_two_models(256).await;
    let _ = run(&bench, &["hello", "you"]).await;
    let _ = run(&bench, &["fail"]).await;
    let _ = run(&bench, &["panic"]).await;
    let limits = InferletLimits { cpu: Some(Duration::from_millis(20)), ..bench.limits() };
    assert!(bench.launch(&["spin"], Some(limits)).outcome().await.is_err());
    let spinning = bench.launch(&["spin"], None);
    spinning.kill();
    assert!(spinning.outcome().await.is_err());
    let _ = run(&bench, &["generate", "some text"]).await;
    bench.settled().await;
    bench.end_engine();
    let families = bench.runtime.metrics(0).await;
    let number = |name: &str, labels: &[&str]| {
        let family = families.iter().find(|family| family.name == name)?;
        let has = |sample: &&Sample| labels.iter().all(|label| sample.labels.values().any(|v| v == label));
        match &family.samples.iter().find(has)?.value {
            Value::Number(number) => Some(*number),
            Value::Distribution(times) => Some(times.count() as f64),
        }
    };
    let ends = ["ok", "error", "limit", "trap", "killed"]
        .map(|outcome| number("pie_inferlet_ends_total", &[outcome]));
    assert_eq!(ends, [2.0, 1.0, 1.0, 1.0, 1.0].map(Some));
    assert_eq!(number("pie_inferlet_launches_total", &["test-programs"]), Some(6.0));
    assert_eq!(number("pie_inferlets_running", &["test-programs"]), Some(0.0));
    assert!(number("pie_program_cpu_seconds_total", &[]).is_some_and(|seconds| seconds > 0.02));
    let drawn = number("pie_generated_tokens_total", &["tiny"]).unwrap();
    assert!(drawn > 1.0, "{drawn} tokens");
    assert_eq!(number("pie_time_to_first_token_seconds", &["tiny"]), Some(1.0));
    assert_eq!(number("vllm:e2e_request_latency_seconds", &["tiny", "0"]), Some(1.0));
    assert_eq!(number("pie_generated_tokens_total", &["other"]), Some(0.0), "nobody opened it");
    // The dead engine tells nothing, and what the runtime knows of its model is there.
    assert_eq!(
        [number("pie_engine_up", &["tiny"]), number("pie_engine_up", &["other"])],
        [Some(0.0), Some(1.0)]
    );
    assert_eq!(number("pie_kv_pages_pool", &["tiny"]), None);
    assert_eq!(number("pie_kv_pages_pool", &["other"]), Some(256.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_and_passes_keep_their_promises() {
    let bench = Bench::new(512).await;
    for case in [
        "chunks",
        "outputs",
        "masks",
        "remove",
        "embeds",
        "cancel",
        "many",
        "stop",
        "full",
        "unseeded",
        "nothing-allowed",
        "penalties",
        "drafts",
        "inject",
    ] {
        good(&bench, &[case]).await;
    }
    bench.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_reads_texts_and_refuses_the_rest_in_words() {
    let backend = |fake: FakeBackend| {
        let limits = Limits { encoder: true, ..fake.limits() };
        Box::new(FakeBackend::with_limits(limits)) as Box<dyn Backend>
    };
    let bench = Bench::of(&["tiny"], 512, Bench::config(), &SchedulerConfig::default(), backend).await;
    good(&bench, &["encoder"]).await;
    let stats = bench.stats().await;
    assert_eq!((stats.rows_cached, stats.pages_cached), (0, 0));
    bench.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn constrained_text_follows_its_grammar() {
    let bench = Bench::new(512).await;
    let texts = good(&bench, &["grammar"]).await;
    let lines: Vec<&str> = texts.split('\u{1f}').collect();
    let [regex, ebnf, lark, json] = lines[..] else { panic!("four lines: {texts}") };
    assert!(regex.starts_with("yes, ") || regex.starts_with("no, "), "{regex}");
    assert!(ebnf.starts_with('a') && ebnf.ends_with('!') && ebnf.len() >= 7, "{ebnf}");
    assert!(lark.starts_with('<') && lark.ends_with('>'), "{lark}");
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"));
    assert!(value["n"].as_i64().is_some_and(|n| n <= 99), "{json}");
}

/// Functions of which no argument can be wrong, and why.
const NEVER_WRONG: [(&str, &str); 3] = [
    ("clock.sleep", "every number of milliseconds is a time to wait"),
    ("context.set-priority", "the type has no other values than the three priorities"),
    ("context.snapshots", "a model handle is all it takes, and the type says it is one"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_function_refuses_wrong_arguments_with_a_typed_error() {
    let bench = Bench::with_two_models(256).await;
    let mut inferlet = bench.launch(&["errors"], Some(InferletLimits { contexts: 64, ..bench.limits() }));
    drop(inferlet.take_input());
    while inferlet.next_event().await.is_some() {}
    let answer = inferlet.outcome().await.unwrap_or_else(|error| panic!("{error}"));
    let refused: Vec<&str> = answer.lines().collect();
    let with_parameters = common::functions().into_iter().filter(|(_, parameters)| *parameters);
    let functions: Vec<String> = with_parameters.map(|(name, _)| name).collect();
    assert!(functions.len() >= 25, "the scan of wit/ found only {functions:?}");
    for function in &functions {
        let reason = NEVER_WRONG.iter().find(|(name, _)| name == function);
        match reason {
            None => {
                assert!(refused.contains(&function.as_str()), "`{function}` has no case with wrong arguments")
            }
            Some((_, reason)) => {
                assert!(!refused.contains(&function.as_str()), "`{function}` was refused, though {reason}");
            }
        }
    }
    for (name, _) in NEVER_WRONG {
        assert!(functions.iter().any(|f| f == name), "`{name}` is no function with parameters any more");
    }
    bench.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_is_a_text() {
    let bench = Bench::new(256).await;
    let first = good(&bench, &["seeded", "7"]).await;
    assert_eq!(first, good(&bench, &["seeded", "7"]).await);
    assert_ne!(first, good(&bench, &["seeded", "8"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_the_store_and_children_work() {
    let bench = Bench::new(256).await;
    assert_eq!(good(&bench, &["store"]).await, "stored");
    good(&bench, &["topics", "speak"]).await;
    assert_eq!(good(&bench, &["topics", "listen"]).await, "one two");
    assert_eq!(good(&bench, &["queues"]).await, "12");
    good(&bench, &["sleep"]).await;
    let children = good(&bench, &["launch", "test-programs"]).await;
    assert!(children.contains(r#"Ok("hello child")"#), "{children}");
    assert!(children.contains("failed as asked") && children.contains("was killed"), "{children}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_talks_with_its_inferlet_and_nothing_is_lost() {
    let bench = Bench::new(64).await;
    let mut inferlet = bench.launch(&["echo"], None);
    let input = inferlet.take_input().unwrap();
    for i in 0..100 {
        assert!(input.send(format!("message {i}")).await);
    }
    input.send("end".into()).await;
    input.send_blob(vec![1, 2, 3]).await;
    let mut events = Vec::new();
    while let Some(event) = inferlet.next_event().await {
        events.push(event);
    }
    inferlet.outcome().await.unwrap();
    let expected = (0..100)
        .map(|i| Event::Text(format!("message {i}")))
        .chain([Event::Blob(vec![1, 2, 3]), Event::Stdout(b"to stdout\n".to_vec())]);
    let (stderr, rest): (Vec<_>, Vec<_>) = events.into_iter().partition(|e| matches!(e, Event::Stderr(_)));
    assert_eq!(rest, expected.collect::<Vec<_>>());
    assert_eq!(stderr, [Event::Stderr(b"to stderr\n".to_vec())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_spins_is_stopped_and_delays_nobody() {
    let bench = Bench::new(64).await;
    let limits = InferletLimits { cpu: Some(Duration::from_millis(100)), ..bench.limits() };
    let spinning: Vec<_> = (0..4).map(|_| bench.launch(&["spin"], Some(limits.clone()))).collect();
    let start = Instant::now();
    good(&bench, &["hello", "beside"]).await;
    assert!(start.elapsed() < Duration::from_secs(5), "a small program waited {:?}", start.elapsed());
    for inferlet in spinning {
        assert_eq!(inferlet.outcome().await, Err(InferletError::Cpu { limit_ms: 100 }));
    }
    bench.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_programs_end_with_their_own_error_and_leave_nothing() {
    let bench = Bench::new(128).await;
    let Err(InferletError::Memory { asked, limit }) = run(&bench, &["allocate"]).await else {
        panic!("memory has a limit")
    };
    assert!(asked > limit && limit == bench.limits().memory_bytes);

    let Err(InferletError::Program(reason)) = run(&bench, &["flood"]).await else {
        panic!("output has a limit")
    };
    assert!(reason.contains("limit exceeded"), "{reason}");

    let Err(InferletError::Program(reason)) = run(&bench, &["contexts"]).await else {
        panic!("contexts have a limit")
    };
    assert!(reason.contains("limit exceeded"), "{reason}");

    match run(&bench, &["huge-list"]).await {
        Err(InferletError::Trap(_)) => {}
        other => panic!("a list of 2^31 tokens: {other:?}"),
    }

    let Err(InferletError::Program(reason)) = run(&bench, &["double"]).await else {
        panic!("a context is not longer than the model's")
    };
    assert!(reason.contains("limit exceeded") && reason.contains("4096"), "{reason}");

    let outputs = good(&bench, &["many-outputs"]).await;
    assert!(outputs.contains("100000 outputs") && outputs.contains("1000 outputs"), "{outputs}");
    assert!(outputs.ends_with(" 0"), "a refused pass leaves its context as it was: {outputs}");

    good(&bench, &["free-calls"]).await;
    good(&bench, &["leak"]).await;
    bench.assert_clean().await;
    assert_eq!(good(&bench, &["hello", "after"]).await, "hello after");
}

/// A parent that waits for its child needs no place: with one place alone, three of them finish.
#[tokio::test(flavor = "multi_thread")]
async fn launch_and_wait_never_hang_with_one_place() {
    let bench = Bench::with_places(128, 1).await;
    assert_eq!(good(&bench, &["nest", "3"]).await, "the innermost");
    let several: Vec<_> = (0..8).map(|_| bench.launch(&["nest", "2"], None)).collect();
    for inferlet in several {
        assert_eq!(inferlet.outcome().await.unwrap(), "the innermost");
    }
    let Err(InferletError::Program(reason)) = run(&bench, &["nest", "12"]).await else {
        panic!("programs that launch programs have a limit")
    };
    assert!(reason.contains("deep"), "{reason}");
    bench.assert_clean().await;
}

/// A component of modules with a memory each.
fn component_of_memories(memories: u32) -> Vec<u8> {
    use wasm_encoder::{
        Component, InstanceSection, MemorySection, MemoryType, Module, ModuleArg, ModuleSection,
    };
    let mut module = Module::new();
    let mut section = MemorySection::new();
    section.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    module.section(&section);
    let mut component = Component::new();
    component.section(&ModuleSection(&module));
    let mut instances = InstanceSection::new();
    (0..memories).for_each(|_| {
        let none: [(&str, ModuleArg); 0] = [];
        instances.instantiate(0, none);
    });
    component.section(&instances);
    component.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_a_thousand_memories_is_refused() {
    let bench = Bench::new(128).await;
    let load = async |memories| bench.runtime.load(component_of_memories(memories), None).await.err();
    // It exports nothing, but it fits.
    let few = load(4).await.expect("no program").to_string();
    assert!(few.contains("exports neither"), "{few}");
    let many = load(1000).await.expect("no program").to_string();
    assert!(many.contains("exceeds the configured maximum"), "{many}");
    assert_eq!(good(&bench, &["hello", "after"]).await, "hello after");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_pass_it_gives_everything_back() {
    let bench = Bench::slow(128, Duration::from_millis(20)).await;
    let expected = good(&bench, &["generate", "neighbour"]).await;
    let neighbour = bench.launch(&["generate", "neighbour"], None);
    let mut inferlet = bench.launch(&["wait"], None);
    assert_eq!(inferlet.next_event().await, Some(Event::Text("started".into())));
    tokio::time::sleep(Duration::from_millis(30)).await;
    inferlet.kill();
    assert_eq!(inferlet.outcome().await, Err(InferletError::Killed));
    assert_eq!(neighbour.outcome().await.unwrap(), expected);
    bench.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_at_once_finish_with_the_text_of_one_alone() {
    let bench = Bench::new(4096).await;
    let alone = good(&bench, &["generate", "all the same"]).await;
    let inferlets: Vec<_> = (0..1000).map(|_| bench.launch(&["generate", "all the same"], None)).collect();
    for inferlet in inferlets {
        assert_eq!(inferlet.outcome().await.unwrap(), alone);
    }
    bench.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_times_the_pool_finishes_with_the_same_text() {
    // Three contexts of 200 tokens that share about 90: 13 + 2 * 8 pages for each of 64. The pool has a quarter.
    let words: Vec<Vec<String>> =
        (0..64).map(|i| vec!["pages".to_string(), "200".to_string(), format!("{i} is my name")]).collect();
    let words: Vec<Vec<&str>> = words.iter().map(|w| w.iter().map(String::as_str).collect()).collect();
    let roomy = Bench::new(4096).await;
    let mut alone = Vec::new();
    for words in &words {
        alone.push(good(&roomy, words).await);
    }
    let tight = Bench::new(464).await;
    let inferlets: Vec<_> = words.iter().map(|words| tight.launch(words, None)).collect();
    for (inferlet, alone) in inferlets.into_iter().zip(alone) {
        assert_eq!(inferlet.outcome().await.unwrap(), alone);
    }
    let stats = tight.stats().await;
    assert!(stats.suspensions > 0, "the pool was never short: {stats:?}");
    tight.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_contexts_open_again_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with_data(128, folder.path()).await;
    let drawn = good(&bench, &["save", "persistent one"]).await;
    assert_eq!(good(&bench, &["save", "fleeting"]).await, drawn);
    assert_eq!(good(&bench, &["open", "persistent one"]).await, drawn);
    assert_eq!(good(&bench, &["open", "fleeting"]).await, drawn);
    drop(bench);
    let again = Bench::with_data(128, folder.path()).await;
    assert_eq!(good(&again, &["open", "persistent one"]).await, drawn);
    let Err(InferletError::Program(reason)) = run(&again, &["open", "fleeting"]).await else {
        panic!("a snapshot that is not persistent is gone")
    };
    assert!(reason.contains("not found"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_contexts_that_do_not_fit_host_memory_wait_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with_host_pages(1000, folder.path()).await;
    let names = ["persistent one", "persistent two", "persistent three"];
    let drawn = good(&bench, &["save", names[0]]).await;
    for name in &names[1..] {
        good(&bench, &["save", name]).await;
    }
    drop(bench);
    // The least memory in which one of them fits.
    let mut opened = 0;
    for host_pages in 1..64 {
        let tight = Bench::with_host_pages(host_pages, folder.path()).await;
        match run(&tight, &["open", names[0]]).await {
            Err(InferletError::Program(reason)) => assert!(reason.contains("pages"), "{reason}"),
            first => {
                assert_eq!(first.unwrap(), drawn);
                // Each takes the place of another, which is listed all the time.
                for name in names.iter().cycle().take(6) {
                    assert_eq!(good(&tight, &["open", name]).await, drawn, "{name}");
                    opened += 1;
                }
                break;
            }
        }
    }
    assert_eq!(opened, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_engine_has_ended_is_named() {
    let bench = Bench::with_two_models(16).await;
    assert!(bench.runtime.dead_models().is_empty());
    bench.end_engine();
    assert_eq!(bench.runtime.dead_models(), ["tiny"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_written_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with_data(128, folder.path()).await;
    let drawn = good(&bench, &["save", "persistent one"]).await;
    let files: Vec<_> =
        walk(folder.path()).into_iter().filter(|p| p.extension() == Some("kv".as_ref())).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let contexts = files[0].parent().unwrap();
    // A file where the folder should be: nothing can be written below it.
    std::fs::remove_dir_all(contexts).unwrap();
    std::fs::write(contexts, "in the way").unwrap();
    let Err(InferletError::Program(reason)) = run(&bench, &["save", "persistent two"]).await else {
        panic!("it cannot be saved")
    };
    assert!(reason.contains("cannot write the snapshot"), "{reason}");
    let Err(InferletError::Program(reason)) = run(&bench, &["open", "persistent two"]).await else {
        panic!("it was not saved")
    };
    assert!(reason.contains("not found"), "{reason}");
    assert_eq!(good(&bench, &["open", "persistent one"]).await, drawn, "what was there before");
    let stats = bench.stats().await;
    assert_eq!((stats.snapshots, stats.ops_refused), (1, 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_do_not_see_each_other() {
    let bench = Bench::new(128).await;
    good(&bench, &["save", "mine"]).await;
    let options =
        LaunchOptions { arguments: vec!["open".into(), "mine".into()], user: "other".into(), limits: None };
    let inferlet = bench.runtime.launch(&bench.program, options).unwrap();
    let Err(InferletError::Program(reason)) = inferlet.outcome().await else {
        panic!("not the other user's")
    };
    assert!(reason.contains("not found"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_program_are_refused_by_name() {
    let bench = Bench::new(16).await;
    let load = async |bytes: &[u8]| bench.runtime.load(bytes.to_vec(), None).await.err().unwrap().to_string();
    assert!(load(b"hello, world").await.contains("not WebAssembly"));
    assert!(load(b"\0asm\x01\0\0\0").await.contains("core module"));
    assert!(load(b"\0asm\x0d\0\x01\0").await.contains("exports neither `run`"));
    // Names such as `pie:inferlet/forward@0.2.0`; those of WASI have versions of their own.
    let mut bytes = bench.wasm.clone();
    let names = bench.wasm.windows(13).enumerate().filter(|(_, bytes)| *bytes == b"pie:inferlet/");
    for (at, _) in names {
        let version =
            bench.wasm[at..].iter().take(40).position(|byte| *byte == b'@').map(|name| at + name + 1);
        if let Some(at) = version.filter(|at| bench.wasm[*at..].starts_with(b"0.3.0")) {
            bytes[at..at + 5].copy_from_slice(b"0.9.0");
        }
    }
    let refused = load(&bytes).await;
    assert!(refused.contains("0.9.0") && refused.contains("0.3.0"), "{refused}");
    assert!(bench.runtime.find("nonsense").await.err().unwrap().to_string().contains("test-programs"));
}

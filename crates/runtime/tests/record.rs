//! A recording has every call that takes time.

mod common;

use common::Bench;
use runtime::LaunchOptions;
use tokio::sync::oneshot;

/// The functions of `wit/` that take time, as `interface.function`.
fn async_functions() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let interface = path.file_stem().unwrap().to_str().unwrap().to_string();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let Some((name, rest)) = line.trim().split_once(':') else { continue };
            if rest.trim_start().trim_start_matches("static ").starts_with("async func")
                && !name.contains(' ')
            {
                found.push(format!("{interface}.{name}"));
            }
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_function_that_takes_time_is_a_call_of_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with_data(64, folder.path()).await;
    let (begin, begun) = oneshot::channel::<()>();
    let (end, ended) = oneshot::channel::<()>();
    let runtime = bench.runtime.clone();
    let recording = tokio::spawn(async move {
        let end = async {
            begin.send(()).unwrap();
            ended.await.unwrap();
        };
        runtime.record(end).await.unwrap()
    });
    // Its end is waited for once the recording has begun, and then a second one is refused. Trying until one is refused would
    // refuse the first one now and then.
    begun.await.unwrap();
    assert!(bench.runtime.record(std::future::ready(())).await.is_err());
    let arguments = ["awaits", "one-by-one"].map(String::from).to_vec();
    let options = LaunchOptions { arguments, user: "test".into(), limits: None };
    let mut inferlet = bench.runtime.launch(&bench.program, options).unwrap();
    let input = inferlet.take_input().unwrap();
    assert!(input.send("text".into()).await && input.send_blob(vec![7]).await);
    drop(input);
    while inferlet.next_event().await.is_some() {}
    inferlet.outcome().await.unwrap();
    end.send(()).unwrap();
    let recording = recording.await.unwrap();
    assert_eq!(recording.dropped(), 0);
    let bytes = recording.encode();
    let has = |name: &str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
    let missing: Vec<String> = async_functions().into_iter().filter(|name| !has(name)).collect();
    assert!(missing.is_empty(), "not in the recording: {missing:?}");
    assert!(has(inferlet.id()) && has("test-programs"));
}

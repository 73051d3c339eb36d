//! Programs that users upload: what is kept, for whom, and what is refused.

mod common;

use std::path::Path;

use common::Bench;
use runtime::{
    GrantOptions, LaunchError, LaunchOptions, ProgramError, RuntimeConfig, Taken, UploadError, UserLimits,
};

/// The test programs, with other bytes for another mark.
fn marked(bench: &Bench, mark: u8) -> Vec<u8> {
    let mut wasm = bench.wasm.clone();
    // A custom section: its id, its length, the length of its name, and the name.
    wasm.extend([0, 2, 1, mark]);
    wasm
}

fn hash(wasm: &[u8]) -> String {
    blake3::hash(wasm).to_hex().to_string()
}

async fn bench(data: &Path, limits: UserLimits) -> Bench {
    let config = RuntimeConfig { data: Some(data.to_path_buf()), user_limits: limits, ..Bench::config() };
    let scheduler = scheduler::SchedulerConfig::default();
    Bench::of(&["tiny"], 16, config, &scheduler, |fake| Box::new(fake)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_its_users_and_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = bench(folder.path(), UserLimits::default()).await;
    let wasm = marked(&first, 1);
    let hash = hash(&wasm);
    for user in ["ann", "Ben / ../x"] {
        first.runtime.keep_program(user, &hash, wasm.clone()).await.unwrap();
        // Twice is once.
        first.runtime.keep_program(user, &hash, wasm.clone()).await.unwrap();
    }
    first.runtime.install_program("ann", &hash, "mine@1.0").await.unwrap();
    assert!(first.runtime.has_program("ann", &hash) && !first.runtime.has_program("eve", &hash));
    drop(first);

    let again = bench(folder.path(), UserLimits::default()).await;
    let runtime = &again.runtime;
    assert_eq!(runtime.uploaded("ann"), [(None, hash.clone()), (Some("mine@1.0".into()), hash.clone())]);
    assert_eq!(runtime.uploaded("Ben / ../x"), [(None, hash.clone())]);
    for name in [hash.as_str(), "mine@1.0", "mine"] {
        let found = runtime.find_for("ann", name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.hash(), hash, "{name}");
        assert!(runtime.loaded_for("ann", name).is_some(), "{name}");
        assert!(runtime.loaded_for("eve", name).is_none(), "{name}");
        let refused = runtime.find_for("eve", name).await;
        assert!(matches!(refused, Err(ProgramError::Unknown { .. })), "{name}");
    }
    runtime.remove_program("ann", &hash).await.unwrap();
    assert!(matches!(runtime.remove_program("ann", &hash).await, Err(UploadError::Unknown(_))));
    assert!(runtime.uploaded("ann").is_empty() && runtime.loaded_for("ann", &hash).is_none());
    let left = common::walk(&folder.path().join("programs"));
    assert_eq!(left.len(), 1, "the other user's: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_version_is_meant_and_a_name_of_the_server_goes_before() {
    let folder = tempfile::tempdir().unwrap();
    let bench = bench(folder.path(), UserLimits::default()).await;
    let runtime = &bench.runtime;
    let hashes: Vec<String> = [1, 2].map(|mark| hash(&marked(&bench, mark))).to_vec();
    for (mark, hash) in [1, 2].into_iter().zip(&hashes) {
        runtime.keep_program("ann", hash, marked(&bench, mark)).await.unwrap();
    }
    for (hash, name) in [(&hashes[1], "p@2"), (&hashes[0], "p@10"), (&hashes[0], "test-programs@1")] {
        runtime.install_program("ann", hash, name).await.unwrap();
        // Times of files tell apart what was installed one after the other.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(runtime.find_for("ann", "p").await.unwrap().hash(), hashes[0]);
    assert_eq!(runtime.find_for("ann", "p@2").await.unwrap().hash(), hashes[1]);
    assert_eq!(runtime.find_for("ann", "test-programs").await.unwrap().hash(), bench.program.hash());
    let taken = runtime.install_program("ann", &hashes[0], "p@2").await;
    assert!(matches!(taken, Err(UploadError::NameTaken { hash, .. }) if hash == hashes[1]));
    runtime.install_program("ann", &hashes[1], "p@2").await.unwrap();
    for name in
        ["", "p", "@1", "p@", "../p@1", "p@1/2", "p@1 ", ".p@1", "p@1@2", "p@1.part", "ä@1", &"p".repeat(200)]
    {
        let refused = runtime.install_program("ann", &hashes[0], name).await;
        assert!(matches!(refused, Err(UploadError::Name(_))), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_or_too_much_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let limits = UserLimits { programs: 2, ..UserLimits::default() };
    let bench = bench(folder.path(), limits).await;
    let runtime = &bench.runtime;
    let wasm = marked(&bench, 1);
    let mut damaged = wasm.clone();
    damaged[100] ^= 1;
    let refused = runtime.keep_program("ann", &hash(&wasm), damaged.clone()).await;
    assert!(matches!(refused, Err(UploadError::HashMismatch { .. })));
    let refused = runtime.keep_program("ann", "no hash", wasm.clone()).await;
    assert!(matches!(refused, Err(UploadError::Hash(_))));
    let text = b"not a program".to_vec();
    let refused = runtime.keep_program("ann", &hash(&text), text).await;
    assert!(matches!(refused, Err(UploadError::Program(ProgramError::NotWasm { .. }))));
    assert!(runtime.uploaded("ann").is_empty());
    assert!(common::walk(&folder.path().join("programs")).is_empty());

    for mark in [1, 2] {
        let wasm = marked(&bench, mark);
        runtime.keep_program("ann", &hash(&wasm), wasm).await.unwrap();
    }
    let wasm = marked(&bench, 3);
    let refused = runtime.keep_program("ann", &hash(&wasm), wasm.clone()).await;
    assert!(matches!(refused, Err(UploadError::Limit(_))));
    assert!(matches!(runtime.check_upload("ann", &hash(&wasm), 1), Err(UploadError::Limit(_))));
    runtime.check_upload("bob", &hash(&wasm), 1).unwrap();
    assert!(matches!(runtime.check_upload("bob", &hash(&wasm), 2 << 30), Err(UploadError::Limit(_))));
    assert_eq!(runtime.usage_of("ann").programs, Taken { taken: 2, limit: 2 });
}

/// A key that lists programs is not widened by what its user calls an upload, nor by its hash.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_a_user_gave_opens_nothing() {
    let bench = Bench::new(16).await;
    let runtime = &bench.runtime;
    let wasm = marked(&bench, 1);
    let hash = hash(&wasm);
    runtime.keep_program("ann", &hash, wasm).await.unwrap();
    runtime.install_program("ann", &hash, "allowed@1").await.unwrap();
    let grant = |program: &str| {
        let programs = Some(vec![program.to_string()]);
        runtime.grant(GrantOptions {
            name: "k".into(),
            user: "ann".into(),
            programs,
            ..GrantOptions::default()
        })
    };
    let arguments = vec!["hello".to_string()];
    let options = LaunchOptions { arguments, ..LaunchOptions::default() };
    for name in ["allowed", "allowed@1", &hash] {
        let program = runtime.find_for("ann", name).await.unwrap();
        for listed in ["allowed", "allowed@1", &hash[..12]] {
            let refused = runtime.launch_under(&program, options.clone(), &grant(listed));
            assert!(matches!(refused, Err(LaunchError::NotAllowed(_))), "{name} by {listed}");
        }
        let inferlet = runtime.launch_under(&program, options.clone(), &grant(&hash)).unwrap();
        assert_eq!(inferlet.outcome().await.as_deref(), Ok("hello "));
    }
    // And the server's own of the same bytes goes by its name, whoever brought them first.
    let own = runtime.load(marked(&bench, 1), Some("own".into())).await.unwrap();
    assert_eq!(own.label(), "own");
    let inferlet = runtime.launch_under(&own, options, &grant("own")).unwrap();
    inferlet.outcome().await.unwrap();
    bench.assert_clean().await;
}

//! An inferlet that is ended at each of its awaits gives everything back.
//!
//! The program makes every call that takes time (`tests/programs/src/awaits.rs`). Each poll of its store that returns
//! pending is an await, of the program or within a call of the host; it is killed at the first one, then at the second
//! one, until it ends by itself. In a second series the program itself drops what it awaits, at each of its own polls.

use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use backend::{Backend, FakeBackend};
use scheduler::{ContextOp, NewContext, Priority, SchedulerConfig};

use super::{ClientEnds, InferletError, LaunchOptions, register, run, supervise};
use crate::common::Bench;
use crate::common::faults::{FaultyBackend, Seen};
use crate::inferlet::InferletState;
use crate::snapshot_files::snapshot_key;
use crate::{Inferlet, InferletLimits, RuntimeConfig};

/// Kills the inferlet when its work has been pending so often.
struct KillAt<F> {
    work: Pin<Box<F>>,
    at: u32,
    pending: Arc<AtomicU32>,
    inferlet: Arc<InferletState>,
}

impl<F: Future> Future for KillAt<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let answer = self.work.as_mut().poll(context);
        if answer.is_pending() && self.pending.fetch_add(1, Ordering::Relaxed) + 1 == self.at {
            self.inferlet.kill();
        }
        answer
    }
}

struct World {
    bench: Bench,
    seen: Arc<Mutex<Seen>>,
}

impl World {
    /// So few pages of host memory that not all that is on disk fits.
    async fn new(data: &Path, host_pages: u32) -> World {
        let mut seen = Arc::default();
        let backend = |fake: FakeBackend| {
            let (backend, counts) = FaultyBackend::new(fake, 0, 0);
            seen = counts;
            Box::new(backend) as Box<dyn Backend>
        };
        let config = RuntimeConfig { data: Some(data.to_path_buf()), inferlets: 4, ..Bench::config() };
        let scheduler = SchedulerConfig { host_pages, ..SchedulerConfig::default() };
        let bench = Bench::of(&["tiny"], 64, config, &scheduler, backend).await;
        World { bench, seen }
    }

    fn options(words: &[&str]) -> LaunchOptions {
        let arguments = words.iter().map(ToString::to_string).collect();
        LaunchOptions { arguments, user: "test".into(), limits: None }
    }

    /// Runs a case and kills it when it has been pending `at` times. Gives how often it was, and its outcome.
    async fn kill_at(&self, words: &[&str], at: u32) -> (u32, Result<String, InferletError>) {
        let entry = self.bench.program.run.clone().expect("the test programs have a `run`");
        let (registration, client) =
            register(&self.bench.runtime.0, (&*self.bench.program).into(), World::options(words), None, None)
                .expect("there is room");
        let pending = Arc::new(AtomicU32::new(0));
        let count = pending.clone();
        let turns = registration.inferlet.user.turns.clone();
        let inferlet = turns.spawn(async move {
            let inferlet = registration.inferlet.clone();
            let work = Box::pin(run(&registration, &entry));
            supervise(&registration, KillAt { work, at, pending, inferlet }).await
        });
        let ClientEnds { mut events, texts, blobs } = client;
        // It may have ended already.
        let _ = (texts.send("text".into(), 4).await, blobs.send(vec![7], 1).await);
        drop((texts, blobs));
        while events.receive().await.is_some() {}
        let outcome = inferlet.await;
        (count.load(Ordering::Relaxed), outcome)
    }

    /// Runs a case to its end.
    async fn run(&self, words: &[&str]) -> Result<String, InferletError> {
        let options = World::options(words);
        let mut inferlet: Inferlet =
            self.bench.runtime.launch(&self.bench.program, options).expect("there is room");
        let input = inferlet.take_input().expect("the first time");
        input.send("text".into()).await;
        input.send_blob(vec![7]).await;
        drop(input);
        while inferlet.next_event().await.is_some() {}
        inferlet.outcome().await
    }

    /// Nothing is held, but by those that the program launched, which go on.
    async fn check(&self, case: &str, data: &Path) {
        for child in self.bench.runtime.list() {
            self.bench.runtime.kill(&child.id);
        }
        self.bench.settled().await;
        for engine in self.bench.engines() {
            let hidden = engine.list("saving ".into()).await.unwrap().unwrap();
            assert!(hidden.is_empty(), "{case}: hidden snapshots: {hidden:?}");
        }
        // What it had saved by then is its user's, who sees it and can delete it.
        self.run(&["random", "clean"]).await.unwrap_or_else(|error| panic!("{case}: {error}"));
        self.bench.assert_clean().await;
        let files = crate::common::walk(&data.join("snapshots"));
        assert!(files.is_empty(), "{case}: files of snapshots that no user has: {files:?}");
        let seen = self.seen.lock().unwrap();
        assert!(
            seen.adapters.is_empty() && seen.wrong.is_empty(),
            "{case}: {:?} {:?}",
            seen.adapters,
            seen.wrong
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_await_it_gives_everything_back() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path(), 6).await;
    for order in ["one-by-one", "together"] {
        let mut at = 1;
        loop {
            let (pending, outcome) = world.kill_at(&["awaits", order], at).await;
            let case = format!("{order}, killed at await {at}");
            world.check(&case, folder.path()).await;
            if pending < at {
                outcome.unwrap_or_else(|error| panic!("{order}: {error}"));
                break;
            }
            // Pending for the last time, it may end before it sees that it was killed.
            assert!(matches!(outcome, Ok(_) | Err(InferletError::Killed)), "{case}: {outcome:?}");
            at += 1;
        }
        assert!(at > 10, "{order}: only {at} awaits");
    }
}

/// The program drops what it awaits, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_future_dropped_at_every_poll_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path(), 6).await;
    for order in ["one-by-one", "together"] {
        for delay_ms in [0, 2] {
            let mut at = 1;
            loop {
                let case = format!("{order}/{at}/{delay_ms}");
                let pending = world.run(&["awaits", &case]).await.unwrap_or_else(|e| panic!("{case}: {e}"));
                world.check(&case, folder.path()).await;
                if pending.parse::<u32>().unwrap() < at {
                    break;
                }
                at += 1;
            }
            assert!(at > 5, "{order}: pending only {at} times");
        }
    }
}

/// As the first, for contexts that have to be read from disk and take the room of others.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_snapshot_is_read_it_leaves_none_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["persistent one", "persistent two", "persistent three"];
    for at in 1.. {
        let world = World::new(folder.path(), 6).await;
        for name in names {
            world.run(&["save", name]).await.unwrap();
        }
        drop(world);
        // The engine has some of them now.
        let world = World::new(folder.path(), 6).await;
        let mut ended = true;
        for name in names {
            let (pending, outcome) = world.kill_at(&["open", name], at).await;
            if pending >= at {
                ended = false;
                assert!(matches!(outcome, Ok(_) | Err(InferletError::Killed)), "{name}, {at}: {outcome:?}");
            } else {
                outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
        world.bench.settled().await;
        let deleted = world.run(&["random", "clean"]).await.unwrap();
        assert_eq!(deleted, "3", "killed at await {at}, the user sees other snapshots than were saved");
        world.check(&format!("killed at await {at} of an open"), folder.path()).await;
        if ended {
            assert!(at > 3, "only {at} awaits");
            return;
        }
    }
}

/// Host memory has room for four of eight snapshots, and four programs open four of them at once, of which some have to be
/// read: none takes the room that another has made, or what another is about to open.
#[tokio::test(flavor = "multi_thread")]
async fn snapshots_that_are_read_at_once_are_all_opened() {
    let folder = tempfile::tempdir().unwrap();
    let names = [1, 2, 3, 4, 5, 6, 7, 8].map(|nth| format!("persistent {nth}"));
    let world = World::new(folder.path(), 21).await;
    for name in &names {
        world.run(&["save", name]).await.unwrap();
    }
    drop(world);
    for turn in 0..20 {
        let world = World::new(folder.path(), 21).await;
        let open = async |name: &str| {
            world.run(&["open", name]).await.unwrap_or_else(|error| panic!("{name}, {turn}: {error}"));
        };
        for names in names.chunks(4) {
            tokio::join!(open(&names[0]), open(&names[1]), open(&names[2]), open(&names[3]));
        }
        world.bench.settled().await;
    }
    let world = World::new(folder.path(), 21).await;
    assert_eq!(world.run(&["random", "clean"]).await.unwrap(), "8");
    world.check("opened at once", folder.path()).await;
}

/// An open that is given up counts among the contexts of its inferlet no more.
#[tokio::test(flavor = "multi_thread")]
async fn opens_that_are_given_up_leave_room() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path(), 6).await;
    for name in ["persistent", "here"] {
        let saved = world.run(&["save", name]).await.unwrap();
        let limits = InferletLimits { contexts: 4, ..world.bench.limits() };
        let mut inferlet = world.bench.launch(&["open-given-up", name], Some(limits));
        while inferlet.next_event().await.is_some() {}
        assert_eq!(inferlet.outcome().await.unwrap(), saved, "{name}");
    }
    world.check("opens that were given up", folder.path()).await;
}

/// Its file is removed when it has been read, and before the engine has it: what asked for it has it, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_deleted_while_it_is_read_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path(), 6).await;
    let shared = world.bench.runtime.0.clone();
    let model = shared.models[0].clone();
    for name in ["persistent one", "persistent two"] {
        world.run(&["save", name]).await.unwrap();
    }
    for name in ["persistent one", "persistent two"] {
        let key = snapshot_key("test", name);
        let (registration, _client) =
            register(&shared, (&*world.bench.program).into(), World::options(&[]), None, None).unwrap();
        let (owner, tenant) = (registration.inferlet.owner, registration.inferlet.user.tenant);
        let context = NewContext { id: shared.next_context(), owner, priority: Priority::Normal, tenant };
        let version = shared.snapshots.find(&model, &key).expect("it has a file");
        // As a `delete` would, which the engine has heard of before.
        model.engine.apply(ContextOp::DropSnapshot { key: key.clone() }).unwrap();
        let meanwhile = {
            let (shared, model, key) = (shared.clone(), model.clone(), key.clone());
            move || shared.snapshots.remove_file(&model, &key, version).is_ok()
        };
        let loaded =
            shared.snapshots.load(&shared.workers, &registration.inferlet, &model, &key, context, meanwhile);
        let opened = loaded.await.unwrap().expect("it was there when it was read");
        assert!(opened.length > 0, "{name}");
        assert_eq!(model.engine.has(key).await.unwrap(), Ok(false), "{name} is back");
    }
    assert_eq!(shared.snapshots.list(&model, ""), []);
    drop((shared, model));
    world.bench.settled().await;
    assert_eq!(world.run(&["random", "clean"]).await.unwrap(), "0");
}

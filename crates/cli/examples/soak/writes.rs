//! A server that is killed, with `kill -9`, while it writes: programs that are uploaded and named, values that programs store,
//! contexts that they save; and `pie key` that is killed while it changes keys. What was acknowledged is there afterwards, and
//! nothing is read that was not written to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use protocol::client::{Client, Options as ClientOptions};

use crate::http::percentile;
use crate::server::{Home, Server};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 100)]
    kills: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What the server has acknowledged.
#[derive(Default)]
struct Kept {
    /// Names of programs, with their hashes.
    names: BTreeMap<String, String>,
    /// Hashes of programs without a name.
    programs: BTreeSet<String>,
    /// Keys of the store, in the order in which they were written; some of them twice.
    values: Vec<String>,
    /// Names of saved contexts, and what is drawn after each.
    contexts: BTreeMap<String, String>,
    /// Programs, values and contexts that were acknowledged, those too that took the place of others.
    written: [u64; 3],
}

type Shared = Arc<Mutex<Kept>>;

/// Notes what was acknowledged: a program, a value or a context.
fn keep(kept: &Shared, kind: usize, note: impl FnOnce(&mut Kept)) {
    let mut kept = kept.lock().expect("not poisoned");
    note(&mut kept);
    kept.written[kind] += 1;
}

fn written(kept: &Shared) -> [u64; 3] {
    kept.lock().expect("not poisoned").written
}

pub(crate) async fn run(model: &Path, options: &Options) -> Result<()> {
    let home = Home::new()?;
    let key = home.pie(&["key", "add", "writer"])?;
    let kept = Shared::default();
    let mut random = fastrand::Rng::with_seed(options.seed);
    let mut starts = Vec::new();
    let (mut open_keys, mut cut_keys) = (Vec::<String>::new(), 0);
    // Compiles the program that writes, once.
    let server = home.start(model, CONFIG, true).await?;
    let client = session(&server, &key).await?;
    let said = result(&client, "test-programs", ["hello", "there"]).await;
    ensure!(matches!(said, Some(Ok(_))), "the program that writes does not run: {said:?}");
    client.close().await;
    server.stop()?;
    for kill in 0..options.kills {
        let server = home.start(model, CONFIG, true).await?;
        starts.push(server.started_in);
        check(&home, &server, &key, &kept, kill).await?;
        for key in &open_keys {
            session(&server, key)
                .await
                .with_context(|| format!("after kill {kill} a key opens nothing"))?
                .close()
                .await;
        }
        let client = session(&server, &key).await?;
        let (round, before) = (u64::from(kill), written(&kept));
        let writers = [
            tokio::spawn(upload(client.clone(), kept.clone(), round)),
            tokio::spawn(store(client.clone(), kept.clone(), round)),
            tokio::spawn(save(client.clone(), kept.clone(), round)),
        ];
        // Keys are a file of the operator's, which another process writes: that is killed too.
        let name = format!("key-{kill}");
        let after = Duration::from_micros(random.u64(0..200_000));
        match home.killed_after(&["key", "add", &name], after)? {
            true => open_keys.push(home.pie(&["key", "add", &format!("open-{kill}")])?),
            false => cut_keys += 1,
        }
        home.pie(&["key", "list"])
            .with_context(|| format!("after `pie key` was killed {after:?} after its start"))?;
        // Every third one comes when a program, a value and a context have been kept since the start: else a slow machine
        // would keep nothing.
        let asked = Instant::now();
        while kill % 3 == 0 && written(&kept).iter().zip(before).any(|(now, before)| *now == before) {
            ensure!(
                asked.elapsed() < Duration::from_secs(120),
                "not everything was written once in two minutes"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(20..2500))).await;
        server.kill()?;
        for one in writers {
            one.abort();
            if let Err(error) = one.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        let now = kept.lock().expect("not poisoned");
        eprint!(
            "\r{} kills, {} names, {} values, {} contexts",
            kill + 1,
            now.names.len(),
            now.values.len(),
            now.contexts.len()
        );
    }
    eprintln!();
    let server = home.start(model, CONFIG, true).await?;
    check(&home, &server, &key, &kept, options.kills).await?;
    let (names, programs, values, contexts) = {
        let kept = kept.lock().expect("not poisoned");
        let values = kept.values.iter().collect::<BTreeSet<_>>().len();
        (kept.names.len(), kept.programs.len(), values, kept.contexts.len())
    };
    println!(
        "{} kills: {names} names, {programs} programs without one, {values} values and {contexts} saved contexts are there, whole; \
         {} keys open, {cut_keys} changes of keys were cut; ready again in p50 {:.0} ms",
        options.kills,
        open_keys.len(),
        percentile(&mut starts, 50),
    );
    server.stop()
}

/// Every write of a run has room.
const CONFIG: &str = "[limits]\nuser_programs = 4096\nuser_program_mb = 8192\n";

async fn session(server: &Server, key: &str) -> Result<Client> {
    let address = format!("http://{}", server.client.address);
    let patience = Duration::from_millis(1);
    Ok(Client::connect(ClientOptions { key: Some(key.to_string()), patience, ..ClientOptions::new(address) })
        .await?)
}

/// The test program, with bytes behind it that make it another one.
fn variant(round: u64, number: u64) -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/programs/target/wasm32-wasip2/release/test_programs.wasm");
    let mut wasm = std::fs::read(path).context("`cargo xtask guests` builds it")?;
    let mark = format!("{round}-{number}");
    // A custom section: its id, its length, and the name, which is all that it has.
    wasm.extend([0, mark.len() as u8 + 1, mark.len() as u8]);
    wasm.extend(mark.as_bytes());
    Ok(wasm)
}

/// Uploads programs and gives every second one a name, until the server is gone.
async fn upload(client: Client, kept: Shared, round: u64) {
    for number in 0.. {
        let wasm = variant(round, number).expect("the test program is there");
        let Ok(hash) = client.keep(&wasm, |_, _| ()).await else { return };
        if (round + number) % 2 == 1 {
            keep(&kept, 0, |kept| kept.programs.extend([hash]));
            continue;
        }
        let name = format!("program-{round}@{number}");
        let Ok(()) = client.install(&hash, &name).await else { return };
        keep(&kept, 0, |kept| kept.names.extend([(name, hash)]));
    }
}

/// Runs the test program to its end; none where the server is gone.
async fn result(
    client: &Client,
    program: &str,
    words: [&str; 2],
) -> Option<Result<String, protocol::Failure>> {
    let mut inferlet = client.launch(program, &words.map(str::to_string)).await.ok()?;
    while inferlet.next().await.ok()?.is_some() {}
    inferlet.outcome().await.ok()
}

/// Values are written anew after so many of a round, and after so many rounds: a user may have 65,536 of them.
const VALUES: u64 = 256;
const ROUNDS: u64 = 200;

/// Stores values until the server is gone.
async fn store(client: Client, kept: Shared, round: u64) {
    for number in 0.. {
        let key = format!("value-{}-{}", round % ROUNDS, number % VALUES);
        let Some(done) = result(&client, "test-programs", ["put", &key]).await else { return };
        done.unwrap_or_else(|failure| panic!("`{key}` was not stored: {failure:?}"));
        keep(&kept, 1, |kept| kept.values.push(key));
    }
}

/// Saves contexts until the server is gone; some of them under a name that was there, in whose place they are.
async fn save(client: Client, kept: Shared, round: u64) {
    for number in 0.. {
        let name = format!("persistent-{}", (round * 7 + number) % 32);
        let Some(done) = result(&client, "test-programs", ["save", &name]).await else { return };
        let drawn = done.unwrap_or_else(|failure| panic!("`{name}` was not saved: {failure:?}"));
        keep(&kept, 2, |kept| kept.contexts.extend([(name, drawn)]));
    }
}

/// Names looked at by launching them, and values and contexts read, after one kill: the newest.
const LOOKED_AT: usize = 12;

/// Whether all that was acknowledged is there.
async fn check(home: &Home, server: &Server, key: &str, kept: &Shared, kill: u32) -> Result<()> {
    let after = || format!("after kill {kill}");
    let client = session(server, key).await.with_context(after)?;
    let listed = client.programs().await.with_context(after)?;
    let (names, programs, values, contexts) = {
        let kept = kept.lock().expect("not poisoned");
        let values: Vec<_> = kept.values.iter().rev().take(LOOKED_AT).cloned().collect();
        let contexts = kept.contexts.clone();
        (kept.names.clone(), kept.programs.clone(), values, contexts)
    };
    for (name, hash) in &names {
        let found = listed.iter().find(|one| one.name.as_ref() == Some(name));
        ensure!(
            found.is_some_and(|one| one.hash.as_ref() == Some(hash)),
            "{}: `{name}` is {found:?}",
            after()
        );
    }
    for hash in &programs {
        ensure!(
            listed.iter().any(|one| one.hash.as_ref() == Some(hash)),
            "{}: program {hash} is gone",
            after()
        );
    }
    // What is listed runs, whether its writer heard of it or not.
    let of_user = listed.iter().filter(|one| one.source == protocol::ProgramSource::User);
    for one in of_user.rev().take(LOOKED_AT) {
        let program = one.name.as_ref().or(one.hash.as_ref()).context("a name or a hash")?;
        let said = result(&client, program, ["hello", "again"]).await;
        ensure!(
            matches!(&said, Some(Ok(text)) if text == "hello again"),
            "{}: `{program}`: {said:?}",
            after()
        );
    }
    for (hash, file) in home.uploads()? {
        let found = blake3::hash(&std::fs::read(&file)?).to_hex().to_string();
        ensure!(found == hash, "{}: {} has the hash {found}", after(), file.display());
    }
    for value in &values {
        let said = result(&client, "test-programs", ["got", value]).await;
        ensure!(matches!(said, Some(Ok(_))), "{}: `{value}`: {said:?}", after());
    }
    for (name, drawn) in &contexts {
        let said = result(&client, "test-programs", ["open", name]).await;
        ensure!(
            matches!(&said, Some(Ok(text)) if text == drawn),
            "{}: `{name}` draws {said:?}, drew {drawn}",
            after()
        );
    }
    let closing = Instant::now();
    client.close().await;
    ensure!(closing.elapsed() < Duration::from_secs(60), "{}: a session takes a minute to close", after());
    Ok(())
}

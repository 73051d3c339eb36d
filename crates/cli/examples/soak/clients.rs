//! Clients in a closed loop: most read what they asked for, some leave in the middle, send what is damaged, or keep responses
//! and delete them; keys are taken away from some while they work, which kills their inferlets.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::http::{Client, prompt};
use crate::server::{Held, Home};

/// The most rounds of 15 s until memory is flat.
const WARM_UP: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 64)]
    clients: u64,
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// Of what clients do.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Default)]
struct Counts {
    whole: AtomicU64,
    left: AtomicU64,
    damaged: AtomicU64,
    kept: AtomicU64,
    killed: AtomicU64,
    refused: AtomicU64,
}

/// A key that others take away, and what it is called.
type Guest = Arc<Mutex<(String, String)>>;

pub(crate) async fn run(model: &Path, options: &Options) -> Result<()> {
    let home = Home::new()?;
    let operator = home.pie(&["key", "add", "operator", "--admin"])?;
    let key = home.pie(&["key", "add", "clients"])?;
    let guest: Guest =
        Arc::new(Mutex::new(("guest-0".into(), home.pie(&["key", "add", "guest-0", "--user", "guest"])?)));
    let server = home
        .start(model, "[http]\nconnections_per_address = 4096\nhead_ms = 5000\nbody_ms = 5000\n", true)
        .await?;
    let of = |key: &str| Client { key: Some(key.to_string()), ..server.client.clone() };
    let (operator, client) = (of(&operator), of(&key));
    let counts = Arc::new(Counts::default());

    // Before anything is compared every program has run once, every buffer has its size, and every page of the pool has been
    // written once: the system gives memory when it is first touched.
    let mut before = server.quiet(&operator).await?;
    for _ in 0..WARM_UP {
        let smaller = before.memory_mib;
        load(&client, &guest, options, Duration::from_secs(15), &counts).await?;
        before = server.quiet(&operator).await?;
        if before.memory_mib < smaller * 1.01 {
            break;
        }
    }
    let files_before = home.files()?;
    println!("before: {before:?}");
    let start = Instant::now();
    let time = Duration::from_secs(options.seconds);
    let working = load(&client, &guest, options, time, &counts);
    let watching = async {
        let mut most: f64 = 0.0;
        while start.elapsed() < time {
            tokio::time::sleep(Duration::from_secs(10).min(time)).await;
            let held = server.held(&operator).await?;
            most = most.max(held.memory_mib);
            eprintln!("{:>5.0} s: {held:?}", start.elapsed().as_secs_f64());
        }
        Ok::<f64, anyhow::Error>(most)
    };
    let killing = async {
        let mut at = 0;
        while start.elapsed() < time {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let (name, next) = (guest.lock().expect("not poisoned").0.clone(), format!("guest-{}", at + 1));
            let key = home.pie(&["key", "add", &next, "--user", "guest"])?;
            tokio::time::sleep(Duration::from_millis(1200)).await;
            *guest.lock().expect("not poisoned") = (next, key);
            home.pie(&["key", "revoke", &name])?;
            at += 1;
        }
        Ok::<u64, anyhow::Error>(at)
    };
    let (worked, most, revoked) = tokio::join!(working, watching, killing);
    worked?;
    let (most, revoked) = (most?, revoked?);
    let after = server.quiet(&operator).await?;
    println!("after:  {after:?}; at most {most:.0} MiB");
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "{} clients, {:.0} s: {} read to their end, {} left in the middle, {} damaged, {} kept and deleted, {} killed by \
         {revoked} revoked keys, {} refused",
        options.clients,
        start.elapsed().as_secs_f64(),
        of(&counts.whole),
        of(&counts.left),
        of(&counts.damaged),
        of(&counts.kept),
        of(&counts.killed),
        of(&counts.refused)
    );
    let Held { pages, inferlets, files, .. } = after;
    ensure!((pages, inferlets) == (before.pages, before.inferlets), "pages or inferlets are left");
    ensure!(files <= before.files + 2, "files are open that nobody uses");
    let files_after = home.files()?;
    let new: Vec<_> = files_after.iter().filter(|file| !files_before.contains(file)).collect();
    ensure!(new.is_empty(), "files are left: {new:?}");
    ensure!(after.memory_mib < before.memory_mib * 1.1 + 64.0, "memory grew from {before:?} to {after:?}");
    server.stop()
}

/// All clients, for so long.
async fn load(
    client: &Client,
    guest: &Guest,
    options: &Options,
    time: Duration,
    counts: &Arc<Counts>,
) -> Result<()> {
    let end = Instant::now() + time;
    let seeds = (0..options.clients).map(|at| options.seed * 1_000_003 + at);
    let clients = seeds.map(|seed| {
        let (client, guest, counts) = (client.clone(), guest.clone(), counts.clone());
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            while Instant::now() < end {
                step(&client, &guest, &mut random, &counts).await?;
            }
            Ok::<(), anyhow::Error>(())
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    Ok(())
}

async fn step(client: &Client, guest: &Guest, random: &mut fastrand::Rng, counts: &Counts) -> Result<()> {
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    let prompt = prompt(random.u64(..), random.usize(4..200));
    match random.u32(..100) {
        0..45 => match client.stream(&prompt, random.u32(1..48)).await? {
            Ok(_) => count(&counts.whole),
            Err(429 | 503) => count(&counts.refused),
            Err(status) => anyhow::bail!("a good request was answered {status}"),
        },
        45..70 => {
            let body = json!({ "prompt": prompt, "max_tokens": 2000, "ignore_eos": true, "stream": true })
                .to_string();
            let mut stream = client.send(client.request("POST", "/v1/completions", &body).as_bytes()).await?;
            let mut some = vec![0; random.usize(1..4000)];
            let patience = Duration::from_millis(random.u64(1..1500));
            let _ = tokio::time::timeout(patience, stream.read_exact(&mut some)).await;
            count(&counts.left)
        }
        70..82 => {
            let body = json!({ "prompt": prompt, "max_tokens": 4 }).to_string();
            let mut bytes = client.request("POST", "/v1/completions", &body).into_bytes();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(..bytes.len());
                match random.u32(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes.truncate(at.max(1)),
                    _ => drop(bytes.splice(at..at, (0..random.usize(1..64)).map(|_| 0xff))),
                }
            }
            if let Ok(mut stream) = client.send(&bytes).await {
                let mut answer = Vec::new();
                // One that is not whole is answered when the patience for it is over; this client has less.
                let patience = Duration::from_millis(random.u64(1..2000));
                let _ = tokio::time::timeout(patience, stream.read_to_end(&mut answer)).await;
            }
            count(&counts.damaged)
        }
        82..90 => {
            let body = json!({ "input": "Say hello.", "max_output_tokens": 16 }).to_string();
            let (status, answer) = client.ask("POST", "/v1/responses", &body).await?;
            if status == 200 {
                let path = format!("/v1/responses/{}", answer["id"].as_str().unwrap_or_default());
                let (status, answer) = client.ask("DELETE", &path, "").await?;
                ensure!(status == 200 || status == 429, "a kept response was not deleted: {status} {answer}");
                // Deleting is refused when the server is full: until there is room it is asked again.
                if status == 429 {
                    while client.ask("DELETE", &path, "").await?.0 == 429 {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
            count(&counts.kept)
        }
        _ => {
            let key = guest.lock().expect("not poisoned").1.clone();
            let guest = Client { key: Some(key), ..client.clone() };
            match guest.stream(&prompt, 200).await {
                Ok(Ok(_)) => count(&counts.whole),
                // Its key was taken away: before it came, or while it was answered.
                Ok(Err(401)) | Err(_) => count(&counts.killed),
                Ok(Err(429 | 503)) => count(&counts.refused),
                Ok(Err(status)) => anyhow::bail!("a guest was answered {status}"),
            }
        }
    };
    Ok(())
}

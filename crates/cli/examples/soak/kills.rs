//! A server that is killed while it works, with `kill -9`, and started again: what it had said is kept is there, whole.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::http::{Client, percentile, prompt};
use crate::server::Home;

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 100)]
    kills: u32,
    #[arg(long, default_value_t = 8)]
    clients: u64,
}

/// A response that the server has answered: its id, its text, and that it is the base of another one.
#[derive(Clone)]
struct Kept {
    id: String,
    output: String,
}

pub(crate) async fn run(model: &Path, options: &Options) -> Result<()> {
    let home = Home::new()?;
    let mut keys = vec![home.pie(&["key", "add", "first"])?];
    let kept: Arc<Mutex<Vec<Kept>>> = Arc::default();
    // Compiles the programs, once.
    home.start(model, "", true).await?.stop()?;
    let mut starts = Vec::new();
    let mut random = fastrand::Rng::with_seed(1);
    let (mut checked, mut continued) = (0, 0);
    for kill in 0..options.kills {
        let server = home.start(model, "", true).await?;
        starts.push(server.started_in);
        let client = Client { key: Some(keys[0].clone()), ..server.client.clone() };
        // All keys open, those made while it was killed too.
        for key in keys.iter().rev().take(3) {
            let client = Client { key: Some(key.clone()), ..server.client.clone() };
            let (status, answer) = client.ask("GET", "/v1/models", "").await?;
            ensure!(status == 200, "after kill {kill} a key opens nothing: {status} {answer}");
        }
        let before = kept.lock().expect("not poisoned").clone();
        for Kept { id, output } in before.iter().rev().take(8) {
            let (status, answer) = client.ask("GET", &format!("/v1/responses/{id}"), "").await?;
            ensure!(status == 200, "after kill {kill} response {id} is gone: {status} {answer}");
            ensure!(text(&answer) == *output, "after kill {kill} response {id} says something else");
            checked += 1;
        }
        // A conversation goes on from what was kept: its context is whole.
        if let Some(Kept { id, .. }) = before.last() {
            let body =
                json!({ "input": "Go on.", "previous_response_id": id, "max_output_tokens": 16 }).to_string();
            let (status, answer) = client.ask("POST", "/v1/responses", &body).await?;
            ensure!(status == 200, "after kill {kill} the conversation ends: {status} {answer}");
            continued += 1;
        }
        let work = (0..options.clients).map(|at| {
            let (client, kept, seed) = (client.clone(), kept.clone(), u64::from(kill) * 64 + at);
            tokio::spawn(async move {
                loop {
                    if at % 2 == 0 {
                        if client.stream(&prompt(seed, 100), 100).await.is_err() {
                            return;
                        }
                        continue;
                    }
                    let body =
                        json!({ "input": format!("Tell {seed}."), "max_output_tokens": 16 }).to_string();
                    let Ok((status, answer)) = client.ask("POST", "/v1/responses", &body).await else {
                        return;
                    };
                    assert_eq!(status, 200, "{answer}");
                    let id = answer["id"].as_str().unwrap_or_default().to_string();
                    kept.lock().expect("not poisoned").push(Kept { id, output: text(&answer) });
                }
            })
        });
        let work: Vec<_> = work.collect();
        // Every second one comes when something has been kept since the start: else a slow machine would keep nothing.
        let kept_now = || kept.lock().expect("not poisoned").len();
        let (floor, asked) = (before.len(), Instant::now());
        while kill % 2 == 0 && kept_now() == floor {
            ensure!(asked.elapsed() < Duration::from_secs(60), "no response in a minute");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(50..1500))).await;
        if kill % 4 == 0 {
            keys.push(home.pie(&["key", "add", &format!("key-{kill}")])?);
        }
        server.kill()?;
        for one in work {
            one.abort();
            if let Err(error) = one.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        eprint!("\r{} kills, {} responses kept", kill + 1, kept_now());
    }
    eprintln!();
    let server = home.start(model, "", true).await?;
    let most = starts.iter().max().copied().unwrap_or_default();
    println!(
        "{} kills: {} responses were kept, {checked} looked at, {continued} continued, {} keys; ready again in p50 {:.0} ms, at \
         most {:.0} ms",
        options.kills,
        kept.lock().expect("not poisoned").len(),
        keys.len(),
        percentile(&mut starts, 50),
        most.as_secs_f64() * 1e3
    );
    server.stop()
}

/// What a response says.
fn text(response: &serde_json::Value) -> String {
    response["output"].to_string()
}

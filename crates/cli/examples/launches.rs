//! What a launch over a session costs: `cargo run --release --workspace --example launches -- http://127.0.0.1:8080`.
//!
//! One client, one connection. A program that does nothing is launched alone, again and again: the time until the server
//! has answered that it is launched, and until its result has come. Then so many at once, until all results have come. Every
//! result is looked at. The client is on the machine of the server, and takes of its cores.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a table for the terminal")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use futures::future::try_join_all;
use protocol::client::{Client, Options as Session};

/// A program that does nothing, of those that every server has.
const PROGRAM: &str = "bench-spawn";

/// What a launch over a session costs.
#[derive(Parser)]
struct Options {
    /// Where it listens: http://HOST:PORT.
    url: String,
    /// The key, where the server wants one.
    #[arg(long)]
    key: Option<String>,
    /// Launches one after the other.
    #[arg(long, default_value_t = 1000)]
    rounds: usize,
    /// Launches at once; a table row for each.
    #[arg(long, value_delimiter = ',', default_value = "32,256,896")]
    at_once: Vec<usize>,
    /// Runs of those; the median counts.
    #[arg(long, default_value_t = 7)]
    runs: usize,
}

/// Launches it: when it was launched, and when its result was there.
async fn launch(client: &Client) -> Result<(Duration, Duration)> {
    let start = Instant::now();
    let mut inferlet = client.launch(PROGRAM, &[]).await?;
    let launched = start.elapsed();
    let result = inferlet.outcome().await?.map_err(|failure| anyhow!("{failure:?}"))?;
    ensure!(result.is_empty(), "its result is nothing, not {result:?}");
    Ok((launched, start.elapsed()))
}

fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let mut session = Session::new(options.url.clone());
    session.key.clone_from(&options.key);
    let client =
        Client::connect(session).await.with_context(|| format!("no session with {}", options.url))?;
    // The first ones fill the pool of instances.
    for _ in 0..32 {
        launch(&client).await?;
    }
    let (mut launched, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(1) {
        let (one, other) = launch(&client).await?;
        launched.push(one);
        ended.push(other);
    }
    println!("{:<28} {:>9} {:>9}", "one after the other, ms", "p50", "p99");
    println!(
        "{:<28} {:>9.3} {:>9.3}",
        "launched",
        percentile(&mut launched, 50),
        percentile(&mut launched, 99)
    );
    println!("{:<28} {:>9.3} {:>9.3}", "its result", percentile(&mut ended, 50), percentile(&mut ended, 99));
    println!("{:<28} {:>9} {:>9} {:>9}", "at once, ms", "median", "least", "most");
    for &count in &options.at_once {
        let mut runs = Vec::new();
        for run in 0..=options.runs.max(1) {
            let start = Instant::now();
            try_join_all((0..count).map(|_| launch(&client))).await?;
            let time = start.elapsed();
            eprintln!("{count} at once, run {run}: {:.1} ms", time.as_secs_f64() * 1e3);
            // The first fills the pool of instances.
            if run > 0 {
                runs.push(time);
            }
        }
        let [least, median, most] = [0, 50, 100].map(|percent| percentile(&mut runs, percent));
        println!("{:<28} {median:>9.1} {least:>9.1} {most:>9.1}", format!("{count} launches"));
    }
    client.close().await;
    Ok(())
}

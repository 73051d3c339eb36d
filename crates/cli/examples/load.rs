//! Output tokens a second and times to the first token of a server, over HTTP:
//! `cargo run --release --workspace --example load -- http://127.0.0.1:8080 [--clients 32] [--in 128] [--out 128] …`.
//!
//! Each client sends one streamed request to `/v1/completions` after another, of token ids that no other request has, and
//! greedy, so that any server that speaks the protocol computes the same. What comes back is counted by the server's own
//! usage and compared with what was asked for. The client is small: on the machine of the server it takes of its cores.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a table for the terminal")]

#[path = "common/http.rs"]
mod http;

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use clap::Parser;

use http::{Client, Streamed, completion, prompt};

/// Output tokens a second and times to the first token of a server, over HTTP.
#[derive(Parser)]
struct Options {
    /// Where it listens: http://HOST:PORT.
    url: String,
    /// Requests at once.
    #[arg(long, default_value = "1,8,32", value_delimiter = ',')]
    clients: Vec<usize>,
    /// Tokens of a prompt that no other has.
    #[arg(long = "in", default_value_t = 128)]
    input: usize,
    /// Tokens before them that all prompts share.
    #[arg(long, default_value_t = 0)]
    shared: usize,
    /// Tokens to generate.
    #[arg(long = "out", default_value_t = 128)]
    output: usize,
    /// Requests of each client in a run.
    #[arg(long, default_value_t = 2)]
    requests: usize,
    /// Runs; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// The model to ask for.
    #[arg(long, default_value = "")]
    model: String,
}

/// Sends one request. The time to its first token, and to its end.
async fn request(client: &Client, options: &Options, seed: u64) -> Result<(Duration, Duration)> {
    let mut ids = prompt(0, options.shared);
    ids.extend(prompt(seed, options.input));
    let mut body = completion(&ids, u32::try_from(options.output)?);
    if !options.model.is_empty() {
        body["model"] = options.model.clone().into();
    }
    let Streamed { first, whole, tokens } =
        client.timed(&body).await?.map_err(|(_, said)| anyhow!("{said}"))?;
    ensure!(tokens == options.output as u64, "{tokens} tokens came, {} were asked for", options.output);
    Ok((first, whole))
}

/// The value of which `percent` are below.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1e3
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let client = Client::at(&options.url);
    // Waking a server up, and the prefix that is shared, is not measured.
    request(&client, &options, u64::MAX).await?;
    println!("| clients | output tokens/s | requests/s | TTFT p50 ms | p99 ms |\n|--:|--:|--:|--:|--:|");
    let mut seed = u64::from(std::process::id()) << 32;
    for clients in &options.clients {
        let (mut rates, mut first) = (Vec::new(), Vec::new());
        for run in 0..options.runs {
            let start = Instant::now();
            let requests_of = |at: usize| {
                let seed = seed + (at * options.requests) as u64;
                let (client, options) = (&client, &options);
                async move {
                    let mut times = Vec::new();
                    for index in 0..options.requests as u64 {
                        times.push(request(client, options, seed + 1 + index).await?.0);
                    }
                    Ok::<_, anyhow::Error>(times)
                }
            };
            let times = futures::future::try_join_all((0..*clients).map(requests_of)).await?;
            let requests = (clients * options.requests) as f64;
            rates.push(requests / start.elapsed().as_secs_f64());
            first.extend(times.into_iter().flatten());
            seed += requests as u64 + 1;
            eprint!("\r{clients} clients: run {} of {}", run + 1, options.runs);
        }
        eprint!("\r\x1b[K");
        rates.sort_by(f64::total_cmp);
        first.sort();
        let rate = |index: usize| rates[index] * options.output as f64;
        println!(
            "| {clients} | {:.0} [{:.0}-{:.0}] | {:.2} | {:.0} | {:.0} |",
            rate(rates.len() / 2),
            rate(0),
            rate(rates.len() - 1),
            rates[rates.len() / 2],
            percentile(&first, 50),
            percentile(&first, 99)
        );
    }
    Ok(())
}

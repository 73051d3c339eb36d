//! Output tokens a second and times to the first token of a server, over HTTP:
//! `cargo run --release --workspace --example load -- http://127.0.0.1:8080 [--clients 32] [--in 128] [--out 128] …`.
//!
//! Each client sends one streamed request to `/v1/completions` after another, of token ids that no other request has, and
//! greedy, so that any server that speaks the protocol computes the same. What comes back is counted by the server's own
//! usage and compared with what was asked for. The client is small: on the machine of the server it takes of its cores.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a table for the terminal")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

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

/// Token ids that no other prompt begins with: those of a common vocabulary, behind its control tokens.
fn ids(seed: u64, count: usize) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.u32(1000..30_000)).collect()
}

/// Sends one request. The time to its first token, and to its end.
async fn request(address: &str, options: &Options, seed: u64) -> Result<(Duration, Duration)> {
    let mut prompt = ids(0, options.shared);
    prompt.extend(ids(seed, options.input));
    let mut body = json!({
        "prompt": prompt, "max_tokens": options.output, "temperature": 0, "ignore_eos": true, "stream": true,
        "stream_options": { "include_usage": true },
    });
    if !options.model.is_empty() {
        body["model"] = options.model.clone().into();
    }
    let body = body.to_string();
    let start = Instant::now();
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    let mut lines = BufReader::new(stream);
    let (mut line, mut first, mut tokens) = (String::new(), None, None);
    lines.read_line(&mut line).await?;
    if !line.contains(" 200 ") {
        let mut rest = String::new();
        lines.read_to_string(&mut rest).await?;
        bail!("{line}{rest}");
    }
    loop {
        line.clear();
        if lines.read_line(&mut line).await? == 0 {
            break;
        }
        let Some(data) = line.trim().strip_prefix("data: ").filter(|data| *data != "[DONE]") else {
            continue;
        };
        if first.is_none() {
            first = Some(start.elapsed());
        }
        if data.contains("\"usage\":{") {
            let chunk: Value = serde_json::from_str(data)?;
            tokens = chunk["usage"]["completion_tokens"].as_u64();
        }
    }
    ensure!(
        tokens == Some(options.output as u64),
        "{tokens:?} tokens came, {} were asked for",
        options.output
    );
    Ok((first.context("no token came")?, start.elapsed()))
}

/// The value of which `percent` are below.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1e3
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let address = options.url.trim_start_matches("http://").trim_end_matches('/').to_string();
    // Waking a server up, and the prefix that is shared, is not measured.
    request(&address, &options, u64::MAX).await?;
    println!("| clients | output tokens/s | requests/s | TTFT p50 ms | p99 ms |\n|--:|--:|--:|--:|--:|");
    let mut seed = u64::from(std::process::id()) << 32;
    for clients in &options.clients {
        let (mut rates, mut first) = (Vec::new(), Vec::new());
        for run in 0..options.runs {
            let start = Instant::now();
            let client = |client: usize| {
                let seed = seed + (client * options.requests) as u64;
                let (address, options) = (&address, &options);
                async move {
                    let mut times = Vec::new();
                    for index in 0..options.requests as u64 {
                        times.push(request(address, options, seed + 1 + index).await?.0);
                    }
                    Ok::<_, anyhow::Error>(times)
                }
            };
            let times = futures::future::try_join_all((0..*clients).map(client)).await?;
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

//! What a long prompt costs the streams beside it, and they it, over HTTP:
//! `cargo run --release --workspace --example mixed -- http://127.0.0.1:8080 [--streams 16] [--prompt 2048] …`.
//!
//! A run: the prompt alone; then so many streams of token ids that no other request has; once all of them have decoded a while,
//! the prompt, of other ids; then they end. Of each stream, a *gap* is the time between two of its tokens as they come in: those
//! before the prompt are its usual ones, those until the prompt's first token are beside it. Every token must come as an event of
//! its own, which is counted. All requests are of one user. The client is small: on the machine of the server it takes of its
//! cores.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a table for the terminal")]

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What a long prompt costs the streams beside it, and they it, over HTTP.
#[derive(Parser)]
struct Options {
    /// Where it listens: http://HOST:PORT.
    url: String,
    /// Streams that decode.
    #[arg(long, default_value_t = 16)]
    streams: usize,
    /// Tokens of the prompt of each stream.
    #[arg(long, default_value_t = 64)]
    context: usize,
    /// Tokens that each stream generates: enough to go on until the prompt is through.
    #[arg(long = "out", default_value_t = 400)]
    output: usize,
    /// Tokens that each stream has decoded when the prompt comes.
    #[arg(long, default_value_t = 48)]
    usual: usize,
    /// Tokens of the long prompt.
    #[arg(long, default_value_t = 2048)]
    prompt: usize,
    /// Runs; the medians count.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// Token ids that no other prompt begins with: those of a common vocabulary, behind its control tokens.
fn ids(seed: u64, count: usize) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.u32(1000..30_000)).collect()
}

/// Sends one request and calls `at_token` when a token comes in. The tokens that the server says it generated.
async fn request(address: &str, prompt: Vec<u32>, tokens: usize, mut at_token: impl FnMut()) -> Result<u64> {
    // Words of the vocabulary, each an event of its own: of random bytes some would wait for the rest of a character.
    let words: Vec<u32> = (1000..1064).collect();
    let body = json!({
        "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": true, "stream": true,
        "stream_options": { "include_usage": true }, "allowed_token_ids": words,
    });
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await?;
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    lines.read_line(&mut line).await?;
    if !line.contains(" 200 ") {
        let mut rest = String::new();
        lines.read_to_string(&mut rest).await?;
        bail!("{line}{rest}");
    }
    loop {
        line.clear();
        if lines.read_line(&mut line).await? == 0 {
            bail!("the answer ended without its usage");
        }
        let Some(data) = line.trim().strip_prefix("data: ") else { continue };
        if data.contains("\"usage\":{") {
            let chunk: Value = serde_json::from_str(data)?;
            return chunk["usage"]["completion_tokens"].as_u64().context("a count of tokens");
        }
        if data.contains("\"text\":\"") && !data.contains("\"text\":\"\"") {
            at_token();
        }
    }
}

/// The time to the first token of the prompt.
async fn first_token(address: &str, options: &Options, seed: u64) -> Result<Duration> {
    let (start, mut first) = (Instant::now(), None);
    request(address, ids(seed, options.prompt), 1, || first = Some(start.elapsed())).await?;
    first.context("no token came")
}

/// When the tokens of a stream came in.
async fn stream(address: &str, options: &Options, seed: u64, decoded: &Cell<usize>) -> Result<Vec<Instant>> {
    let mut times = Vec::new();
    let counted = request(address, ids(seed, options.context), options.output, || {
        times.push(Instant::now());
        if times.len() == options.usual {
            decoded.set(decoded.get() + 1);
        }
    });
    let counted = counted.await?;
    ensure!(counted == times.len() as u64, "{} events came for {counted} tokens", times.len());
    Ok(times)
}

/// One run.
struct Run {
    alone: Duration,
    among: Duration,
    /// The gaps of each stream before the prompt, and beside it, sorted.
    gaps: Vec<[Vec<f64>; 2]>,
}

async fn run(address: &str, options: &Options, seed: u64) -> Result<Run> {
    let alone = first_token(address, options, seed).await?;
    let decoded = Cell::new(0);
    let streams =
        (0..options.streams).map(|index| stream(address, options, seed + 2 + index as u64, &decoded));
    let prompt = async {
        while decoded.get() < options.streams {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let sent = Instant::now();
        Ok::<_, anyhow::Error>((sent, first_token(address, options, seed + 1).await?))
    };
    let (times, (sent, among)) =
        futures::future::try_join(futures::future::try_join_all(streams), prompt).await?;
    let through = sent + among;
    // The first gaps are not the usual: others are still at their prompts.
    let begun = times.iter().map(|times| times[options.usual / 4]).max().context("a stream")?;
    let gaps = times.iter().map(|times| {
        ensure!(*times.last().context("a token")? > through, "a stream ended before the prompt: raise --out");
        let gaps = |from: Instant, to: Instant| {
            let within = times.windows(2).filter(|pair| pair[0] >= from && pair[1] <= to);
            sorted(within.map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3).collect())
        };
        // A gap that the prompt comes into is beside it.
        let beside = times.partition_point(|time| *time < sent).max(1) - 1;
        Ok([gaps(begun, sent), gaps(times[beside], through)])
    });
    Ok(Run { alone, among, gaps: gaps.collect::<Result<_>>()? })
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// The value of which `percent` are below.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let address = options.url.trim_start_matches("http://").trim_end_matches('/').to_string();
    let mut seed = u64::from(std::process::id()) << 32;
    first_token(&address, &options, seed).await?;
    println!(
        "| gaps ms p50 usual | p99 | beside p50 | p99 | max | times p50 | p99 | max | TTFT ms alone | among | times |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let mut columns: Vec<Vec<f64>> = Vec::new();
    for index in 0..options.runs {
        seed += options.streams as u64 + 3;
        let run = run(&address, &options, seed).await?;
        let all = |which: usize| sorted(run.gaps.iter().flat_map(|gaps| gaps[which].clone()).collect());
        let (usual, beside) = (all(0), all(1));
        let (p50, ttft) =
            (percentile(&usual, 50), [run.alone, run.among].map(|time| time.as_secs_f64() * 1e3));
        // Beside the stream's own usual gap, the worst of all streams.
        let worst = |percent| {
            let times =
                run.gaps.iter().map(|[usual, beside]| percentile(beside, percent) / percentile(usual, 50));
            times.fold(0.0, f64::max)
        };
        let values = [
            p50,
            percentile(&usual, 99),
            percentile(&beside, 50),
            percentile(&beside, 99),
            percentile(&beside, 100),
            worst(50),
            worst(99),
            worst(100),
            ttft[0],
            ttft[1],
            ttft[1] / ttft[0],
        ];
        columns.resize(values.len(), Vec::new());
        columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        eprint!("\rrun {} of {}", index + 1, options.runs);
    }
    eprint!("\r\x1b[K");
    let cell = |column: &Vec<f64>| {
        let column = sorted(column.clone());
        let digits = if column[0] < 10.0 { 2 } else { 0 };
        let value = |percent| format!("{:.digits$}", percentile(&column, percent));
        format!("{} [{}-{}]", value(50), value(0), value(100))
    };
    println!("| {} |", columns.iter().map(cell).collect::<Vec<_>>().join(" | "));
    Ok(())
}

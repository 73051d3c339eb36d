//! What a long prompt costs the streams beside it, and they it, over HTTP:
//! `cargo run --release --workspace --example mixed -- http://127.0.0.1:8080 [--streams 16] [--prompt 2048] …`.
//!
//! A run: the prompt alone; then so many streams of token ids that no other request has; once all of them have decoded a while,
//! the prompt, of other ids; then they end. Of each stream, a *gap* is the time between two of its tokens as they come in: those
//! before the prompt are its usual ones, those until the prompt's first token are beside it. Every token must come as an event of
//! its own, which is counted. All requests are of one user. The client is small: on the machine of the server it takes of its
//! cores.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a table for the terminal")]

#[path = "common/http.rs"]
mod http;

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;

use http::{Client, completion, prompt};

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

/// Sends one request and calls `at_token` when a token comes in. The tokens that the server says it generated.
async fn request(client: &Client, ids: &[u32], tokens: usize, mut at_token: impl FnMut()) -> Result<u64> {
    // Words of the vocabulary, each an event of its own: of random bytes some would wait for the rest of a character.
    let words: Vec<u32> = (1000..1064).collect();
    let mut body = completion(ids, u32::try_from(tokens)?);
    body["allowed_token_ids"] = words.into();
    let event = |data: &str| {
        if data.contains("\"text\":\"") && !data.contains("\"text\":\"\"") {
            at_token();
        }
    };
    client.events(&body, event).await?.map_err(|(_, said)| anyhow!("{said}"))
}

/// The time to the first token of the prompt.
async fn first_token(client: &Client, options: &Options, seed: u64) -> Result<Duration> {
    let (start, mut first) = (Instant::now(), None);
    request(client, &prompt(seed, options.prompt), 1, || first = Some(start.elapsed())).await?;
    first.context("no token came")
}

/// When the tokens of a stream came in.
async fn stream(
    client: &Client,
    options: &Options,
    seed: u64,
    decoded: &Cell<usize>,
) -> Result<Vec<Instant>> {
    let mut times = Vec::new();
    let ids = prompt(seed, options.context);
    let counted = request(client, &ids, options.output, || {
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

async fn run(client: &Client, options: &Options, seed: u64) -> Result<Run> {
    let alone = first_token(client, options, seed).await?;
    let decoded = Cell::new(0);
    let streams =
        (0..options.streams).map(|index| stream(client, options, seed + 2 + index as u64, &decoded));
    let long = async {
        while decoded.get() < options.streams {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let sent = Instant::now();
        Ok::<_, anyhow::Error>((sent, first_token(client, options, seed + 1).await?))
    };
    let (times, (sent, among)) =
        futures::future::try_join(futures::future::try_join_all(streams), long).await?;
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
    let client = Client::at(&options.url);
    let mut seed = u64::from(std::process::id()) << 32;
    first_token(&client, &options, seed).await?;
    println!(
        "| gaps ms p50 usual | p99 | beside p50 | p99 | max | times p50 | p99 | max | TTFT ms alone | among | times |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let mut columns: Vec<Vec<f64>> = Vec::new();
    for index in 0..options.runs {
        seed += options.streams as u64 + 3;
        let run = run(&client, &options, seed).await?;
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

//! `pie-bench selftest`: how much this client can take on this machine, with a mock server beside it.
//!
//! Three questions, each answered by a run whose truth is known: how many events a second the client reads, how late it
//! is at a rate well below, and how much memory so many open streams take.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::client::api::Api;
use crate::client::{self, ClientOptions, Run, Silent, Stop};
use crate::clock::Nanos;
use crate::dataset::{Prompt, Sample};
use crate::metrics::Distribution;
use crate::mock::{Mock, Script};
use crate::telemetry::process;
use crate::workload::{Limit, Plan};

/// What is tried.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pie-bench selftest --streams 256 --secs 3")]
pub struct SelftestFlags {
    /// Streams that are open at once.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    streams: u32,
    /// Open streams for the question of memory.
    #[arg(long, default_value_t = 2000)]
    open_streams: usize,
    /// Events a second at which lateness is measured; half of what is reached, where that is less.
    #[arg(long, default_value_t = 25_000.0)]
    at: f64,
    /// Seconds of a run.
    #[arg(long, default_value_t = 3.0)]
    secs: f64,
}

/// A run against a mock, and events with tokens in its middle half.
struct Tried {
    run: Run,
    events_per_second: f64,
}

fn attempt(script: Script, streams: usize, tokens: u32, arrival: &str) -> anyhow::Result<Tried> {
    let mock = Mock::start(script, "127.0.0.1:0".parse()?)?;
    let address = format!("http://{}", mock.address()).parse()?;
    let mut options = ClientOptions::new(address, Api::COMPLETIONS);
    options.model = Some("mock".into());
    let samples = vec![Sample::new(Prompt::Text("a b c".into()), 3, tokens); streams];
    let plan = Plan::new(samples, &arrival.parse()?, None, Limit::NONE, 1)?;
    let run = client::run(&Arc::new(plan), &Arc::new(options), &Silent, &Stop::default())?;
    if let Some(failure) = run.records.iter().find_map(|record| record.failure()) {
        anyhow::bail!("a request failed: {}: {}", failure.class.name(), failure.message);
    }
    // The middle half of the time between the first and the last event: all streams are open then.
    let first = run.records.iter().filter_map(|record| record.first_token).min().unwrap_or_default();
    let last = run.records.iter().filter_map(|record| record.last_token).max().unwrap_or_default();
    let quarter = Nanos(last.since(first).0 / 4);
    let (low, high) = (first.plus(quarter), first.plus(Nanos(quarter.0 * 3)));
    let inside = run
        .records
        .iter()
        .flat_map(|record| &record.chunks)
        .filter(|chunk| chunk.at >= low && chunk.at < high);
    let events_per_second = inside.count() as f64 / high.since(low).secs().max(1e-9);
    Ok(Tried { run, events_per_second })
}

/// Tries, and prints what this machine reaches.
///
/// # Errors
/// When the mock server or a run cannot begin, or a request fails.
pub fn run(flags: &SelftestFlags) -> anyhow::Result<ExitCode> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores, shared with the mock server\n");
    let streams = flags.streams as usize;
    // 1. The server writes as fast as it can; what the client reads then is the ceiling of both together.
    let burst =
        Script { ttft: Duration::from_millis(200), gap: Duration::ZERO, logs: false, ..Script::default() };
    let tokens = (flags.secs * 100_000.0 / streams as f64).clamp(10.0, 100_000.0) as u32;
    let ceiling = attempt(burst, streams, tokens, "instant")?;
    println!(
        "{:<52}{:>12.0} /s",
        format!("events read at {streams} streams, each its own write"),
        ceiling.events_per_second
    );
    // 2. At a rate that is the same on every machine that reaches twice as much, by a schedule.
    let half = (ceiling.events_per_second / 2.0).min(flags.at);
    let gap = Duration::from_secs_f64(streams as f64 / half);
    let tokens = (flags.secs / gap.as_secs_f64()).clamp(10.0, 100_000.0) as u32;
    let paced = Script { ttft: Duration::from_millis(50), gap, logs: false, ..Script::default() };
    // Requests begin over the whole run, so that starting is measured beside reading.
    let rate = streams as f64 / flags.secs;
    let tried = attempt(paced, streams * 2, tokens, &format!("poisson:{rate}"))?;
    let lag = Distribution::new(
        tried.run.records.iter().filter_map(|record| record.schedule_lag()).map(Nanos::secs),
    );
    let millis = |value: Option<f64>| value.unwrap_or(0.0) * 1e3;
    println!("{:<52}{:>12.0} /s", "events read by a schedule", tried.events_per_second);
    println!("{:<52}{:>12.3} ms", "  schedule lag p50", millis(lag.percentile(50.0)));
    println!("{:<52}{:>12.3} ms", "  schedule lag p99", millis(lag.percentile(99.0)));
    let gaps = tried.run.records.iter().flat_map(|record| record.chunks.windows(2));
    let gaps = Distribution::new(gaps.map(|pair| pair[1].at.since(pair[0].at).secs()));
    let (found, truth) = (millis(gaps.mean()), gap.as_secs_f64() * 1e3);
    println!("{:<52}{:>12.3} ms", format!("  mean gap, scripted to {truth:.3} ms"), found);
    let busiest = tried.run.used.workers_busy.first().copied().unwrap_or(0.0) * 100.0;
    println!("{:<52}{busiest:>12.0} %", "  busiest worker");
    // 3. Open streams; the server is in this process, so both are in the figure.
    let before = process::memory_bytes(std::process::id());
    let idle = Script {
        ttft: Duration::from_millis(1500),
        gap: Duration::from_millis(250),
        logs: false,
        ..Script::default()
    };
    let open = attempt(idle, flags.open_streams, 8, "instant")?;
    let after = open.run.used.peak_memory_bytes;
    println!(
        "{:<52}{:>12.1} MB",
        format!("memory at {} open streams, client and server", flags.open_streams),
        after as f64 / 1e6
    );
    if let Some(before) = before {
        println!("{:<52}{:>12.1} MB", "  before", before as f64 / 1e6);
    }
    Ok(ExitCode::SUCCESS)
}

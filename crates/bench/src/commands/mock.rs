//! `pie-bench mock`: be a server whose answers follow a script.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::mock::{Fault, Mock, Script};

/// What the server does.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pie-bench mock --port 8000 --ttft 50 --gap 10
  pie-bench mock --ttft 500 --slots 1               one request at a time, half a second each
  pie-bench mock --fault 503@10 --fault cut@7       every tenth request is refused, every seventh cut off")]
pub struct MockFlags {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1")]
    host: std::net::IpAddr,
    /// Port; 0 takes a free one, which is printed.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Milliseconds to the first token.
    #[arg(long, default_value_t = 50.0)]
    ttft: f64,
    /// Milliseconds between chunks.
    #[arg(long, default_value_t = 10.0)]
    gap: f64,
    /// Tokens of every answer; else as many as are requested.
    #[arg(long)]
    tokens: Option<u32>,
    /// Tokens in a chunk.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    tokens_per_chunk: u32,
    /// Chunks of reasoning before the content of a chat.
    #[arg(long, default_value_t = 0)]
    reasoning_chunks: u32,
    /// Requests that are served at once; others wait.
    #[arg(long)]
    slots: Option<usize>,
    /// What goes wrong, and with every how many-th request: KIND@EVERY, with reset, malformed, malformed-event, cut,
    /// stall, error, silent or a status.
    #[arg(long, value_name = "KIND@EVERY")]
    fault: Vec<Fault>,
    /// Chunks before a fault within a stream.
    #[arg(long, default_value_t = 2)]
    fault_after: u32,
    /// Milliseconds of a stall.
    #[arg(long, default_value_t = 3_600_000.0)]
    stall: f64,
    /// Say with every chunk how many tokens there were so far.
    #[arg(long)]
    continuous_usage: bool,
    /// Name of the model.
    #[arg(long, default_value = "mock")]
    model: String,
    /// Threads; one for each core by default.
    #[arg(long)]
    threads: Option<usize>,
}

fn millis(value: f64, name: &str) -> anyhow::Result<Duration> {
    let duration = Duration::try_from_secs_f64(value / 1e3);
    duration.map_err(|error| anyhow::anyhow!("--{name}: found {value} ({error}), expected milliseconds"))
}

/// Serves until the process ends.
///
/// # Errors
/// When it cannot listen.
pub fn run(flags: MockFlags) -> anyhow::Result<ExitCode> {
    let script = Script {
        ttft: millis(flags.ttft, "ttft")?,
        gap: millis(flags.gap, "gap")?,
        tokens: flags.tokens,
        tokens_per_chunk: flags.tokens_per_chunk,
        reasoning_chunks: flags.reasoning_chunks,
        slots: flags.slots,
        faults: flags.fault,
        fault_after: flags.fault_after,
        stall: millis(flags.stall, "stall")?,
        continuous_usage: flags.continuous_usage,
        usage: true,
        model: flags.model,
        threads: flags.threads,
        // Nobody reads it here, and it would grow for ever.
        logs: false,
    };
    let mock = Mock::start(script, SocketAddr::new(flags.host, flags.port))?;
    println!("http://{}", mock.address());
    mock.wait();
    Ok(ExitCode::SUCCESS)
}

//! `pie trace`: what a running server does for some seconds, as a file for Perfetto.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Response, StatusCode};

use super::remote::{Remote, ServerFlags};
use crate::output;
use crate::progress;

/// For a connection, and beyond the seconds of the recording for its file to begin: a full one takes a second.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer that is no recording.
const ERROR_BYTES: usize = 4096;

/// Flags of `pie trace`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TraceFlags {
    #[command(flatten)]
    server: ServerFlags,
    /// How long to record, 1 to 60.
    #[arg(long, value_name = "N", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..=*server::RECORDING_SECONDS.end()))]
    seconds: u64,
    /// The file to write.
    #[arg(short, long, value_name = "FILE", default_value = "pie.pftrace")]
    out: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  pie trace --seconds 10 --out pie.pftrace
  PIE_KEY=sk-pie-… pie trace --server https://pie.example.com

Open the file in https://ui.perfetto.dev, which reads it in the browser and sends it nowhere.";

/// What a recording has, as the server says it.
struct Counts {
    events: u64,
    dropped: u64,
}

pub(crate) async fn trace(flags: TraceFlags) -> Result<()> {
    let TraceFlags { server, seconds, out } = flags;
    let server = server.remote();
    // Before the seconds pass: a file that cannot be written is known now.
    let part = PartFile::create(&out)?;
    let bar = waiting(seconds);
    let asked = ask(&server, seconds).await;
    bar.finish_and_clear();
    let (response, counts) = asked?;
    let bytes = part.fill(response).await?;
    let Counts { events, dropped } = counts;
    let out = out.display();
    output::line(format_args!(
        "{events} events in {bytes} bytes of {out}; open it in https://ui.perfetto.dev"
    ))?;
    if dropped > 0 {
        eprintln!("{dropped} events are not in it, since the recording was full: record fewer seconds");
    }
    Ok(())
}

/// A bar that fills while the server records.
fn waiting(seconds: u64) -> ProgressBar {
    let bar = ProgressBar::new(seconds);
    let style = ProgressStyle::with_template("recording {wide_bar} {pos}/{len} s");
    bar.set_style(style.expect("the template is valid"));
    let ticking = bar.downgrade();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // The bar is gone when the answer is there.
            let Some(bar) = ticking.upgrade() else { return };
            bar.inc(1);
        }
    });
    bar
}

/// Asks the server for a recording; its answer begins when the seconds are over.
async fn ask(server: &Remote, seconds: u64) -> Result<(Response, Counts)> {
    let path = format!("/debug/trace?seconds={seconds}");
    let sent = server.get(&path, PATIENCE, PATIENCE + Duration::from_secs(seconds)).await;
    let server = &server.address;
    let response = sent.map_err(|error| explain(server, error))?;
    let status = response.status();
    let count = |name: &str| response.headers().get(name)?.to_str().ok()?.parse().ok();
    let counts = count("x-pie-trace-events").zip(count("x-pie-trace-dropped"));
    match (status, counts) {
        (StatusCode::OK, Some((events, dropped))) => Ok((response, Counts { events, dropped })),
        (StatusCode::OK, None) => {
            bail!("`{server}` answers, but not with a recording: is `--server` the address of a pie server?")
        }
        _ => refused(server, response).await,
    }
}

fn explain(server: &str, error: reqwest::Error) -> anyhow::Error {
    let way_out = match (error.is_builder(), error.is_connect(), error.is_timeout()) {
        (true, ..) => "expected an address as `http://127.0.0.1:8080` with `--server`",
        (_, true, _) => "is `pie serve` running, and is `--server` its address?",
        (_, _, true) => "the server does not answer in time",
        _ => "the connection broke off",
    };
    let context = format!("no recording from `{server}`: {way_out}");
    anyhow::Error::from(error).context(context)
}

/// An answer that is an error, with what the server says.
async fn refused<T>(server: &str, mut response: Response) -> Result<T> {
    let status = response.status();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= ERROR_BYTES {
            break;
        }
    }
    let said = serde_json::from_slice::<serde_json::Value>(&body).ok();
    let said = said.as_ref().and_then(|said| said["error"]["message"].as_str()).unwrap_or("no reason given");
    let way_out = match status {
        StatusCode::UNAUTHORIZED => "; give a key of `pie key add --admin` with `--key` or in PIE_KEY",
        StatusCode::NOT_FOUND => "; is `--server` the address of a pie server, without a path?",
        _ => "",
    };
    bail!("`{server}` answered {status}: {said}{way_out}")
}

/// The file while it is not whole: one of the name asked for is there only when it is.
struct PartFile {
    file: std::fs::File,
    path: PathBuf,
    out: PathBuf,
}

impl PartFile {
    fn create(out: &Path) -> Result<PartFile> {
        let failed = || format!("cannot write `{}`", out.display());
        let name = out.file_name().with_context(failed)?;
        let path = out.with_file_name(format!("{}.part", name.to_string_lossy()));
        let file = std::fs::File::create(&path).with_context(failed)?;
        Ok(PartFile { file, path, out: out.to_path_buf() })
    }

    /// Writes the body of an answer; says how many bytes it has.
    async fn fill(mut self, mut response: Response) -> Result<u64> {
        let bar = progress::bytes("fetching", response.content_length());
        while let Some(chunk) = response.chunk().await.context("the recording broke off")? {
            self.file.write_all(&chunk)?;
            bar.inc(chunk.len() as u64);
        }
        bar.finish_and_clear();
        let failed = || format!("cannot write `{}`", self.out.display());
        std::fs::rename(&self.path, &self.out).with_context(failed)?;
        Ok(bar.position())
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        // Renamed by now, if it is whole.
        let _ = std::fs::remove_file(&self.path);
    }
}

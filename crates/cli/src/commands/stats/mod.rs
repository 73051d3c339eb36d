//! `pie stats`: what a server does at this moment, as tables. The `stats` of the shell shows the same.
//!
//! The numbers are those of the server's `/stats`, which are the metrics of its `/metrics`.

mod tables;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use metrics::Family;
use protocol::client::Client;
use serde::Deserialize;

use super::remote::{InSession, Remote, ServerFlags};
use crate::output;

use tables::tables;

/// For the server to be reached, and to answer: it asks its engines, which may be at work on a long batch.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of an answer that is no statistics, what is shown.
const SHOWN: usize = 200;

/// Flags of `pie stats`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatsFlags {
    #[command(flatten)]
    server: ServerFlags,
    /// All metrics as one JSON object, as `/stats` has them.
    #[arg(long)]
    json: bool,
    /// Again and again, so many seconds apart.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  pie stats
  pie stats --server http://10.0.0.2:8080 --watch 5
  pie stats --json | jq '.metrics[] | select(.name == \"pie_generated_tokens_total\")'";

#[derive(Deserialize)]
struct Answer {
    metrics: Vec<Family>,
}

/// What `stats` of the shell takes: the same, asked in a session.
#[derive(Args)]
pub(crate) struct Stats {
    /// All metrics as one JSON object.
    #[arg(long)]
    json: bool,
}

impl InSession for Stats {
    async fn perform(self, client: &Client) -> Result<()> {
        let stats = client.stats().await?;
        if self.json {
            return output::line(stats);
        }
        let answer: Answer = serde_json::from_value(stats).context("the server's metrics are no metrics")?;
        output::line(tables(&answer.metrics))
    }
}

pub(crate) async fn stats(flags: StatsFlags) -> Result<()> {
    let remote = flags.server.remote();
    let server = &remote.address;
    if !server.starts_with("http://") && !server.starts_with("https://") {
        bail!("`--server {server}`: expected an address such as http://127.0.0.1:8080");
    }
    loop {
        let text = ask(&remote).await?;
        match flags.json {
            true => output::line(text.trim_end())?,
            false => {
                let answer: Answer = serde_json::from_str(&text)
                    .with_context(|| format!("`{server}/stats` does not answer as a pie server does"))?;
                output::line(tables(&answer.metrics))?;
            }
        }
        let Some(seconds) = flags.watch else { return Ok(()) };
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

/// The server's `/stats`.
async fn ask(remote: &Remote) -> Result<String> {
    let server = &remote.address;
    let page = async {
        let answer = remote.get("/stats", PATIENCE, PATIENCE).await?;
        Ok::<_, reqwest::Error>((answer.status().as_u16(), answer.text().await?))
    };
    let (status, text) = page.await.with_context(|| {
        format!("no server answers at {server}: start one with `pie serve`, or name another with `--server`")
    })?;
    match status {
        200 => Ok(text),
        401 => bail!(
            "the server at {server} wants a key of `pie key add --admin`: give it with `--key` or in PIE_KEY"
        ),
        403 => bail!("the server at {server} answers 403: {}", beginning(&text)),
        404 => bail!("`{server}/stats` is not there: is this the address of a pie server?"),
        status => bail!("the server at {server} answers {status}: {}", beginning(&text)),
    }
}

fn beginning(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    &line[..line.floor_char_boundary(SHOWN)]
}

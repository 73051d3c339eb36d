//! `pie ps`: the inferlets of a user on a server.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets};
use protocol::State;
use protocol::client::Client;

use super::remote::InSession;
use crate::output;

/// What `pie ps` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie ps
  pie ps --server http://10.0.0.2:8080 --key sk-pie-...
  pie ps --json | jq -r .id")]
pub(crate) struct Ps {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

impl InSession for Ps {
    async fn perform(self, client: &Client) -> Result<()> {
        let inferlets = client.list().await?;
        if self.json {
            return inferlets.iter().try_for_each(|inferlet| output::line(serde_json::to_string(inferlet)?));
        }
        if inferlets.is_empty() {
            eprintln!("nothing runs");
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["id", "program", "state", "clients", "age", "cpu", "arguments"]);
        for inferlet in inferlets {
            let state = match inferlet.state {
                State::Running => "running",
                State::Ended => "ended",
            };
            let age = humantime::format_duration(Duration::from_secs(inferlet.age_ms / 1000)).to_string();
            let cpu = humantime::format_duration(Duration::from_millis(inferlet.cpu_ms)).to_string();
            let clients = inferlet.clients.to_string();
            let arguments = inferlet.arguments.join(" ");
            table.add_row([inferlet.id, inferlet.program, state.into(), clients, age, cpu, arguments]);
        }
        output::line(table)
    }
}

//! `pie ps`: the inferlets of a user on a server.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets};
use protocol::client::Client;
use protocol::{ListedInferlet, State};
use serde::Serialize;

use super::remote::InSession;
use crate::output::{self, note, visible};

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

/// Bytes of arguments in a row of the table.
const SHOWN: usize = 1 << 10;

/// A row of the list.
#[derive(Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) inferlet: ListedInferlet,
    /// Where inferlets of several users are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
}

impl InSession for Ps {
    async fn perform(self, client: &Client) -> Result<()> {
        let rows = client.list().await?.into_iter().map(|inferlet| Row { inferlet, user: None });
        self.print(&rows.collect::<Vec<_>>())
    }
}

impl Ps {
    /// Prints the list.
    ///
    /// # Errors
    /// When nobody reads stdout.
    pub(crate) fn print(&self, rows: &[Row]) -> Result<()> {
        if self.json {
            return rows.iter().try_for_each(|row| output::line(serde_json::to_string(row)?));
        }
        let Some(first) = rows.first() else {
            note("nothing runs");
            return Ok(());
        };
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut head = vec!["id", "program", "state", "clients", "age", "cpu", "arguments"];
        if first.user.is_some() {
            head.insert(1, "user");
        }
        table.set_header(head);
        for Row { inferlet, user } in rows {
            let state = match inferlet.state {
                State::Running => "running",
                State::Ended => "ended",
            };
            let age = humantime::format_duration(Duration::from_secs(inferlet.age_ms / 1000)).to_string();
            let cpu = humantime::format_duration(Duration::from_millis(inferlet.cpu_ms)).to_string();
            let clients = inferlet.clients.to_string();
            let (program, mut arguments) =
                (visible(&inferlet.program), visible(&inferlet.arguments.join(" ")));
            arguments.truncate(arguments.floor_char_boundary(SHOWN));
            let cells = [program, state.into(), clients, age, cpu, arguments];
            let user = user.iter().map(|user| visible(user));
            table.add_row([inferlet.id.clone()].into_iter().chain(user).chain(cells));
        }
        output::line(table)
    }
}

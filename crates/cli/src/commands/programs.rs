//! `pie programs`: what can be launched by name, on this machine or on a server.

use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets};
use protocol::ProgramSource;
use protocol::client::Client;
use serde_json::{Value, json};

use super::remote::{Here, InSession};
use super::run::library;
use crate::output;

/// What `pie programs` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie programs
  pie programs --server http://10.0.0.2:8080
  pie programs --json

On this machine these are the files of the folders of PIE_PROGRAMS and of PIE_HOME/programs, where `pie install` puts
them, and the programs that come with pie.")]
pub(crate) struct Programs {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

impl InSession for Programs {
    async fn perform(self, client: &Client) -> Result<()> {
        self.print(["name", "of", "hash"], on_server(client).await?)
    }
}

impl Here for Programs {
    async fn perform_here(self) -> Result<()> {
        self.print(["name", "from", "what it does"], here().await?)
    }
}

impl Programs {
    fn print(&self, head: [&str; 3], rows: Vec<Row>) -> Result<()> {
        if self.json {
            return rows.iter().try_for_each(|(object, _)| output::line(object));
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(head);
        for (_, cells) in rows {
            table.add_row(cells);
        }
        output::line(table)
    }
}

/// A program as JSON, and as cells of the table.
type Row = (Value, [String; 3]);

async fn here() -> Result<Vec<Row>> {
    let runtime = library().await?;
    let entries = tokio::task::spawn_blocking(move || runtime.catalog()).await?;
    let row = |entry: runtime::CatalogEntry| {
        let path = entry.path.as_ref().map(|path| path.display().to_string());
        let about =
            |read: fn(&runtime::Manifest) -> &str| entry.manifest.as_ref().map(|one| read(one).to_string());
        let (version, about) = (about(|one| &one.version), about(|one| &one.description));
        let mut object = json!({ "name": entry.name });
        for (key, value) in [("version", &version), ("description", &about), ("path", &path)] {
            if let Some(value) = value {
                object[key] = json!(value);
            }
        }
        (object, [entry.name, path.unwrap_or_else(|| "pie".to_string()), about.unwrap_or_default()])
    };
    Ok(entries.into_iter().map(row).collect())
}

async fn on_server(client: &Client) -> Result<Vec<Row>> {
    let row = |program: protocol::ListedProgram| {
        let source = match program.source {
            ProgramSource::Server => "server",
            ProgramSource::User => "user",
        };
        let object = serde_json::to_value(&program)?;
        Ok((object, [program.name.unwrap_or_default(), source.into(), program.hash.unwrap_or_default()]))
    };
    client.programs().await?.into_iter().map(row).collect()
}

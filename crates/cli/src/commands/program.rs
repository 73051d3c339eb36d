//! `pie program`: the programs that a user can launch on a server.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use protocol::ProgramSource;

use super::remote::ServerFlags;
use crate::{output, progress};

/// Flags of `pie program`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie program list
  pie program add target/wasm32-wasip2/release/drafts.wasm drafts@0.1.0 --server http://10.0.0.2:8080
  pie run --server http://10.0.0.2:8080 drafts
  pie program remove drafts@0.1.0 --server http://10.0.0.2:8080")]
pub(crate) struct ProgramFlags {
    #[command(subcommand)]
    command: ProgramCommand,
}

#[derive(Subcommand)]
enum ProgramCommand {
    /// Upload a program, and give it a name. Its hash is printed.
    Add {
        /// The `.wasm` file.
        file: PathBuf,
        /// NAME@VERSION, for instance drafts@0.1.0.
        name: Option<String>,
        #[command(flatten)]
        server: ServerFlags,
    },
    /// The programs that can be launched: the server's, and those that the user has uploaded.
    List {
        #[command(flatten)]
        server: ServerFlags,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Take a name away, or by its hash a program with all its names.
    Remove {
        /// NAME@VERSION, or a hash.
        program: String,
        #[command(flatten)]
        server: ServerFlags,
    },
}

pub(crate) async fn program(flags: ProgramFlags) -> Result<()> {
    match flags.command {
        ProgramCommand::Add { file, name, server } => {
            let client = server.session().await?;
            let bar = progress::bytes(&format!("uploading {}", file.display()), Some(0));
            let uploaded = client.keep_file(&file, |done, total| {
                bar.set_length(total);
                bar.set_position(done);
            });
            let uploaded = uploaded.await;
            bar.finish_and_clear();
            let hash = uploaded?;
            if let Some(name) = name {
                client.install(&hash, &name).await?;
            }
            client.close().await;
            output::line(hash)
        }
        ProgramCommand::List { server, json } => {
            let client = server.session().await?;
            let programs = client.programs().await?;
            client.close().await;
            if json {
                for program in &programs {
                    output::line(serde_json::to_string(program)?)?;
                }
                return Ok(());
            }
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            table.set_header(["name", "of", "hash"]);
            for program in programs {
                let source = match program.source {
                    ProgramSource::Server => "server",
                    ProgramSource::User => "user",
                };
                let cells =
                    [program.name.unwrap_or_default(), source.into(), program.hash.unwrap_or_default()];
                table.add_row(cells);
            }
            output::line(table)
        }
        ProgramCommand::Remove { program, server } => {
            let client = server.session().await?;
            let removed = client.remove(&program).await;
            client.close().await;
            Ok(removed?)
        }
    }
}

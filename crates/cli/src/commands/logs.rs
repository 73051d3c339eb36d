//! `pie logs`: what an inferlet on a server has said and nobody has taken yet. It stays there.

use anyhow::Result;
use clap::Args;
use protocol::Event;

use super::remote::{ServerFlags, print_event};
use crate::output;

/// Flags of `pie logs`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie logs 0b2f6a0e
  pie logs --server http://10.0.0.2:8080 0b2f6a0e

What another client has taken and acknowledged is not there any more; `pie attach` follows what comes.")]
pub(crate) struct LogsFlags {
    /// Its id; a beginning that no other has is enough.
    id: String,
    #[command(flatten)]
    server: ServerFlags,
}

pub(crate) async fn logs(flags: LogsFlags) -> Result<()> {
    let client = flags.server.session().await?;
    let kept = client.peek(&flags.id).await;
    client.close().await;
    for next in kept? {
        match &next.event {
            Event::Result { text } if text.is_empty() => {}
            Event::Result { text } => output::line(text)?,
            Event::Error { error } => eprintln!("it has ended: {error}"),
            event => print_event(event)?,
        }
    }
    Ok(())
}

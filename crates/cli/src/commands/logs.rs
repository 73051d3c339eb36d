//! `pie logs`: what an inferlet on a server has said and nobody has taken yet. It stays there.

use anyhow::Result;
use clap::Args;
use protocol::Event;
use protocol::client::Client;

use super::remote::{InSession, print_event};
use crate::output;

/// What `pie logs` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie logs 0b2f6a0e
  pie logs --server http://10.0.0.2:8080 0b2f6a0e

What another client has taken and acknowledged is not there any more; `pie attach` follows what comes.")]
pub(crate) struct Logs {
    /// Its id; a beginning that no other has is enough.
    pub(crate) id: String,
}

impl InSession for Logs {
    async fn perform(self, client: &Client) -> Result<()> {
        for next in client.peek(&self.id).await? {
            match &next.event {
                Event::Result { text } if text.is_empty() => {}
                Event::Result { text } => output::line(text)?,
                Event::Error { error } => eprintln!("it has ended: {error}"),
                event => print_event(event)?,
            }
        }
        Ok(())
    }
}

//! `pie attach`: goes on with an inferlet on a server.

use anyhow::Result;
use clap::Args;
use protocol::client::Client;

use super::remote::{InSession, forward_stdin, stream};

/// What `pie attach` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie attach 0b2f6a0e
  pie attach --server http://10.0.0.2:8080 0b2f6a0e < messages.txt

Lines of stdin reach the program as messages, and the end of stdin ends nothing. Ctrl-C leaves the inferlet running.")]
pub(crate) struct Attach {
    /// Its id; a beginning that no other has is enough.
    pub(crate) id: String,
}

impl InSession for Attach {
    async fn perform(self, client: &Client) -> Result<()> {
        let mut inferlet = client.attach(&self.id, None).await?;
        forward_stdin(inferlet.sender(), false);
        tokio::select! {
            ended = stream(&mut inferlet) => ended,
            _ = tokio::signal::ctrl_c() => {
                let id = inferlet.id().to_string();
                inferlet.detach().await?;
                eprintln!("detached; `pie attach {id}` comes back to it");
                Ok(())
            }
        }
    }
}

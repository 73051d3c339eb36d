//! `pie kill`: ends an inferlet on a server.

use anyhow::Result;
use clap::Args;
use protocol::client::Client;

use super::remote::InSession;

/// What `pie kill` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie kill 0b2f6a0e
  pie kill --server http://10.0.0.2:8080 0b2f6a0e")]
pub(crate) struct Kill {
    /// Its id; a beginning that no other has is enough.
    pub(crate) id: String,
}

impl InSession for Kill {
    async fn perform(self, client: &Client) -> Result<()> {
        Ok(client.terminate(&self.id).await?)
    }
}

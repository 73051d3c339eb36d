//! `pie kill`: ends an inferlet on a server.

use anyhow::Result;
use clap::Args;

use super::remote::ServerFlags;

/// Flags of `pie kill`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie kill 0b2f6a0e
  pie kill --server http://10.0.0.2:8080 0b2f6a0e")]
pub(crate) struct KillFlags {
    /// Its id; a beginning that no other has is enough.
    id: String,
    #[command(flatten)]
    server: ServerFlags,
}

pub(crate) async fn kill(flags: KillFlags) -> Result<()> {
    let client = flags.server.session().await?;
    let killed = client.terminate(&flags.id).await;
    client.close().await;
    Ok(killed?)
}

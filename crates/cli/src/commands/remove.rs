//! `pie remove`: takes an installed program away, on this machine or on a server.

use anyhow::Result;
use clap::Args;
use protocol::client::Client;
use runtime::InstalledPrograms;

use super::remote::{Here, InSession};
use crate::home::Home;
use crate::output;

/// What `pie remove` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie remove drafts
  pie remove drafts@0.1.0 --server http://10.0.0.2:8080

What runs goes on.")]
pub(crate) struct Remove {
    /// NAME@VERSION, or NAME where one version is installed; on a server NAME@VERSION, or a hash with all its names.
    program: String,
}

impl InSession for Remove {
    async fn perform(self, client: &Client) -> Result<()> {
        client.remove(&self.program).await?;
        output::line(format_args!("removed {}", self.program))
    }
}

impl Here for Remove {
    async fn perform_here(self) -> Result<()> {
        let removed = InstalledPrograms::new(Home::find()?.programs()).remove(&self.program)?;
        output::line(format_args!("removed {removed}"))
    }
}

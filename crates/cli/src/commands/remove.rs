//! `pie remove`: takes an installed program away, on this machine or on a server.

use anyhow::Result;
use clap::Args;
use runtime::InstalledPrograms;

use super::remote::ElsewhereFlags;
use crate::home::Home;
use crate::output;

/// Flags of `pie remove`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie remove drafts
  pie remove drafts@0.1.0 --server http://10.0.0.2:8080

What runs goes on.")]
pub(crate) struct RemoveFlags {
    /// NAME@VERSION, or NAME where one version is installed; on a server NAME@VERSION, or a hash with all its names.
    program: String,
    #[command(flatten)]
    elsewhere: ElsewhereFlags,
}

pub(crate) async fn remove(flags: RemoveFlags) -> Result<()> {
    let removed = match flags.elsewhere.session().await? {
        Some(client) => {
            let removed = client.remove(&flags.program).await;
            client.close().await;
            removed.map(|()| flags.program)?
        }
        None => InstalledPrograms::new(Home::find()?.programs()).remove(&flags.program)?,
    };
    output::line(format_args!("removed {removed}"))
}

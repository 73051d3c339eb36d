//! `pie install`: a program under a name and a version, on this machine or on a server.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use protocol::client::Client;
use runtime::{InstalledPrograms, manifest_of};

use super::remote::{Here, InSession, upload};
use crate::develop::cargo::Package;
use crate::home::Home;
use crate::output;

/// What `pie install` takes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie install drafts                               # the folder of its source, which is built
  pie install drafts.wasm drafts@0.2.0
  pie install drafts --server http://10.0.0.2:8080
  pie run drafts --help

A name stands for the version that was installed last; NAME@VERSION for that one. `pie programs` lists what is there.")]
pub(crate) struct Install {
    /// The `.wasm` file of the program, or the folder of its source.
    program: PathBuf,
    /// NAME@VERSION, for instance drafts@0.1.0; without it those of the program's Cargo.toml.
    name: Option<String>,
}

impl InSession for Install {
    async fn perform(self, client: &Client) -> Result<()> {
        let Component { path, name, .. } = self.component()?;
        let hash = upload(client, &path, true).await?;
        client.install(&hash, &name).await?;
        output::line(format_args!("{name}: hash {hash}"))
    }
}

impl Here for Install {
    async fn perform_here(self) -> Result<()> {
        let Component { path, name, wasm } = self.component()?;
        // What this version does not run is not installed.
        let program = super::build::check(&path).await?;
        ensure!(program.hash() == blake3::hash(&wasm).to_hex().as_str(), "{} was changed", path.display());
        InstalledPrograms::new(Home::find()?.programs()).install(&name, &wasm)?;
        output::line(format_args!("{name}: hash {}", program.hash()))
    }
}

/// What is installed.
struct Component {
    path: PathBuf,
    wasm: Vec<u8>,
    name: String,
}

impl Install {
    /// Builds it where it is source.
    fn component(self) -> Result<Component> {
        let path = match self.program.is_dir() {
            true => Package::open(&self.program)?.build()?,
            false => self.program,
        };
        let wasm = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let name = match self.name {
            Some(name) => name,
            None => own_name(&path, &wasm)?,
        };
        Ok(Component { path, wasm, name })
    }
}

/// The name and version that a program says of itself.
fn own_name(component: &Path, wasm: &[u8]) -> Result<String> {
    let failed = |words| anyhow::anyhow!("{}: {words}", component.display());
    let manifest = manifest_of(wasm).map_err(failed)?.with_context(|| {
        format!("{} does not say what it is called: give NAME@VERSION", component.display())
    })?;
    Ok(format!("{}@{}", manifest.name, manifest.version))
}

//! `pie install`: a program under a name and a version, on this machine or on a server.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use runtime::{InstalledPrograms, manifest_of};

use super::remote::ElsewhereFlags;
use crate::develop::cargo::Package;
use crate::home::Home;
use crate::{output, progress};

/// Flags of `pie install`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie install drafts                               # the folder of its source, which is built
  pie install drafts.wasm drafts@0.2.0
  pie install drafts --server http://10.0.0.2:8080
  pie run drafts --help

A name stands for the version that was installed last; NAME@VERSION for that one. `pie programs` lists what is there.")]
pub(crate) struct InstallFlags {
    /// The `.wasm` file of the program, or the folder of its source.
    program: PathBuf,
    /// NAME@VERSION, for instance drafts@0.1.0; without it those of the program's Cargo.toml.
    name: Option<String>,
    #[command(flatten)]
    elsewhere: ElsewhereFlags,
}

pub(crate) async fn install(flags: InstallFlags) -> Result<()> {
    let component = match flags.program.is_dir() {
        true => Package::open(&flags.program)?.build()?,
        false => flags.program.clone(),
    };
    let wasm = std::fs::read(&component).with_context(|| format!("cannot read `{}`", component.display()))?;
    let name = match flags.name {
        Some(name) => name,
        None => own_name(&component, &wasm)?,
    };
    match flags.elsewhere.session().await? {
        Some(client) => {
            let bar = progress::bytes(&format!("uploading {}", component.display()), Some(0));
            let uploaded = client.keep_file(&component, |done, total| {
                bar.set_length(total);
                bar.set_position(done);
            });
            let uploaded = uploaded.await;
            bar.finish_and_clear();
            let hash = uploaded?;
            let installed = client.install(&hash, &name).await;
            client.close().await;
            installed?;
            output::line(format_args!("{name}: hash {hash}"))
        }
        None => {
            // What this version does not run is not installed.
            let program = super::build::check(&component).await?;
            ensure!(
                program.hash() == blake3::hash(&wasm).to_hex().as_str(),
                "{} was changed",
                component.display()
            );
            InstalledPrograms::new(Home::find()?.programs()).install(&name, &wasm)?;
            output::line(format_args!("{name}: hash {}", program.hash()))
        }
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

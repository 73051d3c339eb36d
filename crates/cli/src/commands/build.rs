//! `pie build` and `pie test`: a program from its folder, by cargo.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use runtime::{API_VERSION, Program, Runtime, RuntimeConfig};

use crate::develop::cargo::Package;
use crate::home::Home;
use crate::output;

/// Flags of `pie build`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie build
  pie build my-program")]
pub(crate) struct BuildFlags {
    /// Folder of the program.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// Flags of `pie test`.
#[derive(Args)]
#[command(after_help = "\
The tests run on this machine, over the scripted host of the SDK (inferlet::testing): without a server and
without a model, the same each time.

Examples:
  pie test
  pie test my-program -- the_answer --nocapture")]
pub(crate) struct TestFlags {
    /// Folder of the program.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Arguments of the tests, after `--`: a part of their names, for instance.
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(crate) async fn build(flags: &BuildFlags) -> Result<()> {
    let package = Package::open(&flags.folder)?;
    let component = package.build()?;
    let program = check(&component).await?;
    let bytes = std::fs::metadata(&component)?.len();
    let here = std::env::current_dir().and_then(std::fs::canonicalize).unwrap_or_default();
    let shown = component.strip_prefix(&here).unwrap_or(&component).display();
    output::line(format_args!("{shown}: {} KiB, hash {}", bytes.div_ceil(1024), program.hash()))?;
    let kinds = [(program.runs(), "is run by `pie run`"), (program.answers_http(), "answers HTTP requests")];
    let kinds: Vec<_> = kinds.iter().filter(|(does, _)| *does).map(|(_, what)| *what).collect();
    output::line(format_args!("fits the API of this server ({API_VERSION}); {}", kinds.join(", ")))?;
    if let Some(needs) = program.needs() {
        output::line(format_args!(
            "takes at its launch {:.1} MiB of memory and {} table elements: `limits.memory_mb` bounds what it may \
             take later",
            needs.memory_bytes as f64 / f64::from(1 << 20),
            needs.table_elements
        ))?;
    }
    Ok(())
}

pub(crate) fn test(flags: &TestFlags) -> Result<()> {
    Package::open(&flags.folder)?.test(&flags.arguments)
}

/// Whether this server would take the program: it is compiled and linked as for a launch.
///
/// # Errors
/// When it is made for another API, or imports what there is not.
pub(super) async fn check(component: &Path) -> Result<Arc<Program>> {
    let config = RuntimeConfig { cache: Some(Home::find()?.cache()), ..RuntimeConfig::default() };
    let runtime = Runtime::start(config, Vec::new()).await?;
    runtime.load_file(component).await.context("this server does not take it")
}

//! `pie run --watch`: after each edit the program is built and run again, on the models that are loaded already.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use runtime::{Inferlet, LaunchOptions, Runtime};

use super::arguments::{self, Prepared};
use super::stream;
use crate::develop::cargo::Package;
use crate::output;

/// Between two looks at the sources.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Builds and runs the program until ctrl-c. What does not build or fails is said, and the next edit tries again.
///
/// # Errors
/// When nothing can be written to stdout.
pub(super) async fn watch(runtime: &Runtime, folder: &Path, options: &LaunchOptions) -> Result<()> {
    let package = Package::open(folder)?;
    loop {
        let version = package.version();
        let edited = async {
            while package.version() == version {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        // Ends with an error only; the edit and ctrl-c drop it, which ends the inferlet.
        let run = async {
            if let Err(error) = run_once(runtime, &package, options).await {
                if error.is::<output::Closed>() {
                    return error;
                }
                eprintln!("error: {error:#}");
            }
            eprintln!("[waiting for an edit of {}; ctrl-c ends]", folder.display());
            std::future::pending().await
        };
        tokio::select! {
            error = run => return Err(error),
            () = edited => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// Builds and runs once. Dropped, it ends the inferlet.
async fn run_once(runtime: &Runtime, package: &Package, options: &LaunchOptions) -> Result<()> {
    let start = Instant::now();
    let component = package.build()?;
    let program = runtime.load_file(&component).await?;
    eprintln!("[built in {:.1?}]", start.elapsed());
    let arguments = match arguments::prepare(program.manifest(), program.label(), &options.arguments)? {
        Prepared::Help(help) => return output::line(help.trim_end()),
        Prepared::Arguments(arguments) => arguments,
    };
    let mut inferlet = KillOnDrop(runtime.launch(&program, LaunchOptions { arguments, ..options.clone() })?);
    output::result(stream(&mut inferlet.0).await?)
}

struct KillOnDrop(Inferlet);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

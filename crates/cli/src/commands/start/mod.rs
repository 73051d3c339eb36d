//! `pie start`: serves models and programs, and has a shell to run inferlets in.
//!
//! This file has the flags and the life of the server; `shell` the commands, `follow` what becomes of an
//! inferlet's output, `terminal` how lines come in and go out.

mod follow;
mod shell;
mod terminal;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use server::Mounts;

use crate::assemble::Assembly;
use crate::config::{CommonFlags, KeyFlags, ServiceSettings, Settings, StartCommand};
use shell::Shell;

/// Flags of `pie start`.
#[derive(Args)]
pub(crate) struct StartFlags {
    #[command(flatten)]
    common: CommonFlags,
    #[command(flatten)]
    keys: KeyFlags<StartCommand>,
    /// Let a program answer HTTP requests below a path, for instance /hello=http-server.
    #[arg(long, value_name = "PATH=PROGRAM")]
    serve: Vec<String>,
}

impl StartFlags {
    fn settings(&self) -> Result<Settings> {
        let mut settings = self.common.settings(&self.keys.given)?;
        for entry in &self.serve {
            let (path, program) = entry.split_once('=').with_context(|| {
                format!("`--serve {entry}`: expected PATH=PROGRAM, for instance /hello=http-server")
            })?;
            settings.services.push(ServiceSettings {
                program: program.to_string(),
                path: Some(path.to_string()),
                ..ServiceSettings::default()
            });
        }
        Ok(settings)
    }
}

pub(crate) async fn start(flags: StartFlags) -> Result<()> {
    let settings = flags.settings()?;
    let mounts = Mounts::default();
    let host = settings.server.host.clone();
    let address = server::listen(&host, settings.server.port, mounts.clone()).await;
    let address = address.map_err(|error| anyhow!("{error} with `--port`"))?;
    let assembly = Assembly::start(&settings).await?;
    let shell = Shell::new(&assembly, mounts.clone(), host);
    for service in &settings.services {
        shell.serve(&service.program, service.mount()?, service.arguments.clone()).await?;
    }
    mounts.set_ready();
    eprintln!("server started, http://{address}/health answers; `help` lists the commands");
    shell.run().await?;
    assembly.stop();
    Ok(())
}

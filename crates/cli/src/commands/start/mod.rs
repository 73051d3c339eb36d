//! `pie start`: serves models and programs, and has a shell to run inferlets in.
//!
//! This file has the flags and the life of the server; `shell` the commands, `follow` what becomes of an
//! inferlet's output, `terminal` how lines come in and go out.

mod follow;
mod shell;
mod terminal;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use runtime::AllowedHosts;
use server::Mounts;

use crate::assemble::Assembly;
use crate::config::{self, ModelSettings, Place, ServiceSettings, Settings};
use shell::Shell;

/// Flags of `pie start`.
#[derive(Args)]
pub(crate) struct StartFlags {
    /// Settings; see docs/config.md.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Model to serve when the config names none.
    #[arg(short, long, default_value = model_store::DEFAULT_MODEL)]
    model: String,
    /// Address to listen on.
    #[arg(long)]
    host: Option<String>,
    /// Port to listen on; 0 takes any that is free.
    #[arg(long)]
    port: Option<u16>,
    /// A host that programs may send HTTP requests to: example.com, *.example.com, 127.0.0.1:8000 or *.
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// Let a program answer HTTP requests below a path, for instance /hello=http-server.
    #[arg(long, value_name = "PATH=PROGRAM")]
    serve: Vec<String>,
    /// When a batch is fired: adaptive, eager, k, t or kort.
    #[arg(long)]
    batching_strategy: Option<String>,
    /// Passes of a batch for k and kort.
    #[arg(long, requires = "batching_strategy")]
    batching_strategy_k: Option<u32>,
    /// Milliseconds to wait for t and kort.
    #[arg(long, requires = "batching_strategy")]
    batching_strategy_t: Option<u64>,
}

pub(crate) async fn start(flags: StartFlags) -> Result<()> {
    let mut settings = match &flags.config {
        Some(path) => Settings::read(path)?,
        None => Settings::default(),
    };
    if let Some(name) = &flags.batching_strategy {
        settings.policy = config::policy(name, flags.batching_strategy_k, flags.batching_strategy_t)?;
    }
    if settings.models.is_empty() {
        settings.models.push(ModelSettings::new(&flags.model));
    }
    settings.host = flags.host.unwrap_or(settings.host);
    settings.port = flags.port.unwrap_or(settings.port);
    if !flags.allow_host.is_empty() {
        settings.allowed_hosts = AllowedHosts::parse(&flags.allow_host).context("`--allow-host`")?;
    }
    for entry in &flags.serve {
        let (path, program) = entry.split_once('=').with_context(|| {
            format!("`--serve {entry}`: expected PATH=PROGRAM, for instance /hello=http-server")
        })?;
        let place = Place::Path(path.to_string());
        settings.services.push(ServiceSettings {
            program: program.to_string(),
            place,
            arguments: Vec::new(),
        });
    }
    let mounts = Mounts::default();
    let host = settings.host.clone();
    let address = server::listen(&host, settings.port, mounts.clone()).await;
    let address = address.map_err(|error| anyhow!("{error} with `--port`"))?;
    let assembly = Assembly::start(&settings).await?;
    let shell = Shell::new(&assembly, mounts.clone(), host);
    for ServiceSettings { program, place, arguments } in settings.services {
        shell.serve(&program, place, arguments).await?;
    }
    mounts.set_ready();
    eprintln!("server started, http://{address}/health answers; `help` lists the commands");
    shell.run().await?;
    assembly.stop();
    Ok(())
}

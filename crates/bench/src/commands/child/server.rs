//! `pie serve` as a child.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::{Children, PAUSE, Process, last_lines};
use crate::client::api::Api;
use crate::client::{ClientOptions, Stop, fetch};

/// How a server is started.
#[derive(Debug)]
pub struct Start<'a> {
    /// The binary.
    pub binary: PathBuf,
    /// Arguments of `pie serve` beside address and keys.
    pub arguments: Vec<&'a OsStr>,
    /// Folder of its programs; those of its environment by default.
    pub programs: Option<&'a Path>,
    /// The file for what it says.
    pub log: &'a Path,
    /// How long it may take until it is ready.
    pub patience: Duration,
    /// Ends the wait for it.
    pub stop: &'a Stop,
    /// Whose it becomes one of.
    pub children: &'a Children,
}

/// A server on a free port of this machine, without keys, that is stopped when this is dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    /// Its address.
    pub url: String,
}

impl Server {
    /// Starts one and waits until it takes requests.
    ///
    /// # Errors
    /// When it cannot be started, ends, is not ready in time, or the run is stopped; with what it said.
    pub fn start(start: &Start<'_>) -> anyhow::Result<Self> {
        let Start { binary, log, .. } = start;
        let mut command = Command::new(binary);
        command.args(["serve", "--no-auth", "--host", "127.0.0.1", "--port", "0"]).args(&start.arguments);
        if let Some(programs) = start.programs {
            command.env("PIE_PROGRAMS", programs);
        }
        let process = Process::start(command, log, start.children)
            .context("put pie beside pie-bench, or name it with PIE_BIN")?;
        let mut server = Self { process, url: String::new() };
        let begun = Instant::now();
        while !server.is_ready(log)? {
            if let Some(status) = server.process.ended()? {
                bail!("`{} serve` ended with {status}: {}", binary.display(), last_lines(log));
            }
            if begun.elapsed() > start.patience {
                let (binary, log) = (binary.display(), log.display());
                bail!("`{binary}` is not ready after {:?}; see `{log}`", start.patience);
            }
            ensure!(!start.stop.is_stopped(), "stopped before `{} serve` was ready", binary.display());
            std::thread::sleep(PAUSE);
        }
        Ok(server)
    }

    /// Finds out its address, which it says once it listens, and asks there.
    fn is_ready(&mut self, log: &Path) -> anyhow::Result<bool> {
        let Some(url) = address_in(&std::fs::read_to_string(log)?) else { return Ok(false) };
        self.url = url;
        let options = ClientOptions::new(self.url.parse()?, Api::COMPLETIONS);
        let ready = fetch(&options, "GET", "/health/ready", None, Duration::from_secs(2));
        Ok(ready.is_ok_and(|ready| ready.status == 200))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

/// The binary that is named, `$PIE_BIN`, the `pie` beside this program, or that of `$PATH`.
pub fn binary(named: Option<PathBuf>) -> PathBuf {
    let set = || std::env::var_os("PIE_BIN").filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) = named.or_else(set) {
        return path;
    }
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("pie"));
    beside.filter(|path| path.exists()).unwrap_or_else(|| "pie".into())
}

/// The address in what a server has said so far.
fn address_in(said: &str) -> Option<String> {
    // The end of the line says that the address is whole.
    let whole = &said[..=said.rfind('\n')?];
    let (_, rest) = whole.split_once(" on http://")?;
    Some(format!("http://{}", rest.split(['/', ' ', '\n']).next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_what_the_server_says() {
        let said = "compiling\nserving m on http://127.0.0.1:40483/v1\n";
        assert_eq!(address_in(said), Some("http://127.0.0.1:40483".to_string()));
        assert_eq!(address_in("error\n"), None);
        assert_eq!(address_in("serving m on http://127.0.0.1:404"), None);
    }

    #[test]
    fn a_server_that_ends_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/server.log");
        let (stop, children) = (Stop::default(), Children::default());
        let start = |binary: &str| {
            let start = Start {
                binary: binary.into(),
                arguments: Vec::new(),
                programs: None,
                log: &log,
                patience: Duration::from_secs(60),
                stop: &stop,
                children: &children,
            };
            format!("{:#}", Server::start(&start).unwrap_err())
        };
        let error = start("false");
        assert!(error.starts_with("`false serve` ended with"), "{error}");
        let error = start("/nowhere/pie");
        assert!(error.contains("name it with PIE_BIN") && error.contains("/nowhere/pie"), "{error}");
    }
}

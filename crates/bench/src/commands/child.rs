//! pie as a child, for as long as a command measures it.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::api::Api;
use crate::client::{ClientOptions, fetch};

/// How long the server has to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at what it says.
const PAUSE: Duration = Duration::from_millis(50);

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
}

/// A server on a free port of this machine, without keys, that is stopped when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Its address.
    pub url: String,
}

impl Server {
    /// Starts one and waits until it takes requests.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready in time, with what it said.
    pub fn start(start: &Start<'_>) -> anyhow::Result<Self> {
        let Start { binary, log, .. } = start;
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        let file = File::create(log).with_context(|| format!("cannot write `{}`", log.display()))?;
        let mut command = Command::new(binary);
        command.args(["serve", "--no-auth", "--host", "127.0.0.1", "--port", "0"]).args(&start.arguments);
        if let Some(programs) = start.programs {
            command.env("PIE_PROGRAMS", programs);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().with_context(|| {
            format!("cannot start `{}`; put pie beside pie-bench, or name it with PIE_BIN", binary.display())
        })?;
        // From here on the child ends with the value.
        let mut server = Self { child, url: String::new() };
        let begun = Instant::now();
        while !server.is_ready(log)? {
            if let Some(status) = server.child.try_wait()? {
                bail!("`{} serve` ended with {status}: {}", binary.display(), last_lines(log));
            }
            if begun.elapsed() > start.patience {
                let (binary, log) = (binary.display(), log.display());
                bail!("`{binary}` is not ready after {:?}; see `{log}`", start.patience);
            }
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
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // A process that has ended gets no signal, and is reaped below.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let start = Instant::now();
        while start.elapsed() < STOP_LIMIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// The end of what a server has said.
fn last_lines(log: &Path) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
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
        let start = |binary: &str| Start {
            binary: binary.into(),
            arguments: Vec::new(),
            programs: None,
            log: &log,
            patience: Duration::from_secs(60),
        };
        let error = Server::start(&start("false")).unwrap_err().to_string();
        assert!(error.starts_with("`false serve` ended with"), "{error}");
        let error = Server::start(&start("/nowhere/pie")).unwrap_err().to_string();
        assert!(error.contains("name it with PIE_BIN"), "{error}");
    }
}

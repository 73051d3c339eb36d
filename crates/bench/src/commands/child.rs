//! The server of `--backend cpu`: `pie serve` as a child, on a free port, for as long as the run is.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::api::Api;
use crate::client::{ClientOptions, fetch};

/// How long the server has to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A server that is stopped when this is dropped.
pub(super) struct Server {
    child: Child,
    /// Its address.
    pub(super) url: String,
}

/// `$PIE_BIN`, the `pie` beside this program, or that of `$PATH`.
fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PIE_BIN").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("pie"));
    beside.filter(|path| path.exists()).unwrap_or_else(|| "pie".into())
}

impl Server {
    /// Starts one and waits until it takes requests. What it says is in the file `log`.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready within `patience`.
    pub(super) fn start(model: Option<&str>, log: &Path, patience: Duration) -> anyhow::Result<Self> {
        let binary = binary();
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        let file = File::create(log).with_context(|| format!("cannot write `{}`", log.display()))?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut command = Command::new(&binary);
        command.args(["serve", "--no-auth", "--host", "127.0.0.1", "--port", &port.to_string()]);
        if let Some(model) = model {
            command.args(["--model", model]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().with_context(|| {
            format!("cannot start `{}`; put pie beside pie-bench, or name it with PIE_BIN", binary.display())
        })?;
        let mut server = Self { child, url: format!("http://127.0.0.1:{port}") };
        let options = ClientOptions::new(server.url.parse()?, Api::COMPLETIONS);
        let start = Instant::now();
        loop {
            if let Some(status) = server.child.try_wait()? {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                bail!("`{} serve` ended with {status}: {}", binary.display(), last.join("\n"));
            }
            let ready = fetch(&options, "GET", "/health/ready", None, Duration::from_secs(2));
            if ready.is_ok_and(|ready| ready.status == 200) {
                return Ok(server);
            }
            if start.elapsed() > patience {
                bail!("`{}` is not ready after {patience:?}; see `{}`", binary.display(), log.display());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
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
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

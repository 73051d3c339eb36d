//! A `pie` of one's own, as its operator sees it.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::http::Client;

/// The longest start.
const READY: Duration = Duration::from_secs(180);

/// The binary that was built with this example.
fn pie() -> Result<PathBuf> {
    let example = std::env::current_exe()?;
    let folder = example.parent().and_then(Path::parent).context("target/release/examples")?;
    Ok(folder.join("pie"))
}

/// A folder for `PIE_HOME`, removed in the end.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Result<Home> {
        Ok(Home(tempfile::tempdir()?))
    }

    /// What a command of pie prints.
    pub(crate) fn pie(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments)?.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pie {arguments:?}: {}: {said}", output.status);
        Ok(String::from_utf8(output.stdout)?.trim().to_string())
    }

    /// Starts a command of pie and kills it after so long, unless it has ended by then. Whether it had ended well.
    pub(crate) fn killed_after(&self, arguments: &[&str], after: Duration) -> Result<bool> {
        let mut process = self.command(arguments)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(after);
        // One that has ended is not killed.
        process.kill()?;
        Ok(process.wait()?.success())
    }

    fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(pie()?);
        let programs =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs/target/wasm32-wasip2/release");
        command.args(arguments).env("PIE_HOME", self.0.path()).env("PIE_PROGRAMS", programs);
        Ok(command)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.0.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Files below it that a server has written, without those of compiled programs.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        fn below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                match path.is_dir() {
                    true if path.ends_with("cache") => {}
                    true => below(&path, files)?,
                    false => files.push(path),
                }
            }
            Ok(())
        }
        let mut files = Vec::new();
        below(self.0.path(), &mut files)?;
        files.sort();
        Ok(files)
    }

    /// Files of uploaded programs: what each must be, and the file.
    pub(crate) fn uploads(&self) -> Result<Vec<(String, PathBuf)>> {
        let named = |path: PathBuf| {
            let hash = path.file_name()?.to_str()?.strip_suffix(".wasm")?.to_string();
            let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hash.then_some((hash, path))
        };
        Ok(self.files()?.into_iter().filter_map(named).collect())
    }

    /// Starts a server and waits until it answers. Without keys, unless there are some.
    pub(crate) async fn start(&self, model: &Path, config: &str, keys: bool) -> Result<Server> {
        // Let go at once, and taken by the server: nobody else looks for ports meanwhile.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = self.write("config.toml", config)?;
        let (port_text, config) = (port.to_string(), config.to_string_lossy().into_owned());
        let model = model.to_string_lossy().into_owned();
        let mut arguments = vec!["serve", "--port", &port_text, "--config", &config, "--model", &model];
        if !keys {
            arguments.push("--no-auth");
        }
        let start = Instant::now();
        let process = self.command(&arguments)?.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let client = Client { address: format!("127.0.0.1:{port}"), key: None };
        let mut server = Server { process, client, started_in: Duration::ZERO };
        loop {
            if let Some(status) = server.process.try_wait()? {
                bail!("the server ended at its start: {status}");
            }
            if matches!(server.client.ask("GET", "/health", "").await, Ok((200, _))) {
                server.started_in = start.elapsed();
                return Ok(server);
            }
            ensure!(start.elapsed() < READY, "the server is not ready after {READY:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A running server.
pub(crate) struct Server {
    process: Child,
    pub(crate) client: Client,
    pub(crate) started_in: Duration,
}

/// What a server holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held {
    /// What the machine lacks by it: pages that several mappings share count once.
    pub(crate) memory_mib: f64,
    /// What is mapped and there, where the image of a program counts once for each of its instances.
    pub(crate) resident_mib: f64,
    pub(crate) files: usize,
    pub(crate) threads: usize,
    pub(crate) inferlets: f64,
    pub(crate) pages: f64,
    pub(crate) requests: f64,
}

impl Server {
    /// Kills it without a word.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Tells it to stop; it must end well.
    pub(crate) fn stop(mut self) -> Result<()> {
        let process = self.process.id().to_string();
        ensure!(Command::new("kill").arg(&process).status()?.success(), "kill {process}");
        let status = self.process.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// Metrics by name, those of all labels together.
    pub(crate) async fn metrics(&self, client: &Client) -> Result<BTreeMap<String, f64>> {
        let (status, body) = client.ask("GET", "/metrics", "").await?;
        ensure!(status == 200, "/metrics: {status}");
        let mut metrics = BTreeMap::new();
        for line in body.as_str().context("text")?.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let value: f64 = value.parse()?;
            let short = name.split('{').next().unwrap_or(name).to_string();
            *metrics.entry(short).or_insert(0.0) += value;
            metrics.insert(name.to_string(), value);
        }
        Ok(metrics)
    }

    pub(crate) async fn held(&self, client: &Client) -> Result<Held> {
        let process = format!("/proc/{}", self.process.id());
        let field = |file: &str, name: &str| -> Result<f64> {
            let text = fs::read_to_string(format!("{process}/{file}"))?;
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_string())?;
            Ok(line.split_whitespace().next().context("a number")?.parse()?)
        };
        let metrics = self.metrics(client).await?;
        let used = metrics
            .iter()
            .filter(|(name, _)| name.starts_with("pie_kv_pages{") && name.contains("state=\"used\""));
        let of = |name: &str| metrics.get(name).copied().with_context(|| format!("no metric `{name}`"));
        Ok(Held {
            memory_mib: field("smaps_rollup", "Pss:")? / 1024.0,
            resident_mib: field("status", "VmRSS:")? / 1024.0,
            threads: field("status", "Threads:")? as usize,
            files: fs::read_dir(format!("{process}/fd"))?.count(),
            // By program: none before the first.
            inferlets: ["pie_inferlets_running", "pie_inferlets_waiting"]
                .iter()
                .map(|name| metrics.get(*name).copied().unwrap_or(0.0))
                .sum(),
            pages: used.map(|(_, value)| value).sum(),
            requests: of("pie_http_requests_running")?,
        })
    }

    /// Waits until nothing runs, and says what is held then.
    pub(crate) async fn quiet(&self, client: &Client) -> Result<Held> {
        let start = Instant::now();
        loop {
            let held = self.held(client).await?;
            // The request of the metrics itself is one.
            if held.inferlets == 0.0 && held.requests <= 1.0 {
                return Ok(held);
            }
            ensure!(start.elapsed() < Duration::from_secs(60), "after a minute without work: {held:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

//! pie: a server that is there, or a child for the time of an experiment.
//!
//! Programs are launched over HTTP by `inferlets/launch-server`, which is served below `/launch`: one request for a whole
//! agent, whose answer is the program's result.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::api::post;
use crate::client::api::Api as Spoken;
use crate::client::{ClientOptions, fetch};

/// Where `launch-server` is served.
const ROUTE: &str = "/launch";
/// How long a child may take until it is ready: it may compile all programs first.
const READY: Duration = Duration::from_secs(300);

/// How a child is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The binary.
    pub binary: PathBuf,
    /// Model to serve.
    pub model: String,
    /// Threads that compute.
    pub threads: Option<usize>,
    /// Batching strategy; the default of the server where none is named.
    pub strategy: Option<String>,
    /// Folder of the programs.
    pub programs: PathBuf,
}

/// A server that launches programs.
#[derive(Debug)]
pub struct Pie {
    options: ClientOptions,
    child: Option<(Child, PathBuf)>,
}

/// What the server has counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Tokens that passes drew.
    pub generated: f64,
    /// Rows that the model computed: tokens given to passes, but for those that the prefix cache had.
    pub computed: f64,
    /// Passes.
    pub passes: f64,
}

impl Pie {
    /// A server that runs. It must serve `launch-server` below `/launch`.
    ///
    /// # Errors
    /// When it does not answer there.
    pub fn connect(url: &str, api_key: Option<String>) -> anyhow::Result<Self> {
        let spoken = Spoken::find("openai").context("completions are spoken")?;
        let mut options = ClientOptions::new(url.parse()?, spoken);
        options.api_key = api_key;
        let pie = Self { options, child: None };
        pie.launch("bench-spawn", &[]).with_context(|| {
            format!("pie at {url}: start it with --serve {ROUTE}=launch-server, and PIE_PROGRAMS with the programs")
        })?;
        Ok(pie)
    }

    /// Starts a server for as long as this value lives.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(start: &Start, api_key: Option<String>) -> anyhow::Result<Self> {
        let number = fastrand::u64(..);
        let folder = std::env::temp_dir().join(format!("pie-bench-{}-{number:x}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        let started = Self::start_in(&folder, start, api_key);
        if started.is_err() {
            let _ = std::fs::remove_dir_all(&folder);
        }
        started
    }

    fn start_in(folder: &Path, start: &Start, api_key: Option<String>) -> anyhow::Result<Self> {
        let config = folder.join("config.toml");
        std::fs::write(&config, config_of(start))?;
        let mut command = Command::new(&start.binary);
        command.arg("serve").arg("--config").arg(&config).env("PIE_PROGRAMS", &start.programs);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| {
            format!("cannot start `{}`: name the binary with --pie-binary or PIE_BIN", start.binary.display())
        })?;
        let address = child.stderr.take().map(|said| address_of(BufReader::new(said)));
        let address = match address.context("its stderr is a pipe")? {
            Ok(address) => address,
            Err(said) => {
                let _ = child.kill();
                let _ = child.wait();
                bail!("pie ended before it was ready, or took over {} s: {}", READY.as_secs(), said.trim());
            }
        };
        // From here on the child ends with the value.
        let spoken = Spoken::find("openai").context("completions are spoken")?;
        let mut options = ClientOptions::new(address.parse()?, spoken);
        options.api_key = api_key;
        let pie = Self { options, child: Some((child, folder.into())) };
        pie.launch("bench-spawn", &[])
            .with_context(|| format!("programs of `{}`", start.programs.display()))?;
        Ok(pie)
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.options.address.to_string()
    }

    /// Runs a program and gives its result, a text.
    ///
    /// # Errors
    /// Why it was not launched, or how it failed.
    pub fn launch(&self, program: &str, arguments: &[String]) -> anyhow::Result<String> {
        let body = json!({ "program": program, "arguments": arguments });
        let answer = post(&self.options, ROUTE, &body)?;
        let result = answer["result"].as_str();
        Ok(result.with_context(|| format!("`{program}`: the answer has no `result`"))?.to_string())
    }

    /// Runs a program whose result is JSON.
    ///
    /// # Errors
    /// As for [`Pie::launch`], and when it is no JSON.
    pub fn report(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Value> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_string()).collect();
        let result = self.launch(program, &arguments)?;
        serde_json::from_str(&result).with_context(|| format!("`{program}`: found `{result}`, expected JSON"))
    }

    /// What the server has counted so far.
    ///
    /// # Errors
    /// When it does not say.
    pub fn counters(&self) -> anyhow::Result<Counters> {
        let fetched = fetch(&self.options, "GET", "/metrics", None, Duration::from_secs(30));
        let fetched = fetched.map_err(|failure| anyhow::anyhow!("/metrics: {}", failure.message))?;
        let page = String::from_utf8_lossy(&fetched.body);
        Ok(Counters {
            generated: sum(&page, "pie_generated_tokens_total", "")?,
            computed: sum(&page, "pie_rows_total", "source=\"computed\"")?,
            passes: sum(&page, "pie_passes_total", "outcome=\"completed\"")?,
        })
    }
}

impl Drop for Pie {
    fn drop(&mut self) {
        let Some((child, folder)) = &mut self.child else { return };
        // The files of a killed server are whole; what it held belongs to this experiment alone.
        let _ = child.kill();
        let _ = child.wait();
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// The settings of a child. Limits are above what an experiment needs: 896 programs at once, and as many connections.
fn config_of(start: &Start) -> String {
    let text = |value: &str| json!(value).to_string();
    let mut config = String::from("port = 0\nenable_auth = false\n");
    if let Some(strategy) = &start.strategy {
        config += &format!("batching_strategy = {}\n", text(strategy));
    }
    config += &format!("\n[[backend]]\nmodel = {}\n", text(&start.model));
    if let Some(threads) = start.threads {
        config += &format!("threads = {threads}\n");
    }
    config += &format!("\n[[serve]]\npath = \"{ROUTE}\"\nprogram = \"launch-server\"\n");
    config += "\n[limits]\ninferlets = 4096\nuser_inferlets = 4096\n";
    config += "\n[admission]\nrunning = 1024\n\n[http]\nconnections_per_address = 4096\n";
    config
}

/// The address in what a server says, or all that it said when it ended without or [`READY`] has passed. What it says
/// later is read and dropped, so that it never waits for a reader.
fn address_of(mut said: impl BufRead + Send + 'static) -> Result<String, String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        while said.read_line(&mut line).is_ok_and(|length| length > 0) {
            // Nobody listens once the address is known.
            let _ = sender.send(std::mem::take(&mut line));
        }
    });
    let (start, mut all) = (Instant::now(), String::new());
    loop {
        match receiver.recv_timeout(READY.saturating_sub(start.elapsed())) {
            Ok(line) => {
                if let Some((_, rest)) = line.split_once(" on http://") {
                    let authority = rest.split(['/', ' ', '\n']).next().unwrap_or_default();
                    return Ok(format!("http://{authority}"));
                }
                all += &line;
            }
            Err(_) => return Err(all),
        }
    }
}

/// The sum of a counter over its labels, of those that have `label`.
fn sum(page: &str, name: &str, label: &str) -> anyhow::Result<f64> {
    let values = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        labels.contains(label).then(|| value.parse::<f64>().ok())?
    });
    let values: Vec<f64> = values.collect();
    if values.is_empty() {
        bail!("`/metrics` has no `{name}`; this server is no pie");
    }
    Ok(values.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_models() {
        let page =
            "# TYPE a counter\na{model=\"x\",s=\"c\"} 2.0\na{model=\"y\",s=\"c\"} 3.0\na{s=\"d\"} 7.0\n";
        assert_eq!(sum(page, "a", "s=\"c\"").unwrap(), 5.0);
        assert!(sum(page, "b", "").is_err());
    }

    #[test]
    fn the_address_is_what_the_server_says() {
        let said = "compiling\nserving m on http://127.0.0.1:40483/v1\n";
        assert_eq!(address_of(said.as_bytes()), Ok("http://127.0.0.1:40483".to_string()));
        assert_eq!(address_of(&b"error\n"[..]), Err("error\n".to_string()));
    }
}

//! pie: a server that is there, or a child for the time of an experiment.
//!
//! Programs are launched over HTTP by `inferlets/launch-server`, which is served below `/launch`: one request for a whole
//! agent, whose answer is the program's result.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::api::post;
use super::counters::Counters;
use crate::client::api::Api as Spoken;
use crate::client::{ClientOptions, Stop, session_options};
use crate::commands::child::{self, Children, Server};

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
    /// Folder of programs; without one the binary's own.
    pub programs: Option<PathBuf>,
}

/// A server that launches programs.
#[derive(Debug)]
pub struct Pie {
    options: ClientOptions,
    child: Option<(Server, PathBuf)>,
}

impl Pie {
    /// A server that runs. It must serve `launch-server` below `/launch`.
    ///
    /// # Errors
    /// When it does not answer there.
    pub fn connect(url: &str, api_key: Option<String>) -> anyhow::Result<Self> {
        let mut options = ClientOptions::new(url.parse()?, Spoken::COMPLETIONS);
        options.api_key = api_key;
        let pie = Self { options, child: None };
        pie.launch("bench-spawn", &[])
            .with_context(|| format!("pie at {url}: start it with --serve {ROUTE}=launch-server"))?;
        Ok(pie)
    }

    /// Starts a server for as long as this value lives.
    ///
    /// # Errors
    /// When it does not start, with what it said.
    pub fn start(start: &Start, api_key: Option<String>, children: &Children) -> anyhow::Result<Self> {
        let number = fastrand::u64(..);
        let folder = std::env::temp_dir().join(format!("pie-bench-{}-{number:x}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        let started = Self::start_in(&folder, start, api_key, children);
        if started.is_err() {
            let _ = std::fs::remove_dir_all(&folder);
        }
        started
    }

    fn start_in(
        folder: &Path,
        start: &Start,
        api_key: Option<String>,
        children: &Children,
    ) -> anyhow::Result<Self> {
        let config = folder.join("config.toml");
        std::fs::write(&config, config_of(start))?;
        let server = Server::start(&child::Start {
            binary: start.binary.clone(),
            arguments: vec!["--config".as_ref(), config.as_os_str()],
            programs: start.programs.as_deref(),
            log: &folder.join("server.log"),
            patience: READY,
            // A signal ends this command at once, children first.
            stop: &Stop::default(),
            children,
        })?;
        let mut options = ClientOptions::new(server.url.parse()?, Spoken::COMPLETIONS);
        options.api_key = api_key;
        let pie = Self { options, child: Some((server, folder.into())) };
        pie.launch("bench-spawn", &[]).with_context(|| match &start.programs {
            Some(folder) => format!("programs of `{}`", folder.display()),
            None => format!("the programs of `{}`", start.binary.display()),
        })?;
        Ok(pie)
    }

    /// Its address.
    pub fn url(&self) -> String {
        self.options.address.to_string()
    }

    /// How a session with it is opened.
    pub(super) fn session_options(&self) -> protocol::client::Options {
        session_options(&self.options)
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
        Counters::fetch(&self.options)?.context("`/metrics` lacks pie's counters; this server is no pie")
    }
}

impl Drop for Pie {
    fn drop(&mut self) {
        let Some((server, folder)) = self.child.take() else { return };
        // It may write until it has ended.
        drop(server);
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// The settings of a child. Limits are above what an experiment needs: 896 programs at once, and as many connections.
fn config_of(start: &Start) -> String {
    let text = |value: &str| json!(value).to_string();
    let mut config = String::new();
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

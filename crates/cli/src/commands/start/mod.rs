//! `pie start`: serves models and programs, and has a shell to run inferlets in; `pie serve` is the same without one.
//!
//! This file has the flags and the life of the server, `signals` what ends it from outside, `reload` what SIGHUP changes.
//!
//! The server ends on `exit`, SIGTERM or SIGINT (but for one that is for a command of the shell), and not at the end of
//! stdin: services have none. It ends too, and not with 0, when an engine dies.

mod reload;
mod signals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use runtime::Runtime;
use server::{Front, FrontOptions};
use tokio::sync::oneshot;
use trace::Telemetry;

use crate::assemble::Assembly;
use crate::commands::shell::{self, End, Foreground, Operator, Shell};
use crate::config::{CommonFlags, KeyFlags, ServiceSettings, Settings, StartCommand};
use crate::output::note;
use crate::{api, logging, telemetry};
use reload::{Hangups, Reload};
use signals::StopSignals;
pub(crate) use signals::{INTERRUPT, Signals};

/// Between two looks at whether the engines live, and at what still runs while the server stops.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// For killed inferlets and their connections to be gone.
const KILLED_ENDS: Duration = Duration::from_secs(1);

/// Flags of `pie start` and `pie serve`.
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

/// What `pie serve --help` shows in the end.
pub(crate) const SERVE_EXAMPLES: &str = "\
Examples:
  pie serve --no-auth
  pie serve --no-auth --model model.gguf --port 8080
  curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' \\
    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}'

Applications take http://127.0.0.1:8080/v1 as their base URL. For others than this machine there are
keys: `pie key add ann`, then `pie serve --host 0.0.0.0`. Each route is a program, and
--serve /v1/chat/completions=my-program puts another one in its place.";

/// `pie start`.
pub(crate) async fn start(flags: StartFlags, verbose: u8) -> Result<()> {
    let server = RunningServer::start(flags, verbose).await?;
    note(format_args!("server started, http://{}/health answers; `help` lists the commands", server.address));
    let stop = server.stop.clone();
    let shell = Shell::of(server.operator.clone(), server.foreground.clone());
    let stopped = move || {
        let stop = stop.clone();
        async move { stop.requested().await }
    };
    let (left, is_left) = oneshot::channel();
    // On a task of its own: it prints what runs in the foreground until that has ended, also when the server stops.
    let shell = tokio::spawn(async move {
        if let Ok((End::Left, _)) = shell.run(stopped).await {
            // A server that stops meanwhile does not ask.
            let _ = left.send(());
        }
    });
    // Without lines it goes on until a signal.
    let end = async {
        tokio::select! {
            Ok(()) = is_left => {}
            () = server.stop.requested() => {}
        }
    };
    let ended = server.run(end).await;
    server.stop(ended, async { drop(shell.await) }).await
}

/// `pie serve`.
pub(crate) async fn serve(flags: StartFlags, verbose: u8) -> Result<()> {
    let server = RunningServer::start(flags, verbose).await?;
    let scheme = if server.is_encrypted { "https" } else { "http" };
    note(format_args!("serving {} on {scheme}://{}/v1", server.models(), server.address));
    let ended = server.run(server.stop.requested()).await;
    server.stop(ended, async {}).await
}

/// A server that answers requests.
struct RunningServer {
    stop: StopSignals,
    front: Front,
    assembly: Assembly,
    address: SocketAddr,
    operator: Operator,
    /// The command of the shell, if there is one.
    foreground: Foreground,
    is_encrypted: bool,
    /// How long what runs may go on once the server is to stop.
    patience: Duration,
    telemetry: Option<Arc<Telemetry>>,
}

/// Why a server is to stop: engines that died, or nothing.
struct Ended(Vec<String>);

impl RunningServer {
    async fn start(flags: StartFlags, verbose: u8) -> Result<RunningServer> {
        let settings = &flags.settings()?;
        logging::start(verbose, settings.server.log_format());
        let foreground = Foreground::default();
        let stop = StopSignals::listen(foreground.clone())?;
        let hangups = Hangups::listen();
        reload::check_access(settings)?;
        let tls = settings.tls.files()?;
        let is_encrypted = tls.is_some();
        let front = Front::new(FrontOptions {
            limits: settings.http.limits(),
            admission: settings.admission.limits(),
            tls,
            cors_origins: settings.http.cors_origins.clone(),
            needs_key: settings.server.enable_auth,
            own_hosts_only: !settings.server.enable_auth,
        })?;
        let telemetry = telemetry::start(&settings.telemetry)?;
        if let Some(telemetry) = &telemetry {
            front.send_spans(telemetry.clone());
        }
        let host = settings.server.host.clone();
        let address = front.listen(&host, settings.server.port).await;
        let address = address.map_err(|error| anyhow!("{error} with `--port`"))?;
        let assembly = Assembly::start(settings).await?;
        let operator = Operator { runtime: assembly.runtime.clone(), front: front.clone(), host };
        for service in &settings.services {
            let ServiceSettings { program, user, arguments, .. } = service;
            operator.serve(program, service.mount()?, user, arguments.clone()).await?;
        }
        api::mount(&assembly.runtime, &front).await?;
        let runtime = assembly.runtime.clone();
        let counts = front.clone();
        front.set_metrics(move || {
            let (runtime, waiting) = (runtime.clone(), counts.admission_counts().waiting);
            async move { runtime.metrics(waiting).await }
        });
        let runtime = assembly.runtime.clone();
        let reload = Reload::new(front.clone(), runtime.clone(), settings.clone(), move || flags.settings())?;
        tokio::spawn(reload.run(hangups));
        front.offer_recordings(&runtime);
        front.offer_sessions(settings.session.options(), &runtime);
        front.set_ready(move || runtime.dead_models());
        stop.arm();
        let patience = Duration::from_millis(settings.server.shutdown_ms);
        Ok(RunningServer {
            stop,
            front,
            assembly,
            address,
            operator,
            foreground,
            is_encrypted,
            patience,
            telemetry,
        })
    }

    /// Names of the models.
    fn models(&self) -> String {
        self.assembly.runtime.models().iter().map(|model| model.name()).collect::<Vec<_>>().join(", ")
    }

    /// Goes on until `end`, or until an engine dies.
    async fn run(&self, end: impl Future<Output = ()>) -> Ended {
        tokio::select! {
            () = end => Ended(Vec::new()),
            models = death(&self.assembly.runtime) => Ended(models),
        }
    }

    /// Ends it: `last_words` are what is still to be printed once nothing runs.
    async fn stop(self, Ended(died): Ended, last_words: impl Future<Output = ()>) -> Result<()> {
        if !died.is_empty() {
            note(format_args!("stopping: the engine of {} died", died.join(", ")));
        }
        self.stop.request();
        wind_down(&self.front, &self.assembly.runtime, self.patience).await;
        // A terminal that takes nothing is not waited for.
        let _ = tokio::time::timeout(KILLED_ENDS, last_words).await;
        if let Some(telemetry) = &self.telemetry {
            telemetry::shutdown(telemetry);
        }
        shell::restore();
        // An engine that died is an error: whoever supervises the process then starts it anew.
        self.assembly.stop().await
    }
}

/// Returns once an engine has died, with the names of the models that are no longer computed.
async fn death(runtime: &Runtime) -> Vec<String> {
    loop {
        let dead = runtime.dead_models();
        if !dead.is_empty() {
            return dead;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Stops taking requests, waits until what runs has ended, and after `patience` ends it. What programs were
/// told is on disk is there already.
async fn wind_down(front: &Front, runtime: &Runtime, patience: Duration) {
    front.stop();
    let quiet = async || {
        front.drained().await;
        // Also those that answer no request, and what a program does after its answer.
        while !runtime.list().is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if !runtime.list().is_empty() {
        note(format_args!("stopping: what runs may finish for {patience:?}; a signal ends it at once"));
    }
    if tokio::time::timeout(patience, quiet()).await.is_ok() {
        return;
    }
    let running = runtime.list();
    tracing::warn!(inferlets = running.len(), ?patience, "ending what still runs");
    for inferlet in running {
        runtime.kill(&inferlet.id);
    }
    // They end at their next yield; a client that does not take the end of its answer is not waited for.
    let _ = tokio::time::timeout(KILLED_ENDS, quiet()).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use backend::FakeBackend;
    use runtime::{RuntimeConfig, ServedModel};
    use scheduler::{Engine, EngineConfig, SchedulerConfig};

    use super::*;

    #[tokio::test]
    async fn the_death_of_an_engine_is_noticed_with_its_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        model::test_model::write(&path, kernels::DType::F32, 1).unwrap();
        let model = Arc::new(model::Model::open(&path).unwrap());
        let engine = || {
            let backend = Box::new(FakeBackend::new(16, model.hyperparameters.vocab as u32));
            Engine::start(backend, SchedulerConfig::default(), EngineConfig::default()).unwrap()
        };
        let engines = [engine(), engine()];
        let served = ["one", "two"].iter().zip(&engines);
        let served =
            served.map(|(name, (handle, _))| ServedModel::new(name, model.clone(), handle.clone(), "fake"));
        let runtime = Runtime::start(RuntimeConfig::default(), served.collect()).await.unwrap();
        let watch = tokio::spawn(async move { death(&runtime).await });
        engines[1].0.shutdown();
        assert_eq!(watch.await.unwrap(), ["two"]);
    }
}

//! What changes while the server runs: keys and the certificate when their files do, the config file on SIGHUP.
//!
//! A file that is wrong changes nothing: the server goes on with what it had, and says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail, ensure};
use runtime::Runtime;
use server::Front;

use crate::config::{HttpSettings, Settings};
use crate::home::Home;
use crate::keys::{Keys, Names};

/// Between two looks at the files.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is read again.
pub(super) struct Reload {
    front: Front,
    runtime: Runtime,
    settings: Settings,
    /// Reads them anew.
    read: Box<dyn Fn() -> Result<Settings> + Send + Sync>,
    keys_file: PathBuf,
    /// Why the keys were not read last time, if they were not: then they are read again until they can be.
    keys_error: Option<String>,
    seen: BTreeMap<PathBuf, Option<SystemTime>>,
}

/// The file of keys of a server, if it has keys, which is then looked at before anything is loaded.
///
/// # Errors
/// When there is no key and no word that none is needed, and when none is needed on an address of others.
pub(super) fn check_access(settings: &Settings) -> Result<()> {
    let server = &settings.server;
    if server.enable_auth {
        let file = keys_file(settings)?;
        let keys = Keys::read(&file)?;
        ensure!(
            !keys.keys.is_empty(),
            "there are no keys in `{}`: make one with `pie key add NAME`, or give `--no-auth` to answer everybody on \
            this machine",
            file.display()
        );
        return Ok(());
    }
    let is_own = match server.host.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => server.host == "localhost",
    };
    if !is_own {
        bail!(
            "without keys the server listens on 127.0.0.1 or ::1 only, and `host` is `{}`: make keys with `pie key add \
            NAME` and leave `--no-auth` out",
            server.host
        );
    }
    Ok(())
}

fn keys_file(settings: &Settings) -> Result<PathBuf> {
    match &settings.server.keys_file {
        Some(file) => Ok(file.clone()),
        None => Ok(Home::find()?.keys()),
    }
}

impl Reload {
    /// Puts the keys into the front.
    ///
    /// # Errors
    /// When their file is wrong.
    pub(super) fn new(
        front: Front,
        runtime: Runtime,
        settings: Settings,
        read: impl Fn() -> Result<Settings> + Send + Sync + 'static,
    ) -> Result<Reload> {
        let keys_file = keys_file(&settings)?;
        let read = Box::new(read);
        let mut reload =
            Reload { front, runtime, settings, read, keys_file, keys_error: None, seen: BTreeMap::new() };
        reload.changed();
        reload.load_keys()?;
        Ok(reload)
    }

    /// Goes on for ever.
    pub(super) async fn run(mut self, mut hangups: Hangups) {
        loop {
            tokio::select! {
                () = hangups.next() => self.load_all(),
                () = tokio::time::sleep(LOOK_AGAIN) => {
                    // It may be on another machine, and slow.
                    tokio::task::block_in_place(|| self.load_changed());
                    for ended in self.front.take_expired_keys() {
                        self.runtime.revoke(&ended);
                    }
                }
            }
        }
    }

    /// Whether each file has changed since the last look, by name.
    fn changed(&mut self) -> Vec<PathBuf> {
        let tls = self.settings.tls.files().ok().flatten();
        let files = tls.into_iter().flat_map(|files| [files.certificate, files.key]);
        let files: Vec<PathBuf> = files.chain([self.keys_file.clone()]).collect();
        let mut changed = Vec::new();
        for file in files {
            let time = modified(&file);
            if self.seen.insert(file.clone(), time).is_some_and(|before| before != time) {
                changed.push(file);
            }
        }
        changed
    }

    fn load_changed(&mut self) {
        let changed = self.changed();
        if changed.contains(&self.keys_file) || self.keys_error.is_some() {
            self.load_keys_again();
        }
        if changed.iter().any(|file| *file != self.keys_file) {
            report("the certificate", self.front.reload_certificate().map_err(Into::into));
        }
    }

    /// Says why not only when that is new.
    fn load_keys_again(&mut self) {
        let loaded = self.load_keys();
        let error = loaded.as_ref().err().map(|error| format!("{error:#}"));
        if error.is_none() || error != self.keys_error {
            report("the keys", loaded);
        }
        self.keys_error = error;
    }

    fn load_keys(&self) -> Result<()> {
        if !self.settings.server.enable_auth {
            return Ok(());
        }
        let keys = Keys::read_existing(&self.keys_file)?;
        self.warn_of_unknown_names(&keys);
        let limits = &self.settings.limits;
        let keys =
            keys.keys.iter().map(|entry| entry.key(&self.runtime, limits)).collect::<Result<Vec<_>>>()?;
        for gone in self.front.set_keys(keys) {
            self.runtime.revoke(&gone);
        }
        Ok(())
    }

    /// A name that is mistyped allows nothing.
    fn warn_of_unknown_names(&self, keys: &Keys) {
        let names = Names {
            models: self.runtime.models().iter().map(|model| model.name().to_string()).collect(),
            programs: self.runtime.programs(),
            mcp: self.settings.mcp.iter().map(|server| server.name.clone()).collect(),
        };
        for entry in &keys.keys {
            for (what, name, known) in entry.limits.unknown(&names) {
                let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
                tracing::warn!(
                    key = entry.id,
                    "no {what} `{name}`, which the key allows; there are: {known}; `none` allows nothing"
                );
            }
        }
    }

    fn load_all(&mut self) {
        tracing::info!("SIGHUP: reading the config file, the keys and the certificate again");
        match (self.read)() {
            Ok(settings) => self.use_settings(settings),
            Err(error) => tracing::error!("the config file is not used: {error:#}"),
        }
        self.changed();
        self.load_keys_again();
        report("the certificate", self.front.reload_certificate().map_err(Into::into));
    }

    /// Takes over what can change, and names what cannot.
    fn use_settings(&mut self, next: Settings) {
        let Settings {
            server,
            models,
            limits,
            network,
            http,
            admission,
            session,
            tls,
            telemetry,
            kv_events,
            services,
            mcp,
        } = &next;
        let now = &self.settings;
        let fixed_http =
            (http.connections, &http.cors_origins) == (now.http.connections, &now.http.cors_origins);
        let fixed = [
            ("the keys outside of tables", *server == now.server),
            ("[[backend]]", *models == now.models),
            ("[limits]", *limits == now.limits),
            ("[session]", *session == now.session),
            ("[tls]", *tls == now.tls),
            ("[telemetry]", *telemetry == now.telemetry),
            ("[kv_events]", *kv_events == now.kv_events),
            ("[[serve]]", *services == now.services),
            ("[[mcp]]", *mcp == now.mcp),
            ("`connections` and `cors_origins` of [http]", fixed_http),
        ];
        for (what, _) in fixed.iter().filter(|(_, is_same)| !is_same) {
            tracing::warn!("{what} changed in the config file: that needs a restart of the server");
        }
        self.front.set_limits(http.limits(), admission.limits());
        self.runtime.set_allowed_hosts(network.allowed_hosts());
        // What needs a restart is said again until there was one.
        let (connections, cors_origins) = (now.http.connections, now.http.cors_origins.clone());
        let http = HttpSettings { connections, cors_origins, ..http.clone() };
        let (admission, network) = (admission.clone(), network.clone());
        (self.settings.http, self.settings.admission, self.settings.network) = (http, admission, network);
    }
}

fn report(what: &str, result: Result<()>) {
    match result {
        Ok(()) => tracing::info!("read again: {what}"),
        Err(error) => tracing::error!("not used, what was there stays: {what}: {error:#}"),
    }
}

/// When a file was written; none where there is no file.
fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|data| data.modified()).ok()
}

/// SIGHUP, where there is one.
pub(super) struct Hangups(#[cfg(unix)] Option<tokio::signal::unix::Signal>);

impl Hangups {
    /// From now on a hangup does not end the process.
    #[cfg(unix)]
    pub(super) fn listen() -> Hangups {
        use tokio::signal::unix::{SignalKind, signal};
        Hangups(signal(SignalKind::hangup()).ok())
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        let came = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if came.is_none() {
            std::future::pending().await
        }
    }

    #[cfg(not(unix))]
    pub(super) fn listen() -> Hangups {
        Hangups()
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        std::future::pending().await
    }
}

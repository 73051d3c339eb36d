//! The config file, and the flags that set its keys: read, checked, typed.
//!
//! `keys` declares each key once; `key` says how; `flags` makes flags of them. The tests of `documents` write
//! the tables of docs/config.md and example_config.toml from the same rows.
//!
//! The top-level keys and `[[backend]]` are those of the paper's artifact; keys that only its GPU backend had
//! are known and refused with the reason, not silently ignored.

#[cfg(test)]
mod documents;
mod flags;
mod key;
mod keys;
mod mcp;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use backend_cpu::{KvType, Quantize};
use runtime::{AllowedHosts, InferletLimits, ServerLimits, UserLimits};
use scheduler::PolicyKind;
use server::{AdmissionLimits, HttpLimits, SessionOptions, TlsFiles};
use toml::Value;

pub(crate) use flags::{CommonFlags, KeyFlags, StartCommand};
pub(crate) use keys::{
    AdmissionSettings, HttpSettings, KvEventSettings, LOCAL_USER, LimitSettings, McpSettings, ModelSettings,
    NetworkSettings, ServerSettings, ServiceSettings, SessionSettings, TelemetrySettings, TlsSettings,
    is_user,
};

use crate::logging::LogFormat;
use flags::Given;
use key::Key;
use keys::{FOREIGN_KEYS, TABLES, Table, Tables};

/// All settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) server: ServerSettings,
    pub(crate) models: Vec<ModelSettings>,
    pub(crate) limits: LimitSettings,
    pub(crate) network: NetworkSettings,
    pub(crate) http: HttpSettings,
    pub(crate) admission: AdmissionSettings,
    pub(crate) session: SessionSettings,
    pub(crate) tls: TlsSettings,
    pub(crate) telemetry: TelemetrySettings,
    /// Who is told of the prefix cache.
    pub(crate) kv_events: KvEventSettings,
    /// Programs that answer HTTP requests from the start.
    pub(crate) services: Vec<ServiceSettings>,
    /// MCP servers whose tools programs may call.
    pub(crate) mcp: Vec<McpSettings>,
}

/// Where a program answers HTTP requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mount {
    /// Below a path of the server's port.
    Path(String),
    /// Everywhere on a port of its own.
    Port(u16),
}

/// How large the pool of pages is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolSize {
    Pages(u32),
    Bytes(u64),
}

impl Settings {
    /// The settings of a file, if there is one, with flags before what it says. `model` is served where the file names
    /// none.
    fn read(path: Option<&Path>, model: &str, flags: &[Given]) -> Result<Settings> {
        let Some(path) = path else { return Settings::parse("", model, flags) };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the config file `{}`", path.display()))?;
        Settings::parse(&text, model, flags).with_context(|| format!("config file `{}`", path.display()))
    }

    fn parse(text: &str, model: &str, flags: &[Given]) -> Result<Settings> {
        let mut file: toml::Table = text.parse()?;
        check(&file)?;
        // From the text first: these errors name the line.
        toml::from_str::<ServerSettings>(text)?;
        toml::from_str::<Tables>(text)?;
        let models = file.entry("backend").or_insert(Value::Array(Vec::new()));
        if let Value::Array(models) = models
            && models.is_empty()
        {
            models.push(Value::Table(toml::Table::from_iter([("model".to_string(), model.into())])));
        }
        flags.iter().for_each(|flag| flag.put_into(&mut file));
        let server = Value::Table(file.clone()).try_into()?;
        let Tables {
            backend,
            limits,
            network,
            http,
            admission,
            session,
            tls,
            telemetry,
            kv_events,
            serve,
            mcp,
        } = Value::Table(file).try_into()?;
        let (models, services) = (backend, serve);
        let settings = Settings {
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
        };
        settings.tls.files()?;
        for service in &settings.services {
            service.mount().with_context(|| format!("`[[serve]]` of `{}`", service.program))?;
        }
        for (at, server) in settings.mcp.iter().enumerate() {
            let of_it = || format!("`[[mcp]]` named `{}`", server.name);
            server.check().with_context(of_it)?;
            ensure!(
                settings.mcp[..at].iter().all(|other| other.name != server.name),
                "{} is there twice: give each server a name of its own",
                of_it()
            );
        }
        Ok(settings)
    }
}

impl ServerSettings {
    /// How the log is written.
    pub(crate) fn log_format(&self) -> LogFormat {
        match &self.log_format[..] {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        }
    }

    /// The batching policy with its parameters.
    pub(crate) fn policy(&self) -> PolicyKind {
        let row = scheduler::POLICIES.iter().find(|row| row.name == self.batching_strategy);
        let make = row.expect("the parser takes known strategies only").make;
        make(self.batching_strategy_k, Duration::from_millis(self.batching_strategy_t))
    }
}

impl ModelSettings {
    /// A model with default settings.
    pub(crate) fn new(model: &str) -> ModelSettings {
        ModelSettings { model: model.to_string(), ..ModelSettings::default() }
    }

    pub(crate) fn pool(&self) -> PoolSize {
        match self.max_num_kv_pages {
            Some(pages) => PoolSize::Pages(pages),
            None => PoolSize::Bytes(self.kv_memory_mb << 20),
        }
    }

    /// What matrices of floats become, if anything else.
    pub(crate) fn quantize(&self) -> Option<Quantize> {
        let known = |name| Quantize::from_name(name).expect("the parser takes known formats only");
        self.quantize.as_deref().map(known)
    }

    /// The format of keys and values.
    pub(crate) fn kv_cache_type(&self) -> KvType {
        KvType::from_name(&self.kv_cache_type).expect("the parser takes known formats only")
    }
}

impl LimitSettings {
    /// What one inferlet may use.
    pub(crate) fn of_an_inferlet(&self) -> InferletLimits {
        InferletLimits {
            memory_bytes: self.memory_mb << 20,
            cpu: self.cpu_ms.map(Duration::from_millis),
            pages: self.kv_pages,
            output_bytes: self.output_mb << 20,
            host_memory_bytes: self.host_memory_mb << 20,
            ..InferletLimits::default()
        }
    }

    /// What all programs of one user may use, on a machine with so many bytes of memory.
    pub(crate) fn of_a_user(&self, machine: u64) -> UserLimits {
        UserLimits {
            inferlets: self.user_inferlets,
            inferlets_waiting: self.user_inferlets_waiting,
            memory_bytes: self.user_memory_mb.map_or(machine / 4, |mib| mib << 20),
            host_memory_bytes: self.user_host_memory_mb.map_or(machine / 8, |mib| mib << 20),
            store_bytes: self.user_store_mb << 20,
            store_keys: self.user_store_keys,
            program_bytes: self.user_program_mb << 20,
            programs: self.user_programs,
        }
    }

    /// What all programs may use.
    pub(crate) fn of_the_server(&self, machine: u64) -> ServerLimits {
        ServerLimits {
            memory_bytes: self.total_memory_mb.map_or(machine / 2, |mib| mib << 20),
            host_memory_bytes: self.total_host_memory_mb.map_or(machine / 4, |mib| mib << 20),
        }
    }
}

impl KvEventSettings {
    /// Where to listen, if events are wanted.
    pub(crate) fn address(&self) -> Option<String> {
        self.endpoint.as_deref().and_then(keys::tcp_address)
    }
}

impl NetworkSettings {
    pub(crate) fn allowed_hosts(&self) -> AllowedHosts {
        AllowedHosts::parse(&self.allow_hosts).expect("the parser takes hosts only")
    }
}

impl HttpSettings {
    pub(crate) fn limits(&self) -> HttpLimits {
        HttpLimits {
            connections: self.connections,
            connections_per_address: self.connections_per_address,
            head: Duration::from_millis(self.head_ms),
            body: Duration::from_millis(self.body_ms),
            first_byte: Duration::from_millis(self.first_byte_ms),
            write: Duration::from_millis(self.write_ms),
        }
    }
}

impl AdmissionSettings {
    pub(crate) fn limits(&self) -> AdmissionLimits {
        AdmissionLimits {
            running: self.running,
            client_running: self.key_running,
            waiting: self.waiting,
            client_waiting: self.key_waiting,
            wait: Duration::from_millis(self.wait_ms),
        }
    }
}

impl SessionSettings {
    pub(crate) fn options(&self) -> SessionOptions {
        SessionOptions {
            user: LOCAL_USER.into(),
            lease: Duration::from_millis(self.lease_ms),
            detached: Duration::from_millis(self.detached_ms),
            ping: Duration::from_millis(self.ping_ms),
            user_sessions: self.user_sessions,
            user_inferlets: self.user_inferlets,
            log_events: self.log_events,
            log_bytes: self.log_kb << 10,
            user_log_bytes: self.user_log_mb << 20,
            total_log_bytes: self.total_log_mb << 20,
        }
    }
}

impl TlsSettings {
    /// The files, if there are any.
    ///
    /// # Errors
    /// When one is there without the other.
    pub(crate) fn files(&self) -> Result<Option<TlsFiles>> {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                Ok(Some(TlsFiles { certificate: certificate.clone(), key: key.clone() }))
            }
            (None, None) => Ok(None),
            _ => bail!("`tls.certificate` and `tls.key` belong together: give both"),
        }
    }
}

impl ServiceSettings {
    /// Where it answers.
    ///
    /// # Errors
    /// When neither a path nor a port was given.
    pub(crate) fn mount(&self) -> Result<Mount> {
        match (&self.path, self.port) {
            (Some(path), _) => Ok(Mount::Path(path.clone())),
            (None, Some(port)) => Ok(Mount::Port(port)),
            (None, None) => bail!("expected either a `path` or a `port` to serve the program on"),
        }
    }
}

/// Checks every table of a file for what serde does not: keys that are not known, missing, out of range or
/// not together.
fn check(file: &toml::Table) -> Result<()> {
    for table in TABLES {
        let Table { name, keys, .. } = table;
        if name.is_empty() {
            let others = TABLES.iter().map(|table| table.name).filter(|name| !name.is_empty());
            check_table(file, keys, others, "")?;
            continue;
        }
        let prefix = format!("{name}.");
        match file.get(*name) {
            Some(Value::Array(rows)) if table.is_list => {
                for row in rows {
                    let row =
                        row.as_table().with_context(|| format!("`{name}` must be tables: [[{name}]]"))?;
                    check_table(row, keys, [], &prefix)?;
                }
            }
            Some(Value::Table(inner)) if !table.is_list => check_table(inner, keys, [], &prefix)?,
            _ => {}
        }
    }
    Ok(())
}

/// The first mistake is the error.
fn check_table(
    table: &toml::Table,
    keys: &[Key],
    tables: impl IntoIterator<Item = &'static str>,
    prefix: &str,
) -> Result<()> {
    let known: Vec<&str> = keys.iter().map(|key| key.name).chain(tables).collect();
    if let Some(unknown) = table.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(unknown_key(unknown, &known, prefix));
    }
    for key in keys {
        let name = key.name;
        if key.is_required && !table.contains_key(name) {
            bail!("`{prefix}{name}` is missing: {}", key.about);
        }
        let Some(value) = table.get(name) else { continue };
        if let Some(other) = key.excludes.filter(|other| table.contains_key(*other)) {
            bail!("`{prefix}{name}` and `{prefix}{other}` exclude each other: give one");
        }
        key.check(value)?;
    }
    Ok(())
}

fn unknown_key(key: &str, known: &[&str], prefix: &str) -> anyhow::Error {
    if let Some((_, reason)) = FOREIGN_KEYS.iter().find(|(foreign, _)| *foreign == key) {
        return anyhow::anyhow!("key `{prefix}{key}` has no meaning here: {reason}; remove it");
    }
    let likeness = |other: &str| strsim::jaro_winkler(other, key);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    anyhow::anyhow!("unknown key `{prefix}{key}`; did you mean `{prefix}{}`?", nearest.unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings> {
        Settings::parse(text, "default-model", &[])
    }

    #[test]
    fn a_full_file_is_read() {
        let settings = parse(
            "host = '0.0.0.0'\nport = 9000\nbatching_strategy = 'kort'\nbatching_strategy_k = 4\n\
             [[backend]]\nmodel = 'smollm2-135m-instruct'\nkv_page_size = 32\nmax_num_kv_pages = 100\n\
             [limits]\nmemory_mb = 64\ncpu_ms = 500\n\
             [network]\nallow_hosts = ['api.example.com', '127.0.0.1:8000']\n\
             [[serve]]\nprogram = 'http-server'\npath = '/hello'\narguments = ['-x']\n\
             [[serve]]\nprogram = 'http-server'\nport = 9001\n",
        )
        .unwrap();
        assert!(settings.network.allowed_hosts().allow("api.example.com", 443));
        let [by_path, by_port] = &settings.services[..] else { panic!("two services") };
        assert_eq!(
            (by_path.mount().unwrap(), &by_path.arguments[0][..]),
            (Mount::Path("/hello".into()), "-x")
        );
        assert_eq!(by_port.mount().unwrap(), Mount::Port(9001));
        assert_eq!((settings.server.port, settings.models[0].kv_page_size), (9000, 32));
        assert_eq!(settings.models[0].pool(), PoolSize::Pages(100));
        assert_eq!(settings.limits.of_an_inferlet().memory_bytes, 64 << 20);
        let kort = PolicyKind::KOrT { k: 4, t: Duration::from_millis(16) };
        assert_eq!(settings.server.policy(), kort);
    }

    #[test]
    fn flags_go_before_the_file() {
        let file = "batching_strategy = 'kort'\nbatching_strategy_k = 4\n\
            [network]\nallow_hosts = ['a']\n\
            [[backend]]\nmodel = 'x'\nthreads = 3\n[[backend]]\nmodel = 'y'\n";
        let flag = |name: &str, value: &str| {
            let mut keys = TABLES.iter().flat_map(|table| table.keys.iter().map(move |key| (table, key)));
            let (table, key) = keys.find(|(_, key)| key.name == name).unwrap();
            Given { table, key, value: key.read(value).unwrap() }
        };
        let flags = [
            flag("threads", "2"),
            flag("allow_hosts", "b"),
            flag("port", "0"),
            flag("batching_strategy", "k"),
        ];
        let settings = Settings::parse(file, "default-model", &flags).unwrap();
        let threads: Vec<_> = settings.models.iter().map(|model| (&model.model[..], model.threads)).collect();
        assert_eq!(threads, [("x", Some(2)), ("y", Some(2))], "of every model");
        assert_eq!((settings.server.port, &settings.network.allow_hosts[..]), (0, &["b".to_string()][..]));
        // The parameters of the file's strategy are gone with it.
        assert_eq!(settings.server.policy(), PolicyKind::K { k: 8 });
        let settings = Settings::parse("", "default-model", &flags).unwrap();
        assert_eq!((&settings.models[0].model[..], settings.models[0].threads), ("default-model", Some(2)));
    }

    #[test]
    fn mistakes_are_named_with_the_way_out() {
        for (text, expected) in [
            ("prot = 1", "unknown key `prot`; did you mean `port`?"),
            ("[[backend]]\nmodle = 'x'", "unknown key `backend.modle`; did you mean `backend.model`?"),
            (
                "[[backend]]\nmodel = 'x'\ndevice = 'cuda:0'",
                "has no meaning here: the backend computes on the CPU",
            ),
            ("batching_strategy = 'best'", "expected one of adaptive"),
            ("[[backend]]\nmodel = 'x'\nquantize = 'q4_0'", "`quantize` is `q4_0`: expected one of q8_0"),
            (
                "[[backend]]\nmodel = 'x'\nkv_cache_type = 'q4_0'",
                "`kv_cache_type` is `q4_0`: expected one of i16, q8_0",
            ),
            ("[[backend]]\nmodel = 'x'\nkv_page_size = 17", "expected a multiple of 8"),
            ("port = 'x'", "expected u16"),
            ("[network]\nallow = []", "did you mean `network.allow_hosts`?"),
            ("[network]\nallow_hosts = ['http://x']", "`http://x` is not a host"),
            ("[[serve]]\nprogram = 'x'", "either a `path` or a `port`"),
            ("[[serve]]\nprogram = 'x'\npaht = '/'", "did you mean `serve.path`?"),
            ("[[serve]]\nprogram = 'x'\npath = '/'\nport = 1", "exclude each other"),
            ("[[backend]]\nmodel = 'x'\nkv_memory_mb = 1\nmax_num_kv_pages = 1", "exclude each other"),
            ("[[backend]]\nthreads = 1", "`backend.model` is missing"),
            ("auth_secret = 'a long secret text'", "has no meaning here: pie keeps hashes of keys only"),
            ("[tls]\ncertificate = 'x'", "belong together: give both"),
            ("[http]\ncors_origins = ['app.example.com']", "expected `*`, or an origin as"),
            ("[http]\ncors_origins = ['https://app.example.com/']", "without a path"),
            ("[[mcp]]\nname = 'x'", "either a `url` or a `command`"),
            ("[[mcp]]\nurl = 'http://x/mcp'", "`mcp.name` is missing"),
            ("[[mcp]]\nname = 'a b'\nurl = 'http://x'", "`mcp.name` is `a b`"),
            (
                "[[mcp]]\nname = 'x'\nurl = 'x.example.com'",
                "expected an address as `http://127.0.0.1:8000/mcp`",
            ),
            ("[[mcp]]\nname = 'x'\ncommand = []", "`mcp.command` is empty"),
            ("[telemetry]\notlp_endpoint = 'c:4318'", "`telemetry.otlp_endpoint` is `c:4318`"),
            ("[[mcp]]\nname = 'x'\nurl = 'http://x'\ncommand = ['y']", "exclude each other"),
            ("[[mcp]]\nname = 'x'\nurl = 'http://x'\nenv = ['A=1']", "`env` belongs to a `command`"),
            ("[[mcp]]\nname = 'x'\ncommand = ['y']\nheaders = ['A: 1']", "`headers` belong to a `url`"),
            ("[[mcp]]\nname = 'x'\nurl = 'http://x'\nheaders = ['secret']", "no `Name: value`"),
            (
                "[[mcp]]\nname = 'x'\nurl = 'http://x'\n[[mcp]]\nname = 'x'\ncommand = ['y']",
                "named `x` is there twice",
            ),
            ("backend = [1]", "`backend` must be tables: [[backend]]"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_number_out_of_range_is_refused_with_the_range() {
        for (text, expected) in [
            ("port = -1", "`port` is -1: expected 0 to 65535"),
            ("batching_strategy_k = 0", "`batching_strategy_k` is 0: expected 1 to 4096"),
            ("prefill_share = 24", "`prefill_share` is 24: expected 25 to 100"),
            ("[kv_events]\nendpoint = '127.0.0.1:5557'", "is `127.0.0.1:5557`: expected `tcp://HOST:PORT`"),
            ("[kv_events]\nendpoint = 'tcp://*:port'", "is `tcp://*:port`: expected `tcp://HOST:PORT`"),
            ("[limits]\ninferlets = 16385", "`inferlets` is 16385: expected 1 to 16384"),
            ("[limits]\nkv_pages = 0", "`kv_pages` is 0: expected at least 1"),
            (
                "[[backend]]\nmodel = 'x'\nmax_num_kv_pages = 0",
                "`max_num_kv_pages` is 0: expected at least 1",
            ),
            ("[[backend]]\nmodel = 'x'\nkv_page_size = 72", "is 72: expected a multiple of 8 from 8 to 64"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn keys_and_flags_have_names_of_their_own() {
        let mut flags = std::collections::BTreeSet::new();
        for table in TABLES {
            for (index, key) in table.keys.iter().enumerate() {
                assert!(table.keys[..index].iter().all(|other| other.name != key.name), "{}", key.name);
                assert!(FOREIGN_KEYS.iter().all(|(foreign, _)| *foreign != key.name), "{}", key.name);
                if let Some(flag) = &key.flag {
                    assert!(flags.insert(flag.name), "two keys have the flag `--{}`", flag.name);
                }
                // A flag takes the file's values of the keys that belong to it away, so it must come before theirs.
                let required = key.flag.as_ref().and_then(|flag| flag.requires);
                assert!(required.is_none_or(|flag| flags.contains(flag)), "{} is before its flag", key.name);
                let other = |name| table.keys.iter().any(|key| key.name == name);
                assert!(key.excludes.is_none_or(other), "{} excludes what is no key", key.name);
            }
        }
    }
}

//! The config file: TOML as written, then [`Settings`] with every value checked.
//!
//! The top-level keys and `[[backend]]` are those of the paper's artifact; keys that only its GPU backend had are
//! known and refused with the reason, not silently ignored.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use runtime::AllowedHosts;
use scheduler::PolicyKind;
use serde::Deserialize;

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    host: Option<String>,
    port: Option<u16>,
    /// Known and checked; nothing that the port answers now needs a key.
    #[serde(rename = "enable_auth")]
    _enable_auth: Option<bool>,
    auth_secret: Option<String>,
    cache_dir: Option<PathBuf>,
    batching_strategy: Option<String>,
    batching_strategy_k: Option<u32>,
    batching_strategy_t: Option<u64>,
    #[serde(default)]
    backend: Vec<BackendTable>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    network: NetworkTable,
    #[serde(default)]
    serve: Vec<ServeTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackendTable {
    model: String,
    name: Option<String>,
    threads: Option<usize>,
    kv_page_size: Option<u32>,
    max_num_kv_pages: Option<u32>,
    kv_memory_mb: Option<u64>,
    max_batch_tokens: Option<u32>,
    prefix_cache: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    inferlets: Option<u32>,
    memory_mb: Option<usize>,
    cpu_ms: Option<u64>,
    kv_pages: Option<u32>,
    output_mb: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkTable {
    #[serde(default)]
    allow_hosts: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServeTable {
    program: String,
    path: Option<String>,
    port: Option<u16>,
    #[serde(default)]
    arguments: Vec<String>,
}

const TOP_KEYS: &[&str] = &[
    "host",
    "port",
    "enable_auth",
    "auth_secret",
    "cache_dir",
    "batching_strategy",
    "batching_strategy_k",
    "batching_strategy_t",
    "backend",
    "limits",
    "network",
    "serve",
];
const BACKEND_KEYS: &[&str] = &[
    "model",
    "name",
    "threads",
    "kv_page_size",
    "max_num_kv_pages",
    "kv_memory_mb",
    "max_batch_tokens",
    "prefix_cache",
];
const LIMIT_KEYS: &[&str] = &["inferlets", "memory_mb", "cpu_ms", "kv_pages", "output_mb"];
const NETWORK_KEYS: &[&str] = &["allow_hosts"];
const SERVE_KEYS: &[&str] = &["program", "path", "port", "arguments"];

/// Keys of the paper's artifact that have no meaning here, and why.
const FOREIGN_KEYS: &[(&str, &str)] = &[
    ("backend_type", "pie has one backend, the CPU, built in"),
    ("exec_path", "the backend is built in"),
    ("device", "the backend computes on the CPU; see `threads`"),
    ("dtype", "the weights are computed in the format of their file"),
    ("dist_size", "a pass says itself how many probabilities it wants"),
    ("max_num_embeds", "embedding rows stand in the memory of their inferlet"),
    ("verbose", "use `pie --verbose`"),
    ("log", "the log goes to stderr; set PIE_LOG to choose"),
];

/// Checked settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) policy: PolicyKind,
    pub(crate) models: Vec<ModelSettings>,
    pub(crate) inferlets: u32,
    pub(crate) limits: runtime::InferletLimits,
    /// Hosts that inferlets may send HTTP requests to.
    pub(crate) allowed_hosts: AllowedHosts,
    /// Programs that answer HTTP requests from the start.
    pub(crate) services: Vec<ServiceSettings>,
}

/// A program that answers HTTP requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceSettings {
    /// Name or file.
    pub(crate) program: String,
    pub(crate) place: Place,
    pub(crate) arguments: Vec<String>,
}

/// Where a program answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Below a path of the server's port.
    Path(String),
    /// Everywhere on a port of its own.
    Port(u16),
}

impl Place {
    /// From the path or port that was given.
    pub(crate) fn new(path: Option<String>, port: Option<u16>) -> Result<Place> {
        match (path, port) {
            (Some(path), None) => Ok(Place::Path(path)),
            (None, Some(port)) => Ok(Place::Port(port)),
            _ => bail!("expected either a `path` or a `port` to serve the program on"),
        }
    }
}

/// One model to serve.
#[derive(Clone, Debug)]
pub(crate) struct ModelSettings {
    /// Name in the store, or a path.
    pub(crate) model: String,
    /// Name that programs open it under; the model's own for none.
    pub(crate) name: Option<String>,
    /// Compute threads; the machine's cores for none.
    pub(crate) threads: Option<usize>,
    pub(crate) page_tokens: u32,
    /// Pages of the pool.
    pub(crate) pool: PoolSize,
    pub(crate) batch_tokens: u32,
    pub(crate) prefix_cache: bool,
}

/// How large the pool of pages is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolSize {
    Pages(u32),
    Bytes(u64),
}

impl ModelSettings {
    /// A model with default settings.
    pub(crate) fn new(model: &str) -> ModelSettings {
        ModelSettings {
            model: model.to_string(),
            name: None,
            threads: None,
            page_tokens: 16,
            // 1 GiB holds 46,000 tokens of the default model, and leaves room on a small machine.
            pool: PoolSize::Bytes(1 << 30),
            batch_tokens: 512,
            prefix_cache: true,
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            host: "127.0.0.1".into(),
            port: 8080,
            cache: None,
            policy: PolicyKind::Adaptive,
            models: Vec::new(),
            inferlets: 1024,
            limits: runtime::InferletLimits::default(),
            allowed_hosts: AllowedHosts::default(),
            services: Vec::new(),
        }
    }
}

impl Settings {
    /// Reads and checks a file.
    pub(crate) fn read(path: &Path) -> Result<Settings> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the config file `{}`", path.display()))?;
        Settings::parse(&text).with_context(|| format!("config file `{}`", path.display()))
    }

    fn parse(text: &str) -> Result<Settings> {
        check_keys(&text.parse::<toml::Table>()?)?;
        let file: File = toml::from_str(text)?;
        let mut settings = Settings::default();
        set(&mut settings.host, file.host);
        set(&mut settings.port, file.port);
        if file.auth_secret.as_ref().is_some_and(|secret| secret.len() < 16) {
            bail!("`auth_secret` is too short: expected at least 16 bytes");
        }
        settings.cache = file.cache_dir;
        settings.policy = policy(
            file.batching_strategy.as_deref().unwrap_or("adaptive"),
            file.batching_strategy_k,
            file.batching_strategy_t,
        )?;
        settings.models = file.backend.into_iter().map(BackendTable::check).collect::<Result<_>>()?;
        let limits = file.limits;
        set(&mut settings.inferlets, in_range("inferlets", limits.inferlets, 1, 16384)?);
        let memory = in_range("memory_mb", limits.memory_mb, 1, 4096)?;
        set(&mut settings.limits.memory_bytes, memory.map(|mb| mb << 20));
        settings.limits.cpu = in_range("cpu_ms", limits.cpu_ms, 1, 86_400_000)?.map(Duration::from_millis);
        settings.limits.pages = in_range("kv_pages", limits.kv_pages, 1, u32::MAX)?;
        let output = in_range("output_mb", limits.output_mb, 1, 1 << 20)?;
        set(&mut settings.limits.output_bytes, output.map(|mb| mb << 20));
        settings.allowed_hosts =
            AllowedHosts::parse(&file.network.allow_hosts).context("`network.allow_hosts`")?;
        settings.services = file.serve.into_iter().map(ServeTable::check).collect::<Result<_>>()?;
        Ok(settings)
    }
}

impl ServeTable {
    fn check(self) -> Result<ServiceSettings> {
        let ServeTable { program, path, port, arguments } = self;
        let place = Place::new(path, port).with_context(|| format!("`[[serve]]` of `{program}`"))?;
        Ok(ServiceSettings { program, place, arguments })
    }
}

impl BackendTable {
    fn check(self) -> Result<ModelSettings> {
        let mut settings = ModelSettings::new(&self.model);
        settings.name = self.name;
        settings.threads = in_range("threads", self.threads, 1, 1024)?;
        set(&mut settings.page_tokens, in_range("kv_page_size", self.kv_page_size, 8, 64)?);
        if !settings.page_tokens.is_multiple_of(8) {
            bail!("`kv_page_size` is {}: expected a multiple of 8 from 8 to 64", settings.page_tokens);
        }
        settings.pool = match (self.max_num_kv_pages, self.kv_memory_mb) {
            (Some(_), Some(_)) => bail!("`max_num_kv_pages` and `kv_memory_mb` both set the pool: give one"),
            (pages @ Some(_), None) => {
                PoolSize::Pages(in_range("max_num_kv_pages", pages, 1, u32::MAX)?.unwrap_or(1))
            }
            (None, mb @ Some(_)) => {
                PoolSize::Bytes(in_range("kv_memory_mb", mb, 1, 1 << 24)?.unwrap_or(1) << 20)
            }
            (None, None) => settings.pool,
        };
        set(&mut settings.batch_tokens, in_range("max_batch_tokens", self.max_batch_tokens, 1, 8192)?);
        set(&mut settings.prefix_cache, self.prefix_cache);
        Ok(settings)
    }
}

/// The batching policy of a name and its two parameters.
pub(crate) fn policy(name: &str, k: Option<u32>, t_ms: Option<u64>) -> Result<PolicyKind> {
    let k = in_range("batching_strategy_k", k, 1, 4096)?.unwrap_or(8);
    let t = Duration::from_millis(in_range("batching_strategy_t", t_ms, 1, 60_000)?.unwrap_or(16));
    let row = scheduler::POLICIES.iter().find(|row| row.name == name).with_context(|| {
        let known: Vec<&str> = scheduler::POLICIES.iter().map(|row| row.name).collect();
        format!("`batching_strategy` is `{name}`: expected one of {}", known.join(", "))
    })?;
    Ok((row.make)(k, t))
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn in_range<T: PartialOrd + std::fmt::Display>(
    key: &str,
    value: Option<T>,
    low: T,
    high: T,
) -> Result<Option<T>> {
    match value {
        Some(value) if value < low || value > high => bail!("`{key}` is {value}: expected {low} to {high}"),
        value => Ok(value),
    }
}

fn check_keys(table: &toml::Table) -> Result<()> {
    check_table(table, TOP_KEYS, "")?;
    for (list, keys) in [("backend", BACKEND_KEYS), ("serve", SERVE_KEYS)] {
        for row in table.get(list).and_then(toml::Value::as_array).into_iter().flatten() {
            let row = row.as_table().with_context(|| format!("`{list}` must be tables: [[{list}]]"))?;
            check_table(row, keys, &format!("{list}."))?;
        }
    }
    for (name, keys) in [("limits", LIMIT_KEYS), ("network", NETWORK_KEYS)] {
        if let Some(inner) = table.get(name).and_then(toml::Value::as_table) {
            check_table(inner, keys, &format!("{name}."))?;
        }
    }
    Ok(())
}

/// The first key that is not known is the error.
fn check_table(table: &toml::Table, known: &[&str], prefix: &str) -> Result<()> {
    let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    if let Some((_, reason)) = FOREIGN_KEYS.iter().find(|(foreign, _)| foreign == key) {
        bail!("key `{prefix}{key}` has no meaning here: {reason}; remove it");
    }
    let likeness = |other: &str| strsim::jaro_winkler(other, key);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    bail!("unknown key `{prefix}{key}`; did you mean `{prefix}{}`?", nearest.unwrap_or(&""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_read() {
        let settings = Settings::parse(
            "host = '0.0.0.0'\nport = 9000\nbatching_strategy = 'kort'\nbatching_strategy_k = 4\n\
             [[backend]]\nmodel = 'smollm2-135m-instruct'\nkv_page_size = 32\nmax_num_kv_pages = 100\n\
             [limits]\nmemory_mb = 64\ncpu_ms = 500\n\
             [network]\nallow_hosts = ['api.example.com', '127.0.0.1:8000']\n\
             [[serve]]\nprogram = 'http-server'\npath = '/hello'\narguments = ['-x']\n\
             [[serve]]\nprogram = 'http-server'\nport = 9001\n",
        )
        .unwrap();
        assert!(settings.allowed_hosts.allow("api.example.com", 443));
        let [by_path, by_port] = &settings.services[..] else { panic!("two services") };
        assert_eq!((&by_path.place, &by_path.arguments[0][..]), (&Place::Path("/hello".into()), "-x"));
        assert_eq!(by_port.place, Place::Port(9001));
        assert_eq!((settings.port, settings.models[0].page_tokens), (9000, 32));
        assert_eq!(settings.models[0].pool, PoolSize::Pages(100));
        assert_eq!(settings.limits.memory_bytes, 64 << 20);
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
            ("[[backend]]\nmodel = 'x'\nkv_page_size = 17", "expected a multiple of 8"),
            ("port = 'x'", "expected u16"),
            ("[network]\nallow = []", "did you mean `network.allow_hosts`?"),
            ("[network]\nallow_hosts = ['http://x']", "`http://x` is not a host"),
            ("[[serve]]\nprogram = 'x'", "either a `path` or a `port`"),
            ("[[serve]]\nprogram = 'x'\npaht = '/'", "did you mean `serve.path`?"),
        ] {
            let error = format!("{:#}", Settings::parse(text).unwrap_err());
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

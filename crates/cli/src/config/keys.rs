//! Every key of the config file, declared once. How a row reads: `key.rs`. To add a key, add a row here, read
//! its field where the value goes, and run `cargo xtask docs`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use backend_cpu::{CpuOptions, KvType, Quantize};
use runtime::{AllowedHosts, InferletLimits, McpLimits, RuntimeConfig, UserLimits};
use scheduler::SchedulerConfig;
use serde::Deserialize;
use server::{AdmissionLimits, HttpLimits, SessionOptions};
use toml::Value;

use super::key::{
    Choice, Commands, Flag, Key, KeyType, Section, field_default, field_type, is_required, section,
};

section! {
    /// The keys outside of any table.
    ServerSettings {
        /// Address that `pie start` listens on, for its own routes and the programs that are served.
        host: String = ("127.0.0.1".to_string())
            .flag(Flag::new("host", "HOST", Commands::Start));
        /// Port that `pie start` listens on; 0 takes any that is free.
        port: u16 = 8080
            .range(0, 65535)
            .flag(Flag::new("port", "PORT", Commands::Start));
        /// Requests must come with a key of `pie key add`. Where they need none (`--no-auth`), the server listens on an address
        /// of the machine itself only (`127.0.0.1`, `::1`), and everybody on it is one user.
        enable_auth: bool = (true)
            .flag(Flag::switch("no-auth", "false", Commands::Start));
        /// File of the keys.
        keys_file: PathBuf = none
            .absent("`PIE_HOME/keys.toml`")
            .example("\"/etc/pie/keys.toml\"");
        /// How long what runs may go on when the server stops; then it is ended.
        shutdown_ms: u64 = 10_000
            .unit("ms")
            .range(0, 86_400_000);
        /// Folder of compiled programs.
        cache_dir: PathBuf = none
            .absent("`PIE_HOME/cache`")
            .example("\"/var/cache/pie\"");
        /// How the log is written to stderr; `PIE_LOG` chooses what is in it.
        log_format: String = ("text".to_string())
            .one_of(log_formats)
            .flag(Flag::new("log-format", "FORMAT", Commands::RunAndStart));
        /// When a batch is fired.
        batching_strategy: String = (scheduler::POLICIES[0].name.to_string())
            .one_of(strategies)
            .flag(Flag::new("batching-strategy", "STRATEGY", Commands::Start));
        /// Passes of a batch, for `k` and `kort`.
        batching_strategy_k: u32 = 8
            .range(1, 4096)
            .flag(Flag::new("batching-strategy-k", "K", Commands::Start).requires("batching-strategy"));
        /// Longest wait of the oldest pass in milliseconds, for `t` and `kort`.
        batching_strategy_t: u64 = 16
            .unit("ms")
            .range(1, 60_000)
            .flag(Flag::new("batching-strategy-t", "T", Commands::Start).requires("batching-strategy"));
        /// Of the time of a batch in which streams decode, that of prompts: with 64 a step of the streams takes 2.8 times as
        /// long as without a prompt, 100 / (100 - share), and a prompt 1.6 times as long as without streams, 100 / share.
        /// With 100 a prompt takes as many rows as fit.
        prefill_share: u32 = (SchedulerConfig::default().prefill_share)
            .unit("%")
            .range(25, 100);
        /// Whether the priority that programs give their contexts counts between users too, before each user's share
        /// of the work and of the pages. If not, it orders the contexts of one user.
        priority_across_users: bool = (SchedulerConfig::default().priority_across_tenants);
    }
}

section! {
    /// One model to serve.
    ModelSettings {
        /// A name of `pie model list`, or the path of a file or folder.
        model: String = required
            .example("\"smollm2-135m-instruct\"");
        /// Name under which programs open it.
        name: String = none
            .absent("the name in the store, or the file's without its ending")
            .example("\"small\"");
        /// Threads that compute; a batch of a fraction of a millisecond takes one.
        threads: usize = none
            .absent("the machine's cores")
            .range(1, 1024)
            .example("4")
            .flag(Flag::new("threads", "THREADS", Commands::RunAndStart).short('t'));
        /// What matrices of floats become when they are loaded.
        quantize: String = none
            .absent("what they are in the file")
            .one_of(quantizations)
            .example("\"q8_0\"")
            .flag(Flag::new("quantize", "FORMAT", Commands::RunAndStart));
        /// The format of keys and values in memory.
        kv_cache_type: String = (CpuOptions::default().kv_cache_type.name().to_string())
            .one_of(kv_types)
            .flag(Flag::new("kv-cache-type", "TYPE", Commands::RunAndStart));
        /// Tokens of a page of key/value memory.
        kv_page_size: u32 = (CpuOptions::default().page_tokens)
            .unit("tokens")
            .multiples(8, 8, 64);
        /// Size of the pool of pages; at least one page is made. 1 GiB holds 46,000 tokens of the default
        /// model.
        kv_memory_mb: u64 = 1024
            .unit("MiB")
            .range(1, 1 << 24);
        /// Size of the pool in pages.
        max_num_kv_pages: u32 = none
            .absent("as many as fit `kv_memory_mb`")
            .at_least(1)
            .excludes("kv_memory_mb")
            .example("4096");
        /// Memory for pages that do not fit the pool: of contexts that wait, and of saved ones. Taken when it
        /// is needed.
        spill_memory_mb: u64 = none
            .unit("MiB")
            .absent("a quarter of the machine's memory, divided by the number of models")
            .range(0, 1 << 24)
            .example("4096");
        /// Rows (tokens) of one batch; longer prompts are computed in chunks.
        max_batch_tokens: u32 = (CpuOptions::default().batch_tokens)
            .range(1, 8192);
        /// Whether computed prefixes are kept and reused.
        prefix_cache: bool = (SchedulerConfig::default().prefix_cache);
    }
}

section! {
    /// What programs may use: one inferlet, all of a user together, and all of the server. Beyond `limits` an
    /// inferlet gets an error that names the limit.
    LimitSettings {
        /// Inferlets that run at once, of the whole server; more wait. With 16384 that run or wait, launches
        /// are refused.
        inferlets: u32 = (RuntimeConfig::default().inferlets)
            .range(1, 16384);
        /// Of these, those of one user; more of the user's wait.
        user_inferlets: u32 = none
            .absent("seven eighths of `inferlets`")
            .range(1, 16384)
            .example("256");
        /// Inferlets of one user that run or wait; a launch beyond is refused.
        user_inferlets_waiting: u32 = (UserLimits::default().inferlets_waiting)
            .range(1, 16384);
        /// Linear memory of an inferlet.
        memory_mb: usize = (InferletLimits::default().memory_bytes >> 20)
            .unit("MiB")
            .range(1, 4096);
        /// Linear memory of all inferlets of one user.
        user_memory_mb: u64 = none
            .unit("MiB")
            .absent("a quarter of the machine's memory")
            .range(1, 1 << 24)
            .example("4096");
        /// Linear memory of all inferlets.
        total_memory_mb: u64 = none
            .unit("MiB")
            .absent("half of the machine's memory")
            .range(1, 1 << 24)
            .example("16384");
        /// What the server holds for an inferlet and those it launches outside of their linear memory:
        /// embeddings, adapters, grammars, texts and values being worked on.
        host_memory_mb: u64 = (InferletLimits::default().host_memory_bytes >> 20)
            .unit("MiB")
            .range(1, 1 << 24);
        /// The same of all inferlets of one user, and messages that are kept or wait.
        user_host_memory_mb: u64 = none
            .unit("MiB")
            .absent("an eighth of the machine's memory")
            .range(1, 1 << 24)
            .example("1024");
        /// The same of all inferlets.
        total_host_memory_mb: u64 = none
            .unit("MiB")
            .absent("a quarter of the machine's memory")
            .range(1, 1 << 24)
            .example("4096");
        /// Keys and values in the store of one user.
        user_store_mb: u64 = (UserLimits::default().store_bytes >> 20)
            .unit("MiB")
            .range(1, 1 << 24);
        /// Keys in the store of one user.
        user_store_keys: u64 = (UserLimits::default().store_keys)
            .range(1, 1 << 32);
        /// Programs that one user has uploaded, their bytes together.
        user_program_mb: u64 = (UserLimits::default().program_bytes >> 20)
            .unit("MiB")
            .range(0, 1 << 24);
        /// Programs that one user has uploaded.
        user_programs: u64 = (UserLimits::default().programs)
            .range(0, 1 << 20);
        /// Processor time of an inferlet and those it launches, and of the server's work for them; the model's is
        /// not counted.
        cpu_ms: u64 = none
            .unit("ms")
            .absent("no limit")
            .range(1, 86_400_000)
            .example("60000");
        /// Distinct pages that it and the inferlets it launches hold at once, of each model.
        kv_pages: u32 = none
            .absent("as many as the pool has")
            .at_least(1)
            .example("1024");
        /// Distinct pages that all inferlets and saved contexts of one user hold at once, of each model, those
        /// in memory for spilling among them.
        user_kv_pages: u32 = none
            .absent("as many as there are")
            .at_least(1)
            .example("4096");
        /// Messages, stdout and stderr together.
        output_mb: u64 = (InferletLimits::default().output_bytes >> 20)
            .unit("MiB")
            .range(1, 1 << 20);
    }
}

section! {
    /// What programs may reach.
    NetworkSettings {
        /// Hosts that programs may send HTTP requests to: `example.com`, `*.example.com`, `127.0.0.1:8000` or
        /// `*`, which are all with public addresses: those of the own network and machine are to be named.
        allow_hosts: Vec<String> = (Vec::new())
            .checked("", check_hosts)
            .flag(Flag::new("allow-host", "HOST", Commands::RunAndStart));
    }
}

section! {
    /// What HTTP clients may take.
    HttpSettings {
        /// Connections open at once, of all ports; more wait in the queue of the system.
        connections: u32 = (HttpLimits::default().connections)
            .range(1, 1_000_000);
        /// Connections of one address at once (IPv6: of its first 64 bits); one more is answered 429. Behind
        /// a proxy all clients are one address.
        connections_per_address: u32 = (HttpLimits::default().connections_per_address)
            .range(1, 1_000_000);
        /// For the head of a request; later it is answered 408.
        head_ms: u64 = (milliseconds(HttpLimits::default().head))
            .unit("ms")
            .range(1, 86_400_000);
        /// In which 1 KiB of a request's body, or its end, must come while the program waits for it; later
        /// the request is answered 408.
        body_ms: u64 = (milliseconds(HttpLimits::default().body))
            .unit("ms")
            .range(1, 86_400_000);
        /// From the head of a request to the head of the answer, the wait for a free place included; later it
        /// is answered 504, and its inferlet ends.
        first_byte_ms: u64 = (milliseconds(HttpLimits::default().first_byte))
            .unit("ms")
            .range(1, 86_400_000);
        /// In which a client must take some of an answer that waits for it; later the connection and its
        /// inferlet end.
        write_ms: u64 = (milliseconds(HttpLimits::default().write))
            .unit("ms")
            .range(1, 86_400_000);
        /// Origins whose pages may send requests, for browsers (CORS): `https://app.example.com`, or `*` for all.
        cors_origins: Vec<String> = (Vec::new())
            .checked("origins", check_origins);
    }
}

section! {
    /// How many requests programs answer at once. Beyond, requests wait, and the one is next whose key was given the fewest
    /// tokens; beyond that they are answered 429 with `retry-after`.
    AdmissionSettings {
        /// Requests that run at once, from their start to the last byte of the answer and the end of what their program does
        /// behind it.
        running: u32 = (AdmissionLimits::default().running)
            .range(1, 16384);
        /// Of these, those of one key. Without keys one client has all.
        key_running: u32 = none
            .absent("seven eighths of `running`")
            .range(1, 16384)
            .example("64");
        /// Requests that wait.
        waiting: u32 = (AdmissionLimits::default().waiting)
            .range(0, 16384);
        /// Of these, those of one key.
        key_waiting: u32 = none
            .absent("half of `waiting`")
            .range(0, 16384)
            .example("64");
        /// How long a request waits.
        wait_ms: u64 = (milliseconds(AdmissionLimits::default().wait))
            .unit("ms")
            .range(1, 86_400_000);
    }
}

section! {
    /// Sessions of clients that launch programs and talk with them: docs/protocol.md.
    SessionSettings {
        /// How long a session can be resumed whose connection was lost.
        lease_ms: u64 = (milliseconds(SessionOptions::default().lease))
            .unit("ms")
            .range(1, 86_400_000);
        /// How long an inferlet without a client is kept that has ended, or whose events fill its log; then it is ended and
        /// they are gone.
        detached_ms: u64 = (milliseconds(SessionOptions::default().detached))
            .unit("ms")
            .range(1, 31_536_000_000);
        /// After which silence a client is asked whether it is there; three times as long, and it is taken for dead.
        ping_ms: u64 = (milliseconds(SessionOptions::default().ping))
            .unit("ms")
            .range(1, 86_400_000);
        /// Sessions of one user, those without a connection among them.
        user_sessions: u32 = (SessionOptions::default().user_sessions)
            .range(1, 1_000_000);
        /// Inferlets of one user whose events are kept: those that run, and those that have ended and whose events nobody has
        /// acknowledged.
        user_inferlets: u32 = (SessionOptions::default().user_inferlets)
            .range(1, 1_000_000);
        /// Events that are kept of one inferlet; then it waits.
        log_events: usize = (SessionOptions::default().log_events)
            .range(1, 1 << 20);
        /// Their bytes. A single event that is larger goes when the log is empty.
        log_kb: usize = (SessionOptions::default().log_bytes >> 10)
            .unit("KiB")
            .range(1, 1 << 20);
        /// Bytes of the events that are kept of all inferlets of one user.
        user_log_mb: usize = (SessionOptions::default().user_log_bytes >> 20)
            .unit("MiB")
            .range(1, 2048);
        /// The same of all users.
        total_log_mb: usize = (SessionOptions::default().total_log_bytes >> 20)
            .unit("MiB")
            .range(1, 1 << 20);
    }
}

section! {
    /// Encryption. HTTP/2 and HTTP/1.1 are both there, with it and without.
    TlsSettings {
        /// The certificate and those that vouch for it, in PEM. Read again when the file changes.
        certificate: PathBuf = none
            .example("\"/etc/pie/server.pem\"");
        /// Its private key, in PEM, without a passphrase.
        key: PathBuf = none
            .example("\"/etc/pie/server.key\"");
    }
}

section! {
    /// Spans of requests, for a collector of OpenTelemetry. See docs/tracing.md.
    TelemetrySettings {
        /// Address of the collector, which takes OTLP over HTTP.
        otlp_endpoint: String = none
            .absent("that of `OTEL_EXPORTER_OTLP_ENDPOINT`, and no spans where that is not set")
            .checked("an address with `http://` or `https://`", check_collector)
            .example("\"http://127.0.0.1:4318\"");
    }
}

section! {
    /// Which blocks are in the prefix cache, told to whoever subscribes, for routers: docs/kv-events.md.
    KvEventSettings {
        /// Address of a ZeroMQ PUB socket that publishes them in vLLM's format. Whoever reaches it reads the tokens of all
        /// prompts.
        endpoint: String = none
            .absent("nothing is published")
            .checked("`tcp://HOST:PORT`, with `*` for all addresses", check_endpoint)
            .example("\"tcp://127.0.0.1:5557\"");
        /// First frame of each message, which subscribers choose by. `{model}` stands for the model's name.
        topic: String = (String::new());
    }
}

section! {
    /// A program that answers HTTP requests from the start.
    ServiceSettings {
        /// A name or a `.wasm` file; it must export the WASI HTTP handler (`#[inferlet::serve]`).
        program: String = required
            .example("\"http-server\"");
        /// Answers below this path of the server's port. The program sees the rest, and the path itself as
        /// `x-forwarded-prefix`. The longest path that fits decides; the server's own routes cannot be taken.
        path: String = none
            .example("\"/hello\"");
        /// Answers every path on a port of its own, of the same `host`. Either `path` or `port` is needed.
        port: u16 = none
            .range(0, 65535)
            .excludes("path")
            .example("8081");
        /// What `runtime.arguments` gives.
        arguments: Vec<String> = (Vec::new());
        /// The user that its requests are inferlets of: with a store, saved contexts, topics, cached prefixes and
        /// limits apart from those of other users. With a key, a request is one of the key's user; without keys, all clients of
        /// the program are this user.
        user: String = (LOCAL_USER.to_string())
            .checked("a name of 1 to 256 bytes without control characters", check_user);
    }
}

section! {
    /// An MCP server (Model Context Protocol) whose tools programs may call. One that is not here is not there for them.
    McpSettings {
        /// The name under which programs know it.
        name: String = required
            .checked("1 to 64 letters, digits, `-` and `_`", check_mcp_name)
            .example("\"weather\"");
        /// Address of a server over streamable HTTP. Either `url` or `command` is needed.
        url: String = none
            .checked("an address with `http://` or `https://`", check_url)
            .example("\"http://127.0.0.1:8000/mcp\"");
        /// Headers of each request, as `Name: value`. `${NAME}` in a value is the variable NAME of pie's environment.
        headers: Vec<String> = (Vec::new())
            .checked("texts with a colon", check_headers);
        /// A server that pie starts, with its arguments, and speaks to over stdin and stdout. It is started by the first
        /// call, and again when it has ended.
        command: Vec<String> = none
            .excludes("url")
            .checked("at least the program", check_command)
            .example("[\"uvx\", \"mcp-server-time\"]");
        /// Its environment beside `HOME`, `LANG`, `LC_ALL`, `LOGNAME`, `PATH`, `SHELL`, `TMPDIR`, `TZ` and `USER`: `NAME`,
        /// which is handed on, or `NAME=value`, with `${NAME}` as in `headers`.
        env: Vec<String> = (Vec::new());
        /// The tools that may be called.
        tools: Vec<String> = none
            .absent("all of them")
            .example("[\"forecast\"]");
        /// The users whose programs may call it.
        users: Vec<String> = none
            .absent("all of them")
            .example("[\"local\"]");
        /// Time of a call, with that of connecting; then the server is told that no answer is wanted any more.
        timeout_ms: u64 = (milliseconds(McpLimits::default().time))
            .unit("ms")
            .range(1, 86_400_000);
        /// The arguments of a call, as JSON.
        argument_kb: usize = (McpLimits::default().argument_bytes >> 10)
            .unit("KiB")
            .range(1, 65_536);
        /// The result of a call, or the list of tools. Each call holds so much of the inferlet's `host_memory_mb`.
        result_kb: usize = (McpLimits::default().result_bytes >> 10)
            .unit("KiB")
            .range(1, 65_536);
        /// Tools that it may have, of those that may be called.
        max_tools: usize = (McpLimits::default().tools)
            .range(1, 4096);
        /// Calls of one user that are under way at once; more wait, as long as a call may take. Those of other users do not
        /// wait for them.
        user_calls: usize = (McpLimits::default().user_calls)
            .range(1, 4096);
    }
}

/// A table of the file and its keys.
pub(crate) struct Table {
    /// Its name; empty for the keys outside of any table.
    pub(crate) name: &'static str,
    pub(crate) keys: &'static [Key],
    /// Whether there may be several, as `[[name]]`.
    pub(crate) is_list: bool,
    #[cfg(test)]
    pub(crate) about: &'static str,
    #[cfg(test)]
    pub(crate) defaults: fn() -> Vec<(&'static str, Value)>,
}

const fn table<S: Section>(name: &'static str, is_list: bool) -> Table {
    Table {
        name,
        keys: S::KEYS,
        is_list,
        #[cfg(test)]
        about: S::ABOUT,
        #[cfg(test)]
        defaults: S::defaults,
    }
}

pub(crate) const TABLES: &[Table] = &[
    table::<ServerSettings>("", false),
    table::<ModelSettings>("backend", true),
    table::<LimitSettings>("limits", false),
    table::<NetworkSettings>("network", false),
    table::<HttpSettings>("http", false),
    table::<AdmissionSettings>("admission", false),
    table::<SessionSettings>("session", false),
    table::<TlsSettings>("tls", false),
    table::<TelemetrySettings>("telemetry", false),
    table::<KvEventSettings>("kv_events", false),
    table::<ServiceSettings>("serve", true),
    table::<McpSettings>("mcp", true),
];

/// All tables as they are read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tables {
    pub(super) backend: Vec<ModelSettings>,
    pub(super) limits: LimitSettings,
    pub(super) network: NetworkSettings,
    pub(super) http: HttpSettings,
    pub(super) admission: AdmissionSettings,
    pub(super) session: SessionSettings,
    pub(super) tls: TlsSettings,
    pub(super) telemetry: TelemetrySettings,
    pub(super) kv_events: KvEventSettings,
    pub(super) serve: Vec<ServiceSettings>,
    pub(super) mcp: Vec<McpSettings>,
}

/// Keys of the paper's artifact that have no meaning here, and why.
pub(crate) const FOREIGN_KEYS: &[(&str, &str)] = &[
    ("auth_secret", "pie keeps hashes of keys only, which need no secret; `pie key add` makes keys"),
    ("backend_type", "pie has one backend, the CPU, built in"),
    ("exec_path", "the backend is built in"),
    ("device", "the backend computes on the CPU; see `threads`"),
    ("dtype", "the weights are computed in the format of their file; see `quantize`"),
    ("dist_size", "a pass says itself how many probabilities it wants"),
    ("max_num_embeds", "embedding rows live in the memory of their inferlet"),
    ("verbose", "use `pie --verbose`"),
    ("log", "the log goes to stderr; set PIE_LOG to choose"),
];

fn strategies() -> Vec<Choice> {
    let choice = |row: &scheduler::PolicyRow| Choice { name: row.name, about: row.about };
    scheduler::POLICIES.iter().map(choice).collect()
}

fn log_formats() -> Vec<Choice> {
    vec![
        Choice { name: "text", about: "lines for people" },
        Choice { name: "json", about: "an object a line, with the id of the request as `request_id`" },
    ]
}

fn quantizations() -> Vec<Choice> {
    let about = |quantize| match quantize {
        Quantize::Q8_0 => "8 bits, and a scale for each 32 values",
    };
    Quantize::ALL
        .into_iter()
        .map(|quantize| Choice { name: quantize.name(), about: about(quantize) })
        .collect()
}

fn kv_types() -> Vec<Choice> {
    let about = |kv_type| match kv_type {
        KvType::I16 => "16 bits, and a scale for each 128 values",
        KvType::Q8_0 => "8 bits, and a scale for each 32 values",
    };
    KvType::ALL.into_iter().map(|kv_type| Choice { name: kv_type.name(), about: about(kv_type) }).collect()
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis() as u64
}

/// The user of inferlets that the terminal launches, and of programs that answer requests unless they say otherwise.
pub(crate) const LOCAL_USER: &str = "local";

/// A name that no other can be taken for: it is a part of the keys of what the user saves.
fn check_user(name: &Value) -> Result<()> {
    let name = name.as_str().unwrap_or_default();
    ensure!(is_user(name), "`{name}`");
    Ok(())
}

/// Whether a name can be a user's.
pub(crate) fn is_user(name: &str) -> bool {
    (1..=256).contains(&name.len()) && !name.contains(char::is_control)
}

/// The address behind `tcp://`, with the wildcard of ZeroMQ as the system writes it.
pub(super) fn tcp_address(endpoint: &str) -> Option<String> {
    let (host, port) = endpoint.strip_prefix("tcp://")?.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = if host == "*" { "0.0.0.0" } else { host };
    (!host.is_empty()).then(|| format!("{host}:{port}"))
}

fn check_endpoint(endpoint: &Value) -> Result<()> {
    let endpoint = endpoint.as_str().unwrap_or_default();
    ensure!(
        tcp_address(endpoint).is_some(),
        "`kv_events.endpoint` is `{endpoint}`: expected `tcp://HOST:PORT`, as `tcp://127.0.0.1:5557`"
    );
    Ok(())
}

fn check_hosts(hosts: &Value) -> Result<()> {
    let entries = hosts.as_array().into_iter().flatten();
    let entries: Vec<&str> = entries.filter_map(Value::as_str).collect();
    AllowedHosts::parse(&entries).context("`allow_hosts`")?;
    Ok(())
}

fn check_origins(origins: &Value) -> Result<()> {
    for origin in origins.as_array().into_iter().flatten().filter_map(Value::as_str) {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let is_host = |rest: &str| {
            let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
            !rest.is_empty() && rest.chars().all(valid)
        };
        ensure!(
            origin == "*" || rest.is_some_and(is_host),
            "`http.cors_origins` has `{origin}`: expected `*`, or an origin as `https://app.example.com`, without a path"
        );
    }
    Ok(())
}

fn check_mcp_name(name: &Value) -> Result<()> {
    let name = name.as_str().unwrap_or_default();
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    ensure!(
        (1..=64).contains(&name.len()) && is_plain,
        "`mcp.name` is `{name}`: expected 1 to 64 letters, digits, `-` and `_`"
    );
    Ok(())
}

fn check_url(url: &Value) -> Result<()> {
    let url = url.as_str().unwrap_or_default();
    ensure!(is_address(url), "`mcp.url` is `{url}`: expected an address as `http://127.0.0.1:8000/mcp`");
    Ok(())
}

fn check_collector(url: &Value) -> Result<()> {
    let url = url.as_str().unwrap_or_default();
    let expected = "expected an address as `http://127.0.0.1:4318`";
    ensure!(is_address(url), "`telemetry.otlp_endpoint` is `{url}`: {expected}");
    Ok(())
}

fn is_address(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
}

fn check_headers(headers: &Value) -> Result<()> {
    for header in headers.as_array().into_iter().flatten().filter_map(Value::as_str) {
        // What is no header may be a secret.
        ensure!(super::mcp::header(header).is_some(), "`mcp.headers` has a text that is no `Name: value`");
    }
    Ok(())
}

fn check_command(command: &Value) -> Result<()> {
    let program = command.as_array().and_then(|words| words.first()).and_then(Value::as_str);
    ensure!(
        program.is_some_and(|program| !program.is_empty()),
        "`mcp.command` is empty: expected at least the program"
    );
    Ok(())
}

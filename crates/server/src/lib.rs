//! The HTTP front: the server's own [`ROUTES`], and programs that answer requests, each below a path or on a
//! port of its own. `requests` is around all of them: ids, counts and the line in the log.
//!
//! A [`Front`] listens on ports, answers until it is told to stop, and then lets what runs finish; its
//! [`Mounts`] has the programs by their paths, and may change meanwhile. A request to a program is streamed
//! both ways, and is given up when its client leaves or takes too long: [`HttpLimits`] says how long.

mod admission;
mod auth;
mod connections;
mod dashboard;
mod http2;
mod mounts;
mod observed;
mod patience;
mod recording;
mod requests;
mod routes;
mod session;
mod spans;
mod stats;
mod tls;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use runtime::{Grant, Runtime, Service};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use trace::Telemetry;

use admission::Admission;
use auth::Auth;
use connections::Connections;
use session::connection::Opening;
use session::hub::Hub;
use tls::Tls;

pub use admission::{AdmissionCounts, AdmissionLimits, ClientBounds};
pub use auth::{KEY_PREFIX, Key};
pub use mounts::{MountError, Mounts};
pub use recording::RECORDING_SECONDS;
pub use routes::{ROUTES, Route};
pub use session::{SessionCounts, SessionOptions};
pub use stats::{METRICS, Reading};
pub use tls::{TlsError, TlsFiles};

/// What clients may take. Beyond a limit, a request gets a status that says so, or its connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections open at once, of all ports; more wait in the queue of the system. Default: 4096.
    pub connections: u32,
    /// Connections of one address at once; one more is answered 429. IPv6 addresses count by their first 64
    /// bits, since one client has all of those. Default: 256.
    pub connections_per_address: u32,
    /// For the head of a request; later it is answered 408. A connection that sends none ends. Default: 30 s.
    pub head: Duration,
    /// In which 1 KiB of a request's body, or its end, must come while the program waits for it; later the
    /// request is answered 408. Default: 60 s.
    pub body: Duration,
    /// From the head of a request to the head of the answer, the wait for a free place included; later the
    /// request is answered 504 and its inferlet ends. Default: 10 min.
    pub first_byte: Duration,
    /// In which the client must take some of an answer that waits for it; later the connection ends, and its
    /// inferlet with it. Default: 60 s.
    pub write: Duration,
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            connections: 4096,
            connections_per_address: 256,
            head: Duration::from_secs(30),
            body: Duration::from_secs(60),
            first_byte: Duration::from_secs(600),
            write: Duration::from_secs(60),
        }
    }
}

/// What a front is made with.
#[derive(Clone, Debug, Default)]
pub struct FrontOptions {
    /// What clients may take.
    pub limits: HttpLimits,
    /// How many requests programs answer.
    pub admission: AdmissionLimits,
    /// The certificate; without one nothing is encrypted.
    pub tls: Option<TlsFiles>,
    /// Whether nothing is answered without one of the keys of [`Front::set_keys`]. Default: everything is.
    pub needs_key: bool,
    /// Whether requests must be for this machine by their `host`, and not from pages of others: without keys, a page that
    /// somebody opens here could send some. Default: no.
    pub own_hosts_only: bool,
    /// Origins whose pages may send requests: `https://app.example.com`, or `*` for all. Default: none.
    pub cors_origins: Vec<String>,
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {host}:{port}: {reason}; if another program runs there, choose another port")]
pub struct ListenError {
    host: String,
    port: u16,
    reason: std::io::Error,
}

/// Tells which models are no longer computed, by name.
type DeadModels = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Bytes on their way in each direction of a session within this process.
const OWN_SESSION_BYTES: usize = 64 << 10;

/// Where the server is in its life.
#[derive(Clone)]
pub(crate) enum Phase {
    Starting,
    Ready(DeadModels),
    Stopping,
}

/// The front. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Front(pub(crate) Arc<FrontState>);

pub(crate) struct FrontState {
    limits: RwLock<HttpLimits>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) auth: Auth,
    pub(crate) tls: Option<Tls>,
    pub(crate) own_hosts_only: bool,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) mounts: Mounts,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) connections: Connections,
    pub(crate) requests: requests::Requests,
    /// Metrics of what is behind the programs, once it is there.
    pub(crate) source: watch::Sender<Option<stats::Source>>,
    /// What it said last, and when.
    pub(crate) last_read: tokio::sync::Mutex<Option<(Instant, Vec<metrics::Family>)>>,
    pub(crate) started: SystemTime,
    /// What recordings are made of.
    pub(crate) recorded: OnceLock<Runtime>,
    /// The sessions, once there are some.
    pub(crate) sessions: OnceLock<Arc<Hub>>,
    /// The place of the one recording that is made or sent.
    pub(crate) recording: Arc<Semaphore>,
    /// Where spans of requests go, if anywhere.
    pub(crate) telemetry: OnceLock<Arc<Telemetry>>,
}

impl Front {
    /// A front that listens nowhere yet.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub fn new(options: FrontOptions) -> Result<Front, TlsError> {
        let FrontOptions { limits, admission, tls, needs_key, own_hosts_only, cors_origins } = options;
        Ok(Front(Arc::new(FrontState {
            connections: Connections::new(&limits),
            limits: RwLock::new(limits),
            admission: Arc::new(Admission::new(admission)),
            auth: if needs_key { Auth::closed() } else { Auth::open() },
            tls: tls.map(Tls::open).transpose()?,
            own_hosts_only,
            cors_origins,
            mounts: Mounts::default(),
            phase: watch::Sender::new(Phase::Starting),
            requests: requests::Requests::default(),
            source: watch::Sender::new(None),
            last_read: tokio::sync::Mutex::default(),
            started: SystemTime::now(),
            recorded: OnceLock::new(),
            sessions: OnceLock::new(),
            recording: Arc::new(Semaphore::new(1)),
            telemetry: OnceLock::new(),
        })))
    }

    /// From now on these keys open the server and no others; one that is told keeps what it has used of its minute.
    /// Returns the grants of keys that were there and are gone, or say something else now: what runs under them goes on
    /// until it is ended.
    pub fn set_keys(&self, keys: Vec<Key>) -> Vec<Arc<Grant>> {
        self.0.auth.set_keys(keys)
    }

    /// Takes keys off whose time is over. Returns their grants.
    pub fn take_expired_keys(&self) -> Vec<Arc<Grant>> {
        self.0.auth.take_expired()
    }

    /// Other limits from now on, but for the number of all connections.
    pub fn set_limits(&self, limits: HttpLimits, admission: AdmissionLimits) {
        self.0.connections.set_most_of_an_address(limits.connections_per_address);
        *self.0.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
        self.0.admission.set_limits(admission);
    }

    /// Reads the certificate again, for connections from now on.
    ///
    /// # Errors
    /// When it cannot be used; then the one before stays.
    pub fn reload_certificate(&self) -> Result<(), TlsError> {
        self.0.tls.as_ref().map_or(Ok(()), Tls::reload)
    }

    /// Requests that programs answer, and that wait for their turn.
    pub fn admission_counts(&self) -> AdmissionCounts {
        self.0.admission.counts()
    }

    pub(crate) fn limits(&self) -> HttpLimits {
        self.0.limits.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The programs by their paths.
    pub fn mounts(&self) -> &Mounts {
        &self.0.mounts
    }

    /// Listens and answers the [`ROUTES`] and the programs that are mounted. Returns the address; port 0
    /// takes any that is free.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub async fn listen(&self, host: &str, port: u16) -> Result<SocketAddr, ListenError> {
        let (listener, address) = bind(host, port).await?;
        tokio::spawn(connections::accept(self.clone(), listener, routes::server_router(self.clone())));
        Ok(address)
    }

    /// Listens for one program, which answers every path.
    ///
    /// # Errors
    /// As for [`Front::listen`].
    pub async fn listen_for(
        &self,
        host: &str,
        port: u16,
        service: Service,
    ) -> Result<SocketAddr, ListenError> {
        let (listener, address) = bind(host, port).await?;
        let router = routes::program_router(self.clone(), service);
        tokio::spawn(connections::accept(self.clone(), listener, router));
        Ok(address)
    }

    /// From now on requests are answered. Until then each gets 503 and a `retry-after`, `/health` among them:
    /// the port is taken first, so that nobody loads models only to learn that it is not free.
    ///
    /// `dead_models` names the models that are no longer computed; `/health` answers 503 when there are any.
    pub fn set_ready(&self, dead_models: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        let dead_models = Arc::new(dead_models);
        self.0.phase.send_replace(Phase::Ready(dead_models));
    }

    /// Offers recordings of a runtime; the first one given is meant.
    pub fn offer_recordings(&self, runtime: &Runtime) {
        self.0.recorded.get_or_init(|| runtime.clone());
    }

    /// Offers sessions, in which clients launch programs of this runtime; the first ones given are meant.
    pub fn offer_sessions(&self, options: SessionOptions, runtime: &Runtime) {
        self.0.sessions.get_or_init(|| Hub::start(options, runtime.clone()));
    }

    /// A session within this process, as [`protocol::client::Client::over`] opens one: of the user of sessions that come
    /// without a key, whether the server wants keys or not. It does not count among that user's sessions. None where no
    /// sessions are offered.
    pub fn own_session(&self) -> Option<DuplexStream> {
        let hub = self.0.sessions.get()?.clone();
        let (ours, theirs) = tokio::io::duplex(OWN_SESSION_BYTES);
        let front = self.clone();
        tokio::spawn(async move {
            session::connection::serve(&front, Opening { client: None, hub, is_own: true }, ours, &[]).await;
        });
        Some(theirs)
    }

    /// Sessions, and the inferlets that they have launched.
    pub fn session_counts(&self) -> SessionCounts {
        self.0.sessions.get().map(|hub| hub.counts()).unwrap_or_default()
    }

    /// Makes a span of each request to a program; the first telemetry given is meant.
    pub fn send_spans(&self, telemetry: Arc<Telemetry>) {
        self.0.telemetry.get_or_init(|| telemetry);
    }

    /// Stops listening, on all ports. Requests that are being answered go on; each is the last of its
    /// connection, and one that arrives on an open connection gets 503.
    pub fn stop(&self) {
        self.0.phase.send_replace(Phase::Stopping);
    }

    /// Waits until no connection is open. Only a front that was told to stop comes there.
    pub async fn drained(&self) {
        self.0.connections.drained().await;
    }

    pub(crate) fn phase(&self) -> Phase {
        self.0.phase.borrow().clone()
    }

    /// Returns once the front was told to stop.
    pub(crate) async fn stopping(&self) {
        let mut phase = self.0.phase.subscribe();
        let stopping = phase.wait_for(|phase| matches!(phase, Phase::Stopping)).await;
        stopping.expect("the front holds the sender");
    }
}

async fn bind(host: &str, port: u16) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |reason| ListenError { host: host.to_string(), port, reason };
    let listener = TcpListener::bind((host, port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Does what blocks on a thread of its own.
    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    /// All that comes until the connection ends.
    fn read_all(stream: &mut TcpStream) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The head and body of the answer to a GET.
    async fn get(address: SocketAddr, path: &'static str) -> String {
        blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").unwrap();
            read_all(&mut stream)
        })
        .await
    }

    #[tokio::test]
    async fn nothing_is_answered_before_the_server_is_ready() {
        let front = Front::new(FrontOptions::default()).unwrap();
        let address = front.listen("127.0.0.1", 0).await.unwrap();
        for (path, body) in [("/health", r#"{"status":"starting"}"#), ("/hello", "models are being loaded")] {
            let answer = get(address, path).await;
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
            assert!(answer.contains(body), "{answer}");
        }
        front.set_ready(Vec::new);
        let answer = get(address, "/health").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#"{"status":"ok"}"#), "{answer}");
        let unknown = get(address, "/hello").await;
        assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
        for route in ROUTES {
            assert!(unknown.contains(route.path), "`{}` is not in {unknown}", route.path);
            assert!(!get(address, route.path).await.starts_with("HTTP/1.1 404 "), "`{}`", route.path);
        }
    }

    #[tokio::test]
    async fn a_dead_engine_is_no_health() {
        let front = Front::new(FrontOptions::default()).unwrap();
        let address = front.listen("127.0.0.1", 0).await.unwrap();
        front.set_ready(|| vec!["small".to_string()]);
        for path in ["/health", "/health/live", "/health/ready"] {
            let answer = get(address, path).await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains(r#"{"status":"failed","models":["small"]}"#), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_server_that_starts_is_alive_and_not_ready_and_has_metrics() {
        let front = Front::new(FrontOptions::default()).unwrap();
        let address = front.listen("127.0.0.1", 0).await.unwrap();
        let status = async |path| get(address, path).await[..12].to_string();
        assert_eq!(status("/health/live").await, "HTTP/1.1 200");
        assert_eq!(status("/health/ready").await, "HTTP/1.1 503");
        let page = get(address, "/metrics").await;
        assert!(
            page.contains("\npie_http_requests_total{route=\"/health/ready\",status=\"503\"} 1.0\n"),
            "{page}"
        );
        front.set_ready(Vec::new);
        assert_eq!(status("/health/ready").await, "HTTP/1.1 200");
    }

    #[tokio::test]
    async fn however_many_ask_the_engines_are_asked_a_hundred_times_a_second() {
        let front = Front::new(FrontOptions::default()).unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let counted = asked.clone();
        front.set_metrics(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Vec::new() }
        });
        let start = Instant::now();
        for _ in 0..1000 {
            front.metrics().await;
        }
        let most = start.elapsed().as_millis() as u32 / 10 + 1;
        let asked = asked.load(Ordering::Relaxed);
        assert!((1..=most).contains(&asked), "{asked} of at most {most}");
    }

    #[tokio::test]
    async fn every_answer_has_the_id_of_its_request() {
        let front = Front::new(FrontOptions::default()).unwrap();
        let address = front.listen("127.0.0.1", 0).await.unwrap();
        // Too early, of the server's own, and of nothing.
        for path in ["/early", "/health", "/metrics"] {
            let answer = blocking(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                let head = "host: here\r\nconnection: close\r\nx-request-id: mine";
                write!(stream, "GET {path} HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
                read_all(&mut stream)
            });
            let answer = answer.await;
            assert!(answer.contains("\r\nx-request-id: mine\r\n"), "{answer}");
            let session =
                answer.split("\r\nx-session-id: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            assert_eq!(session.map(str::len), Some(36), "one is made: {answer}");
        }
    }

    #[tokio::test]
    async fn a_front_that_stops_ends_its_connections_and_takes_no_more() {
        let front = Front::new(FrontOptions::default()).unwrap();
        let address = front.listen("127.0.0.1", 0).await.unwrap();
        front.set_ready(Vec::new);
        // One that has sent nothing, and one that waits for its next request.
        let silent = blocking(move || TcpStream::connect(address).unwrap()).await;
        let kept = blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET /health HTTP/1.1\r\nhost: here\r\n\r\n").unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            stream
        })
        .await;
        front.stop();
        tokio::time::timeout(Duration::from_secs(10), front.drained()).await.expect("no connection is left");
        for mut stream in [silent, kept] {
            blocking(move || read_all(&mut stream)).await;
        }
        let late = blocking(move || TcpStream::connect(address)).await;
        assert!(late.is_err(), "the port is closed");
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_is_answered_408() {
        let limits = HttpLimits { head: Duration::from_millis(200), ..HttpLimits::default() };
        let front = Front::new(FrontOptions { limits, ..FrontOptions::default() }).unwrap();
        let address = front.listen("127.0.0.1", 0).await.unwrap();
        let (said, silent) = blocking(move || {
            let start = Instant::now();
            let mut slow = TcpStream::connect(address).unwrap();
            write!(slow, "GET /health HTTP/1.1\r\nx: ").unwrap();
            let mut silent = TcpStream::connect(address).unwrap();
            let answers = (read_all(&mut slow), read_all(&mut silent));
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
            answers
        })
        .await;
        assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("connection: close"), "{said}");
        assert_eq!(silent, "", "without a request there is no answer");
    }

    #[tokio::test]
    async fn one_address_has_so_many_connections() {
        let limits = HttpLimits { connections_per_address: 2, ..HttpLimits::default() };
        let front = Front::new(FrontOptions { limits, ..FrontOptions::default() }).unwrap();
        let address = front.listen("127.0.0.1", 0).await.unwrap();
        front.set_ready(Vec::new);
        let (held, refused) = blocking(move || {
            let open = || TcpStream::connect(address).unwrap();
            let held = [open(), open()];
            (held, read_all(&mut open()))
        })
        .await;
        assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after: 1"), "{refused}");
        drop(held);
        // The server learns a little later that they are gone.
        for _ in 0..1000 {
            if get(address, "/health").await.starts_with("HTTP/1.1 200 ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("connections that ended still count");
    }
}

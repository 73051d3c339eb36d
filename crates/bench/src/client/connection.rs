//! One connection to the server, with TLS or without, and reading from it with deadlines.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::record::{ErrorClass, Failure};

/// Bytes that one read may bring: some hundred events.
const READ_BYTES: usize = 64 << 10;

pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

fn failure(class: ErrorClass, message: impl Into<String>) -> Failure {
    Failure { class, message: message.into() }
}

/// The class of an error while connected.
pub(super) fn broken(error: &io::Error, doing: &str) -> Failure {
    let class = match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            ErrorClass::Reset
        }
        io::ErrorKind::UnexpectedEof => ErrorClass::Truncated,
        _ => ErrorClass::Reset,
    };
    failure(class, format!("{doing}: {error}"))
}

impl Connection {
    /// Connects to the first of `addresses` that answers.
    pub(super) async fn open(
        addresses: &[SocketAddr],
        host: &str,
        tls: Option<&TlsConnector>,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let opened = tokio::time::timeout(timeout, Self::connect(addresses, host, tls)).await;
        opened.unwrap_or_else(|_| {
            let message = format!("not connected within {timeout:?}");
            Err(failure(ErrorClass::ConnectTimeout, message))
        })
    }

    async fn connect(
        addresses: &[SocketAddr],
        host: &str,
        tls: Option<&TlsConnector>,
    ) -> Result<Self, Failure> {
        let mut last = failure(ErrorClass::Resolve, format!("`{host}` has no address"));
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let set = stream.set_nodelay(true);
                    set.map_err(|error| failure(ErrorClass::Connect, error.to_string()))?;
                    let Some(tls) = tls else { return Ok(Self::Plain(stream)) };
                    let name = ServerName::try_from(host.to_string());
                    let name = name.map_err(|error| failure(ErrorClass::Tls, error.to_string()))?;
                    let stream = tls.connect(name, stream).await;
                    let stream = stream.map_err(|error| failure(ErrorClass::Tls, error.to_string()))?;
                    return Ok(Self::Tls(Box::new(stream)));
                }
                Err(error) => {
                    let class = match error.kind() {
                        io::ErrorKind::ConnectionRefused => ErrorClass::Refused,
                        io::ErrorKind::TimedOut => ErrorClass::ConnectTimeout,
                        _ => ErrorClass::Connect,
                    };
                    last = failure(class, format!("{address}: {error}"));
                }
            }
        }
        Err(last)
    }

    /// Gives all bytes to the socket.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => pin!(stream).poll_read(cx, buffer),
            Self::Tls(stream) => pin!(stream).poll_read(cx, buffer),
        }
    }

    /// Reads what is there into `scratch`, or waits for it until `deadlines` has passed. Says how many bytes; they are
    /// there until the next `await`.
    pub(super) async fn read(
        &mut self,
        scratch: &Scratch,
        deadlines: &mut Deadlines,
    ) -> Result<usize, ReadError> {
        poll_fn(|cx| {
            let mut scratch = scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            if let Poll::Ready(read) = self.poll_read(cx, &mut buffer) {
                return Poll::Ready(read.map(|()| buffer.filled().len()).map_err(ReadError::Io));
            }
            ready!(deadlines.poll(cx));
            Poll::Ready(Err(ReadError::Late))
        })
        .await
    }
}

/// Why a read brought nothing.
pub(super) enum ReadError {
    Io(io::Error),
    /// A deadline has passed.
    Late,
}

/// Where bytes are read to. One for each worker, however many answers it reads: what is read is looked at before
/// anything else can be.
pub(super) type Scratch = RefCell<Box<[u8]>>;

/// Room for one read.
pub(super) fn scratch() -> Scratch {
    RefCell::new(vec![0; READ_BYTES].into_boxed_slice())
}

/// The earliest of a request's deadlines. It moves with every read, and the timer is moved only when it fires: a
/// stream of a thousand reads then sets it a few times.
pub(super) struct Deadlines {
    timer: Option<Pin<Box<Sleep>>>,
    /// For the whole request.
    total: Option<Instant>,
    /// For the next byte.
    next: Option<Instant>,
}

impl Deadlines {
    pub(super) fn new(total: Option<Instant>, next: Option<Instant>) -> Self {
        let mut deadlines = Self { timer: None, total, next };
        deadlines.timer = deadlines.earliest().map(|at| Box::pin(tokio::time::sleep_until(at.into())));
        deadlines
    }

    fn earliest(&self) -> Option<Instant> {
        self.total.into_iter().chain(self.next).min()
    }

    /// The next byte must be there by `at`.
    pub(super) fn set_next(&mut self, at: Option<Instant>) {
        self.next = at;
        let Some(at) = self.earliest() else { return };
        match &mut self.timer {
            // It fires earlier and is moved then.
            Some(timer) if timer.deadline() <= at.into() => {}
            Some(timer) => timer.as_mut().reset(at.into()),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(at.into()))),
        }
    }

    /// Whether the deadline that passed is that of the whole request.
    pub(super) fn is_total_over(&self) -> bool {
        self.total.is_some_and(|total| total <= Instant::now())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.earliest() else { return Poll::Pending };
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        loop {
            ready!(timer.as_mut().poll(cx));
            if at <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at.into());
        }
    }
}

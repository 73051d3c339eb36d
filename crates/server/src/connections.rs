//! Taking connections, and how many there may be.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::rt::Write;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::patience::TimedWrites;
use crate::session::connection;
use crate::session::upgrade::Upgrade;
use crate::{Front, HttpLimits, http2};

/// Before the next attempt when a connection cannot be taken: no more files, for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const REFUSED: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\
    connection: close\r\n\r\n";
const HEAD_TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The connections of all ports.
pub(crate) struct Connections {
    most: u32,
    most_of_an_address: AtomicU32,
    places: Arc<Semaphore>,
    of_addresses: Arc<Mutex<HashMap<IpAddr, u32>>>,
    refused: AtomicU64,
}

impl Connections {
    pub(crate) fn new(limits: &HttpLimits) -> Connections {
        Connections {
            most: limits.connections,
            most_of_an_address: AtomicU32::new(limits.connections_per_address),
            places: Arc::new(Semaphore::new(limits.connections as usize)),
            of_addresses: Arc::default(),
            refused: AtomicU64::new(0),
        }
    }

    /// From now on; those that are there stay.
    pub(crate) fn set_most_of_an_address(&self, most: u32) {
        self.most_of_an_address.store(most, Ordering::Relaxed);
    }

    /// A place for a connection; waits while there is none.
    async fn place(&self) -> OwnedSemaphorePermit {
        self.places.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> u64 {
        let counts = lock(&self.of_addresses);
        counts.values().map(|count| u64::from(*count)).sum()
    }

    /// Connections that were refused.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Waits until all places are free.
    pub(crate) async fn drained(&self) {
        let all = self.places.acquire_many(self.most).await;
        drop(all.expect("the semaphore is never closed"));
    }

    /// Counts a connection of an address; none when it has as many as it may.
    fn count(&self, address: IpAddr) -> Option<Counted> {
        let address = client(address);
        let mut counts = lock(&self.of_addresses);
        let count = counts.entry(address).or_default();
        if *count >= self.most_of_an_address.load(Ordering::Relaxed) {
            return None;
        }
        *count += 1;
        Some(Counted { address, counts: self.of_addresses.clone() })
    }
}

/// A connection that counts for its address until it is dropped.
struct Counted {
    address: IpAddr,
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

fn lock(counts: &Mutex<HashMap<IpAddr, u32>>) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What counts as one client: an IPv4 address, or the 64 bits that a network gives to one customer.
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
    }
}

/// Takes connections until the front stops.
pub(crate) async fn accept(front: Front, listener: TcpListener, router: Router) {
    let stopping = front.stopping();
    tokio::pin!(stopping);
    loop {
        let place = front.0.connections.place();
        let taken = async {
            let place = place.await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut stopping => return,
            taken = taken => taken,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(counted) = front.0.connections.count(address.ip()) else {
            front.0.connections.refused.fetch_add(1, Ordering::Relaxed);
            // The answer fits the system's buffer; a client that does not read it loses it. Where connections are
            // encrypted it could not read it.
            if front.0.tls.is_none() {
                let _ = stream.try_write(REFUSED);
            }
            continue;
        };
        let (front, router) = (front.clone(), router.clone());
        tokio::spawn(async move {
            answer(&front, stream, router).await;
            drop((counted, place));
        });
    }
}

/// How an HTTP/2 connection begins; no request of HTTP/1 does.
const HTTP2: &[u8] = b"PRI * HTTP/2";

/// Answers what comes over a connection, which is encrypted where the front has a certificate.
async fn answer(front: &Front, stream: TcpStream, router: Router) {
    // Tokens are small messages, and the client waits for each.
    let _ = stream.set_nodelay(true);
    let limits = front.limits();
    let Some(tls) = &front.0.tls else {
        let begins = tokio::select! {
            begins = begins_http2(&stream, limits.head) => begins,
            () = front.stopping() => None,
        };
        return match begins {
            Some(true) => http2::serve(front, stream, router).await,
            Some(false) => serve(front, stream, router).await,
            None => {}
        };
    };
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(limits.head, tls.acceptor().accept(stream)) => accepted,
        () = front.stopping() => return,
    };
    match accepted {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            http2::serve(front, stream, router).await;
        }
        Ok(Ok(stream)) => serve(front, stream, router).await,
        Ok(Err(error)) => tracing::debug!(%error, "a connection is not encrypted as it should be"),
        Err(_) => tracing::debug!("a connection did not begin in time"),
    }
}

/// Whether a client that knows that this server speaks HTTP/2 begins so; none when it sends nothing, or too slowly. What
/// came is left where it is.
async fn begins_http2(stream: &TcpStream, limit: Duration) -> Option<bool> {
    let begins = async {
        let mut beginning = [0; HTTP2.len()];
        let mut pause = PEEK_AGAIN;
        loop {
            let bytes = stream.peek(&mut beginning).await.ok()?;
            if bytes == 0 || !HTTP2.starts_with(&beginning[..bytes]) {
                return Some(false);
            }
            if bytes == HTTP2.len() {
                return Some(true);
            }
            // Some of it is there: a peek would be ready at once, and does not tell of a client that has gone.
            if pause > PEEK_MOST {
                return Some(false);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    };
    tokio::time::timeout(limit, begins).await.ok().flatten()
}

/// Between two looks at a beginning of which only a part has come: so long at first, twice as long each time. After the
/// longest it is taken for one of HTTP/1.
const PEEK_AGAIN: Duration = Duration::from_millis(5);
const PEEK_MOST: Duration = Duration::from_millis(320);

/// Answers the requests of one HTTP/1 connection.
async fn serve<T>(front: &Front, stream: T, router: Router)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = front.limits();
    let io = TimedWrites::new(TokioIo::new(stream), limits.write);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head);
    let upgrade = Upgrade::default();
    let (routes, place) = (TowerToHyperService::new(router), upgrade.clone());
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(place.clone());
        routes.call(request)
    });
    let mut connection = http.serve_connection(io, service);
    let mut served = tokio::select! {
        served = poll_fn(|context| connection.poll_without_shutdown(context)) => Some(served),
        () = front.stopping() => None,
    };
    if served.is_none() {
        Pin::new(&mut connection).graceful_shutdown();
        served = Some(poll_fn(|context| connection.poll_without_shutdown(context)).await);
    }
    let mut parts = connection.into_parts();
    let Some(Err(error)) = served else {
        match upgrade.take() {
            Some(opening) => connection::serve(front, opening, TokioIo::new(parts.io), &parts.read_buf).await,
            // What the client has not taken by now it may lose.
            None => drop(poll_fn(|context| Pin::new(&mut parts.io).poll_shutdown(context)).await),
        }
        return;
    };
    tracing::debug!(%error, "a connection broke off");
    if error.is_timeout() && !parts.read_buf.is_empty() {
        let mut stream = parts.io.into_inner().into_inner();
        // One write: it has a place in the system's buffer, since nothing was answered to this head.
        let _ = tokio::time::timeout(limits.write, stream.write_all(HEAD_TOO_SLOW)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_count_by_client_and_are_given_back() {
        let limits = HttpLimits { connections_per_address: 2, ..HttpLimits::default() };
        let connections = Connections::new(&limits);
        let count = |address: &str| connections.count(address.parse().unwrap());
        let (one, two) = (count("10.0.0.1"), count("::ffff:10.0.0.1"));
        assert!(one.is_some() && two.is_some() && count("10.0.0.1").is_none(), "IPv4 in IPv6 is the same");
        assert!(count("10.0.0.2").is_some());
        drop(one);
        assert!(count("10.0.0.1").is_some());
        let network = (count("2001:db8::1"), count("2001:db8::2"));
        assert!(network.0.is_some() && network.1.is_some());
        assert!(count("2001:db8::3").is_none() && count("2001:db8:0:1::3").is_some());
        drop((two, network));
        assert!(lock(&connections.of_addresses).is_empty(), "nothing is kept of clients that left");
    }
}

//! The listener and the threads of a mock server.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::LocalSet;

use super::connection::{Counts, Shared, serve};
use super::{Log, Script};

/// Why a mock server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MockError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}; another --port, or 0 for a free one?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// No thread or no runtime.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A mock server that runs until it is dropped.
#[derive(Debug)]
pub struct Mock {
    address: SocketAddr,
    log: Log,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Mock {
    /// Starts one; port 0 takes a free one.
    ///
    /// # Errors
    /// [`MockError`].
    pub fn start(script: Script, address: SocketAddr) -> Result<Self, MockError> {
        let listener = TcpListener::bind(address).map_err(|error| MockError::Listen { address, error })?;
        let address = listener.local_addr()?;
        let log = Log::default();
        let slots = script.slots.map(Semaphore::new);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = script.threads.unwrap_or(cores).max(1);
        let shared = Arc::new(Shared { script, log: log.clone(), slots, counts: Counts::default() });
        let numbers = Arc::new(AtomicU64::new(0));
        let mut workers = Vec::new();
        for index in 0..threads {
            let (send, streams) = tokio::sync::mpsc::unbounded_channel();
            let (shared, numbers) = (Arc::clone(&shared), Arc::clone(&numbers));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name(format!("mock-{index}"));
            thread.spawn(move || LocalSet::new().block_on(&runtime, work(shared, numbers, streams)))?;
            workers.push(send);
        }
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = std::thread::Builder::new().name("mock-accept".into());
        let acceptor = thread.spawn(move || accept(&listener, &workers, &stop))?;
        Ok(Self { address, log, stopping, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it did.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Serves until the process ends.
    pub fn wait(mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            // Its panic has been printed.
            let _ = acceptor.join();
        }
    }
}

impl Drop for Mock {
    /// Stops listening and closes every connection.
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the acceptor, which then looks at `stopping`. Without a listener there is nothing to wake.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Gives connections to the workers by turns, until stopped; dropping the senders then ends the workers.
fn accept(listener: &TcpListener, workers: &[UnboundedSender<TcpStream>], stop: &AtomicBool) {
    for (index, stream) in listener.incoming().enumerate() {
        if stop.load(Ordering::Acquire) {
            return;
        }
        // A connection that broke before it was accepted, or no file descriptor: the next may be better.
        let Ok(stream) = stream else { continue };
        if stream.set_nonblocking(true).is_ok() {
            let _ = workers[index % workers.len()].send(stream);
        }
    }
}

async fn work(shared: Arc<Shared>, numbers: Arc<AtomicU64>, mut streams: UnboundedReceiver<TcpStream>) {
    while let Some(stream) = streams.recv().await {
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { continue };
        let (shared, numbers) = (Arc::clone(&shared), Arc::clone(&numbers));
        // An error is the client's leaving, or a reset that the script wants.
        tokio::task::spawn_local(async move { drop(serve(shared, stream, numbers).await) });
    }
}

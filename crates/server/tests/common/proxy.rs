//! A proxy that counts WebSocket messages in both directions and cuts the connection at one of them, once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Where it cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The message is lost.
    Before,
    /// A half of it comes.
    Within,
    /// It comes whole.
    After,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    cuts: Arc<AtomicU32>,
}

struct Plan {
    cut: Cut,
    /// Messages until it cuts.
    left: AtomicI64,
    cuts: Arc<AtomicU32>,
}

impl Proxy {
    /// A proxy before a server that cuts at message `at`, of both directions together.
    pub(crate) async fn start(server: SocketAddr, at: i64, cut: Cut) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicU32::new(0));
        let plan = Arc::new(Plan { cut, left: AtomicI64::new(at), cuts: cuts.clone() });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let plan = plan.clone();
                tokio::spawn(async move {
                    let server = TcpStream::connect(server).await.unwrap();
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    let end = Arc::new(Notify::new());
                    let up = tokio::spawn(pass(from_client, to_server, plan.clone(), end.clone()));
                    let down = tokio::spawn(pass(from_server, to_client, plan, end));
                    let _ = tokio::join!(up, down);
                });
            }
        });
        Proxy { address, cuts }
    }

    /// Whether it has cut.
    pub(crate) fn has_cut(&self) -> bool {
        self.cuts.load(Ordering::Relaxed) > 0
    }
}

/// Passes one direction on until it ends or either is cut.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, plan: Arc<Plan>, end: Arc<Notify>) {
    let passed = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(from.read_u8().await.ok()?);
        }
        to.write_all(&head).await.ok()?;
        loop {
            let frame = frame(&mut from).await?;
            if plan.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                plan.cuts.fetch_add(1, Ordering::Relaxed);
                let bytes = match plan.cut {
                    Cut::Before => 0,
                    Cut::Within => frame.len() / 2,
                    Cut::After => frame.len(),
                };
                to.write_all(&frame[..bytes]).await.ok()?;
                return Some(());
            }
            to.write_all(&frame).await.ok()?;
        }
    };
    tokio::select! {
        _ = passed => end.notify_waiters(),
        () = end.notified() => {}
    }
    // The other direction may not have waited yet.
    end.notify_one();
}

/// One frame, whole.
async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut frame = vec![0; 2];
    from.read_exact(&mut frame).await.ok()?;
    let more = match frame[1] & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let at = frame.len();
    frame.resize(at + more, 0);
    from.read_exact(&mut frame[at..]).await.ok()?;
    let length = match more {
        0 => u64::from(frame[1] & 0x7f),
        _ => frame[2..].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
    };
    let mask = if frame[1] & 0x80 > 0 { 4 } else { 0 };
    let at = frame.len();
    frame.resize(at + mask + length as usize, 0);
    from.read_exact(&mut frame[at..]).await.ok()?;
    Some(frame)
}

//! One connection of a mock server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::answer::{self, Answer};
use super::request::{self, Generation, Request};
use super::{FaultKind, Log, Script, ServedRequest};

/// What connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) script: Script,
    pub(super) log: Log,
    pub(super) slots: Option<Semaphore>,
    pub(super) counts: Counts,
}

/// What `/metrics` shows.
#[derive(Debug, Default)]
pub(super) struct Counts {
    requests: AtomicU64,
    running: AtomicU64,
    waiting: AtomicU64,
    prompt_tokens: AtomicU64,
    output_tokens: AtomicU64,
}

impl Counts {
    fn page(&self) -> String {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let rows = [
            ("num_requests_running", "gauge", get(&self.running)),
            ("num_requests_waiting", "gauge", get(&self.waiting)),
            ("request_success_total", "counter", get(&self.requests)),
            ("prompt_tokens_total", "counter", get(&self.prompt_tokens)),
            ("generation_tokens_total", "counter", get(&self.output_tokens)),
        ];
        let row = |(name, kind, value): (&str, &str, u64)| {
            format!("# TYPE vllm:{name} {kind}\nvllm:{name}{{model_name=\"mock\"}} {value}\n")
        };
        rows.into_iter().map(row).collect()
    }
}

/// Adds one while it lives, so that a gauge is right also when a connection breaks.
struct Gauge<'a>(&'a AtomicU64);

impl<'a> Gauge<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection until it ends.
pub(super) async fn serve(
    shared: Arc<Shared>,
    mut stream: TcpStream,
    numbers: Arc<AtomicU64>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let request = loop {
            match request::read(&buffer) {
                Ok(Some(request)) => break request,
                Ok(None) => {}
                Err(why) => return stream.write_all(&answer::whole(400, "text/plain", why.as_bytes())).await,
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let arrived = Instant::now();
        buffer.drain(..request.length);
        let goes_on = respond(&shared, &mut stream, &request, arrived, &numbers).await?;
        if !goes_on || request.close {
            return stream.shutdown().await;
        }
    }
}

/// Answers a request. Says whether the connection goes on.
async fn respond(
    shared: &Shared,
    stream: &mut TcpStream,
    request: &Request,
    arrived: Instant,
    numbers: &AtomicU64,
) -> io::Result<bool> {
    let json = |status, value: serde_json::Value| {
        answer::whole(status, "application/json", value.to_string().as_bytes())
    };
    let bytes = match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health") => answer::whole(200, "text/plain", b"ok"),
        ("GET", "/metrics") => {
            answer::whole(200, "text/plain; version=0.0.4", shared.counts.page().as_bytes())
        }
        ("GET", "/v1/models") => {
            let model = json!({"id": shared.script.model, "object": "model", "owned_by": "mock"});
            json(200, json!({"object": "list", "data": [model]}))
        }
        ("POST", "/tokenize") => match serde_json::from_slice::<Generation>(&request.body) {
            Ok(asked) => {
                let count = asked.prompt_tokens();
                json(
                    200,
                    json!({"count": count, "max_model_len": 131_072, "tokens": (0..count).collect::<Vec<_>>()}),
                )
            }
            Err(error) => json(400, json!({"error": {"message": error.to_string()}})),
        },
        ("POST", path) => {
            let is_chat = path.ends_with("/chat/completions");
            let number = numbers.fetch_add(1, Ordering::Relaxed);
            return generate(shared, stream, request, arrived, is_chat, number).await;
        }
        (method, path) => json(404, json!({"error": {"message": format!("no route {method} {path}")}})),
    };
    stream.write_all(&bytes).await?;
    Ok(true)
}

async fn generate(
    shared: &Shared,
    stream: &mut TcpStream,
    request: &Request,
    arrived: Instant,
    is_chat: bool,
    number: u64,
) -> io::Result<bool> {
    let script = &shared.script;
    let _under_way = shared.log.begin();
    let fault = script.fault(number);
    let asked: Generation = match serde_json::from_slice(&request.body) {
        Ok(asked) => asked,
        Err(error) => {
            let body = json!({"error": {"message": error.to_string()}}).to_string();
            stream.write_all(&answer::whole(400, "application/json", body.as_bytes())).await?;
            return Ok(true);
        }
    };
    match fault {
        Some(FaultKind::Status(status)) => {
            let body = json!({"error": {"message": "scripted status", "code": status}}).to_string();
            stream.write_all(&answer::whole(status, "application/json", body.as_bytes())).await?;
            return Ok(true);
        }
        Some(FaultKind::Reset) => {
            // Data that is not read and a linger of zero make the system send a reset.
            stream.set_zero_linger()?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Some(FaultKind::Malformed) => {
            stream.write_all(b"220 mail ready\r\n").await?;
            return Ok(false);
        }
        Some(FaultKind::Silent) => {
            tokio::time::sleep(script.stall).await;
            return Ok(false);
        }
        _ => {}
    }
    let waiting = Gauge::new(&shared.counts.waiting);
    let _slot = match &shared.slots {
        // It is never closed.
        Some(slots) => slots.acquire().await.ok(),
        None => None,
    };
    drop(waiting);
    let _running = Gauge::new(&shared.counts.running);
    let began = Instant::now();
    let tokens = script.tokens.or_else(|| asked.tokens()).unwrap_or(16);
    let prompt_tokens = asked.prompt_tokens();
    let answer = Answer { script, id: &request.id, is_chat, prompt_tokens, tokens };
    let mut chunks = Vec::new();
    let goes_on = if asked.stream {
        stream_answer(&answer, stream, began, fault, &mut chunks).await?
    } else {
        let whole = script.ttft + script.gap * answer.chunks().saturating_sub(1);
        sleep_until(began + whole).await;
        stream.write_all(&answer.at_once()).await?;
        true
    };
    shared.counts.requests.fetch_add(1, Ordering::Relaxed);
    shared.counts.prompt_tokens.fetch_add(u64::from(prompt_tokens), Ordering::Relaxed);
    shared.counts.output_tokens.fetch_add(u64::from(tokens), Ordering::Relaxed);
    if script.logs {
        shared.log.add(ServedRequest {
            id: request.id.clone(),
            arrived,
            began,
            chunks,
            ended: Instant::now(),
            prompt_tokens,
            session: request.session.clone(),
            body: String::from_utf8_lossy(&request.body).into_owned(),
        });
    }
    Ok(goes_on)
}

async fn sleep_until(at: Instant) {
    if at > Instant::now() {
        tokio::time::sleep_until(at.into()).await;
    }
}

/// Writes a stream by its schedule, and the moment before each write to `chunks`. Says whether the connection goes on.
async fn stream_answer(
    answer: &Answer<'_>,
    stream: &mut TcpStream,
    began: Instant,
    fault: Option<FaultKind>,
    chunks: &mut Vec<Instant>,
) -> io::Result<bool> {
    let script = answer.script;
    let mut first = answer::STREAM_HEAD.to_vec();
    first.extend(answer.role().unwrap_or_default());
    stream.write_all(&first).await?;
    let count = answer.chunks();
    let middle = (answer.is_uniform() && count > 2).then(|| answer.token(1));
    let mut pause = Duration::ZERO;
    for index in 0..count {
        if index == script.fault_after {
            match fault {
                Some(FaultKind::Cut) => {
                    let event = answer.token(index);
                    stream.write_all(&event[..event.len() / 2]).await?;
                    return Ok(false);
                }
                Some(FaultKind::MalformedEvent) => {
                    stream.write_all(&answer::chunk(b"data: {\"choices\": [tru\n\n")).await?;
                    return Ok(false);
                }
                Some(FaultKind::Error) => {
                    stream.write_all(&answer.error()).await?;
                    stream.write_all(&answer.tail()).await?;
                    return Ok(false);
                }
                Some(FaultKind::Stall) => pause = script.stall,
                _ => {}
            }
        }
        sleep_until(began + script.ttft + script.gap * index + pause).await;
        chunks.push(Instant::now());
        match &middle {
            Some(bytes) if index > 0 && index + 1 < count => stream.write_all(bytes).await?,
            _ => stream.write_all(&answer.token(index)).await?,
        }
    }
    stream.write_all(&answer.tail()).await?;
    Ok(true)
}

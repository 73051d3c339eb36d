//! A small HTTP client: one request on one connection. On the machine of the server it takes of its cores.

#![allow(dead_code, reason = "each example uses a part")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Nothing that is asked for takes as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where requests go, and with which key.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: String,
    pub(crate) key: Option<String>,
}

/// What came of a streamed completion.
pub(crate) struct Streamed {
    pub(crate) first: Duration,
    pub(crate) whole: Duration,
    pub(crate) tokens: u64,
}

impl Client {
    /// Of a server at `http://HOST:PORT`, without a key.
    pub(crate) fn at(url: &str) -> Client {
        let address = url.trim_start_matches("http://").trim_end_matches('/').to_string();
        Client { address, key: None }
    }

    /// The bytes of a request.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> String {
        let address = &self.address;
        let key = self.key.as_ref().map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
        let length = body.len();
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{key}content-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    }

    pub(crate) async fn send(&self, bytes: &[u8]) -> Result<TcpStream> {
        let stream = TcpStream::connect(&self.address).await;
        let mut stream = stream.with_context(|| format!("connecting to {}", self.address))?;
        stream.set_nodelay(true)?;
        stream.write_all(bytes).await?;
        Ok(stream)
    }

    /// The status of a request, and its body as JSON where it is some.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, Value)> {
        let asked = async {
            let mut stream = self.send(self.request(method, path, body).as_bytes()).await?;
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await?;
            let text = String::from_utf8_lossy(&bytes);
            let (head, rest) = text.split_once("\r\n\r\n").context("no whole head")?;
            let status = head.split(' ').nth(1).context("no status")?.parse()?;
            let body = match head.to_lowercase().contains("transfer-encoding: chunked") {
                true => unchunk(rest)?,
                false => rest.to_string(),
            };
            Ok((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
        };
        tokio::time::timeout(PATIENCE, asked).await?
    }

    /// Posts a completion and tells of each event's data as it comes in, but for the last one; the tokens that the server
    /// says it generated, or its status and what it says where it refuses.
    pub(crate) async fn events(
        &self,
        body: &Value,
        mut event: impl FnMut(&str),
    ) -> Result<Result<u64, (u16, String)>> {
        let request = self.request("POST", "/v1/completions", &body.to_string());
        let mut lines = BufReader::new(self.send(request.as_bytes()).await?);
        let (mut line, mut usage) = (String::new(), None);
        lines.read_line(&mut line).await?;
        let status: u16 = line.split(' ').nth(1).context("no status")?.parse()?;
        if status != 200 {
            lines.read_to_string(&mut line).await?;
            return Ok(Err((status, line)));
        }
        loop {
            line.clear();
            if lines.read_line(&mut line).await? == 0 {
                break;
            }
            let Some(data) = line.trim().strip_prefix("data: ").filter(|data| *data != "[DONE]") else {
                continue;
            };
            event(data);
            if data.contains("\"usage\":{") {
                usage = serde_json::from_str::<Value>(data)?["usage"]["completion_tokens"].as_u64();
            }
        }
        Ok(Ok(usage.context("the stream broke off: it ended without its usage")?))
    }

    /// Streams a completion to its end, as [`Client::events`] does, and takes the times.
    pub(crate) async fn timed(&self, body: &Value) -> Result<Result<Streamed, (u16, String)>> {
        let (start, mut first) = (Instant::now(), None);
        let note_first = |_: &str| {
            first.get_or_insert_with(|| start.elapsed());
        };
        let tokens = match self.events(body, note_first).await? {
            Ok(tokens) => tokens,
            Err(refused) => return Ok(Err(refused)),
        };
        Ok(Ok(Streamed { first: first.context("no token came")?, whole: start.elapsed(), tokens }))
    }

    /// Streams a greedy completion to its end, which comes in time: what came, or the status where it is refused.
    pub(crate) async fn stream(&self, prompt: &[u32], tokens: u32) -> Result<Result<Streamed, u16>> {
        let body = completion(prompt, tokens);
        let came = tokio::time::timeout(PATIENCE, self.timed(&body)).await??;
        if let Ok(Streamed { tokens: came, .. }) = &came {
            ensure!(*came == u64::from(tokens), "{came} tokens came, {tokens} were asked for");
        }
        Ok(came.map_err(|(status, _)| status))
    }
}

/// A request for so many tokens behind a prompt, greedy and streamed.
pub(crate) fn completion(prompt: &[u32], tokens: u32) -> Value {
    serde_json::json!({ "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": true, "stream": true,
        "stream_options": { "include_usage": true } })
}

fn unchunk(mut text: &str) -> Result<String> {
    let mut whole = String::new();
    loop {
        let (size, rest) = text.split_once("\r\n").context("a chunk without a size")?;
        let size = usize::from_str_radix(size, 16)?;
        if size == 0 {
            return Ok(whole);
        }
        whole += rest.get(..size).context("a chunk that breaks off")?;
        text = rest.get(size + 2..).context("a chunk without an end")?;
    }
}

/// Token ids that no other prompt begins with: those of a common vocabulary, behind its control tokens.
pub(crate) fn prompt(seed: u64, count: usize) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.u32(1000..30_000)).collect()
}

/// The value in milliseconds of which `percent` are below.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

//! One file over HTTP: resumed, verified, complete or not there.
//!
//! Own code on reqwest, because hf-hub neither resumes nor stays small (it brings 140 crates and a second TLS
//! library).

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, RANGE};

use crate::index::Checksum;
use crate::{ManifestFile, Phase, Progress, ProgressFn, SourceError, StoreSettings, manifest};

/// How often a broken connection is taken up again without progress in between.
const ATTEMPTS: u32 = 4;

/// Least time between two reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// A client with the settings' timeouts and ring as cryptography.
pub(crate) fn client(settings: &StoreSettings) -> Result<Client, SourceError> {
    // Fails when a provider is already there, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("pie/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.read_timeout)
        .build()
        .map_err(|error| unreachable(&settings.hub, &error))
}

/// Sends a GET.
pub(crate) fn get(
    client: &Client,
    url: &str,
    token: Option<&str>,
    from: u64,
) -> Result<Response, SourceError> {
    let mut request = client.get(url);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    if from > 0 {
        request = request.header(RANGE, format!("bytes={from}-"));
    }
    request.send().map_err(|error| unreachable(url, &error))
}

/// Fetches `url` into `folder/file`, by way of `folder/file.part`.
pub(crate) fn fetch(
    client: &Client,
    url: &str,
    token: Option<&str>,
    folder: &Path,
    file: &str,
    expected: Option<&Checksum>,
    progress: &mut ProgressFn<'_>,
) -> Result<ManifestFile, SourceError> {
    let path = folder.join(file);
    let part = folder.join(format!("{file}.part"));
    if let Some(expected) = expected
        && path.exists()
    {
        // A file of a model of several, complete from an earlier call.
        if let Ok(done) = verify(&path, file, Some(expected), progress) {
            return Ok(done);
        }
    }
    let was_resumed = part.exists();
    fetch_part(client, url, token, &part, file, expected.map(|sum| sum.bytes), progress)?;
    let mut done = verify(&part, file, expected, progress);
    if done.is_err() && was_resumed {
        // The begin may have been of an older version of the file: once more from the start.
        fetch_part(client, url, token, &part, file, expected.map(|sum| sum.bytes), progress)?;
        done = verify(&part, file, expected, progress);
    }
    let done = done?;
    std::fs::rename(&part, &path).map_err(|source| SourceError::Io { path, source })?;
    Ok(done)
}

/// Fetches what is missing of `part`, over several connections if need be.
fn fetch_part(
    client: &Client,
    url: &str,
    token: Option<&str>,
    part: &Path,
    file: &str,
    bytes: Option<u64>,
    progress: &mut ProgressFn<'_>,
) -> Result<(), SourceError> {
    let mut attempt = 0;
    loop {
        let before = length(part)?;
        if part.exists() && bytes.is_some_and(|bytes| before == bytes) {
            return Ok(());
        }
        match fetch_once(client, url, token, part, file, bytes, progress) {
            Ok(()) => return Ok(()),
            Err(error @ (SourceError::Status { .. } | SourceError::Io { .. })) => return Err(error),
            Err(error) => {
                attempt = if length(part)? > before { 0 } else { attempt + 1 };
                if attempt >= ATTEMPTS || (before == 0 && length(part)? == 0) {
                    // A source that never gave a byte is not worth waiting for.
                    return Err(error);
                }
                tracing::debug!(file, %error, "download interrupted, resuming");
                std::thread::sleep(Duration::from_millis(200 << attempt));
            }
        }
    }
}

/// One connection.
fn fetch_once(
    client: &Client,
    url: &str,
    token: Option<&str>,
    part: &Path,
    file: &str,
    bytes: Option<u64>,
    progress: &mut ProgressFn<'_>,
) -> Result<(), SourceError> {
    let io = |source| SourceError::Io { path: part.to_owned(), source };
    let mut done = length(part)?;
    let mut response = get(client, url, token, done)?;
    if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && done > 0 {
        std::fs::remove_file(part).map_err(io)?;
        done = 0;
        response = get(client, url, token, 0)?;
    }
    let status = response.status();
    if !status.is_success() {
        return Err(SourceError::Status { url: url.to_owned(), status: status.as_u16() });
    }
    let continues = status == StatusCode::PARTIAL_CONTENT && range_start(&response) == Some(done);
    let mut out = if continues {
        OpenOptions::new().append(true).open(part).map_err(io)?
    } else {
        done = 0;
        File::create(part).map_err(io)?
    };
    let total = bytes.or(response.content_length().map(|left| left + done));
    let mut buffer = vec![0; 256 << 10];
    let mut reported: Option<Instant> = None;
    loop {
        let count = match response.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreachable(url, &error)),
        };
        let is_due = reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
        if is_due || count == 0 {
            reported = Some(Instant::now());
            let item = file.to_owned();
            progress(Progress { phase: Phase::Downloading, item, bytes_done: done, bytes_total: total });
        }
        if count == 0 {
            break;
        }
        done += count as u64;
        if total.is_some_and(|total| done > total) {
            return Err(SourceError::Answer {
                url: url.to_owned(),
                reason: format!("more than the {} bytes announced", total.unwrap_or(0)),
            });
        }
        out.write_all(&buffer[..count]).map_err(io)?;
    }
    out.sync_all().map_err(io)?;
    match total {
        Some(total) if done < total => Err(SourceError::Answer {
            url: url.to_owned(),
            reason: format!("it ended after {done} of {total} bytes"),
        }),
        _ => Ok(()),
    }
}

/// The first byte of a partial answer.
fn range_start(response: &Response) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// Compares with what is expected; a file that differs is deleted.
pub(crate) fn verify(
    path: &Path,
    file: &str,
    expected: Option<&Checksum>,
    progress: &mut ProgressFn<'_>,
) -> Result<ManifestFile, SourceError> {
    let total = length(path)?;
    let mut reported = Instant::now();
    let (bytes, sha256) = manifest::sum(path, &mut |bytes_done| {
        if reported.elapsed() >= REPORT_INTERVAL || bytes_done == total {
            reported = Instant::now();
            let item = file.to_owned();
            progress(Progress { phase: Phase::Verifying, item, bytes_done, bytes_total: Some(total) });
        }
    })?;
    let file = file.to_owned();
    let Some(expected) = expected else {
        return Ok(ManifestFile { file, bytes, sha256 });
    };
    if bytes == expected.bytes && (sha256 == expected.sha256 || expected.sha256.is_empty()) {
        return Ok(ManifestFile { file, bytes, sha256 });
    }
    std::fs::remove_file(path).map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
    if bytes == expected.bytes {
        Err(SourceError::Checksum { file, found: sha256, expected: expected.sha256.clone() })
    } else {
        Err(SourceError::Length { file, found: bytes, expected: expected.bytes })
    }
}

fn length(path: &Path) -> Result<u64, SourceError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(SourceError::Io { path: path.to_owned(), source }),
    }
}

/// An error of the network with all its causes: the outermost alone says nothing.
pub(crate) fn unreachable(url: &str, error: &dyn Error) -> SourceError {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !reason.contains(&cause_text) {
            reason = format!("{reason}: {cause_text}");
        }
        source = cause.source();
    }
    SourceError::Unreachable { url: url.to_owned(), reason }
}

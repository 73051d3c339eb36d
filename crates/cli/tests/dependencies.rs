//! Who may depend on whom: the table of ARCHITECTURE.md ("The crates"), compared with the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A row of the table.
struct Row {
    /// Crates of the workspace that it may use; none for all.
    allowed: Option<BTreeSet<String>>,
    /// Libraries that have their home in this crate. One that two programs of their own need has a home in each.
    libraries: BTreeSet<String>,
}

/// The rows by the name of the crate.
fn table() -> BTreeMap<String, Row> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ARCHITECTURE.md");
    let page = std::fs::read_to_string(page).expect("ARCHITECTURE.md");
    let (_, section) = page.split_once("\n## The crates\n").expect("a section about the crates");
    let lines = section.lines().skip_while(|line| !line.starts_with("| crate |"));
    let mut lines = lines.take_while(|line| line.starts_with('|'));
    let head = lines.next().expect("a table");
    assert_eq!(head, "| crate | may depend on | its own boundary libraries | never sees |");
    lines.skip(1).map(row).collect()
}

fn row(line: &str) -> (String, Row) {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [name, allowed, libraries, _] = cells[..] else { panic!("four columns are expected: {line}") };
    let items = |cell: &str| -> Vec<String> {
        let items = cell.split(", ").filter(|item| *item != "–");
        items.map(|item| item.split(" (").next().unwrap_or(item).to_string()).collect()
    };
    let code = |item: &str| item.trim_matches('`').to_string();
    let allowed = match allowed {
        "all" => None,
        some => Some(items(some).iter().map(|item| code(item)).collect()),
    };
    // What is in backticks belongs to the language, and is no library.
    let libraries = items(libraries).into_iter().filter(|item| !item.contains('`')).collect();
    (code(name), Row { allowed, libraries })
}

/// The packages of the workspace, each with what it depends on but for tests.
fn packages() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .output()
        .expect("cargo metadata runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let name = |value: &serde_json::Value| value["name"].as_str().expect("a name").to_string();
    let used = |package: &serde_json::Value| {
        let used = package["dependencies"].as_array().expect("dependencies").iter();
        used.filter(|used| used["kind"].is_null()).map(name).collect()
    };
    let packages = metadata["packages"].as_array().expect("packages").iter();
    packages.map(|package| (name(package), used(package))).collect()
}

#[test]
fn crates_depend_only_on_those_below_and_libraries_have_one_home() {
    let (table, mut packages) = (table(), packages());
    // Not a part of pie: it starts cargo.
    let tasks = packages.remove("xtask").expect("xtask");
    assert!(tasks.iter().all(|used| !packages.contains_key(used)), "`xtask` depends on a crate of pie");
    let known: Vec<&String> = table.keys().collect();
    assert_eq!(known, packages.keys().collect::<Vec<_>>(), "the table's crates are not the workspace's");
    for (name, used) in &packages {
        let Row { allowed, libraries } = &table[name];
        for other in allowed.iter().flatten() {
            assert!(table.contains_key(other), "`{name}` may depend on `{other}`, which is no crate");
        }
        for library in libraries {
            assert!(used.contains(library), "`{name}` is the home of `{library}` and does not use it");
        }
        for used in used {
            let is_allowed = allowed.as_ref().is_none_or(|allowed| allowed.contains(used));
            assert!(is_allowed || !table.contains_key(used), "`{name}` must not depend on `{used}`");
            let homes = table.iter().filter(|(_, row)| row.libraries.contains(used));
            let homes: Vec<&String> = homes.map(|(home, _)| home).collect();
            let is_home = homes.is_empty() || homes.contains(&name);
            assert!(is_home, "`{used}` has its home in {homes:?}, not in `{name}`");
        }
    }
}

/// What the sources in a folder must not name, so that the layer does not know what is not its business.
const FORBIDDEN: [(&str, &[&str]); 6] = [
    ("crates/model/src", &["std::env::var", "SystemTime::now", "Instant::now"]),
    ("crates/mcp/src", &["std::env", "wasmtime"]),
    ("crates/scheduler/src/state", &["Instant", "SystemTime", "std::thread", "Mutex", "Atomic"]),
    ("crates/scheduler/src/policy", &["Instant", "SystemTime", "std::thread", "Mutex", "Atomic"]),
    ("crates/runtime/src", &["backend_cpu", "CpuBackend"]),
    ("crates/server/src", &["scheduler::", "backend::"]),
];

/// The modules of `runtime` that make a store and call into it; all others are used by the host and do not use it.
const MAY_USE_HOST: [&str; 5] = ["lib.rs", "process.rs", "program.rs", "catalog.rs", "service.rs"];

#[test]
fn sources_do_not_use_what_their_layer_must_not_know() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (folder, forbidden) in FORBIDDEN {
        for (path, source) in sources(&repository.join(folder)) {
            for word in forbidden {
                assert!(!source.contains(word), "{} uses `{word}`", path.display());
            }
        }
    }
    for (path, source) in sources(&repository.join("crates/runtime/src")) {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let in_host = path.components().any(|part| part.as_os_str() == "host");
        let may = in_host || MAY_USE_HOST.contains(&name.as_str());
        assert!(may || !source.contains("crate::host"), "{} uses the host", path.display());
    }
}

/// The Rust files below a folder.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).expect("a source in UTF-8");
            files.push((path, source));
        }
    }
    assert!(!files.is_empty(), "{} has no sources", folder.display());
    files
}

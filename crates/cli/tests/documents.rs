//! The pages name files, tests and crates that exist, and the README's program is one.

mod common;

use std::path::{Path, PathBuf};

/// Where a path of the repository begins.
const FOLDERS: [&str; 8] =
    ["crates/", "wit/", "sdk/", "inferlets/", "docs/", "tests/", "testdata/", "xtask/"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The pages by name.
fn pages() -> Vec<(String, String)> {
    let docs = std::fs::read_dir(repository().join("docs")).expect("docs");
    let docs = docs.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name in UTF-8"));
    let docs = docs.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "STYLE.md"].map(str::to_string);
    let read = |name: String| {
        let text = std::fs::read_to_string(repository().join(&name)).expect("a page");
        (name, text)
    };
    top.into_iter().chain(docs).map(read).collect()
}

/// What is in backticks on a page, but for its blocks of code.
fn code_spans(page: &str) -> Vec<&str> {
    let outside = page.split("```").step_by(2);
    outside.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

/// A path without its last parts, from the first that is a placeholder, such as `NAME.rs` or `*.md`.
fn without_placeholders(path: &str) -> PathBuf {
    let is_placeholder = |part: &str| {
        let name = part.split('.').next().unwrap_or(part);
        let is_name = name != "README" && !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase());
        is_name || part.contains(['*', '…', '{', '<'])
    };
    path.split('/').take_while(|part| !is_placeholder(part)).collect()
}

/// Whether a text is like a path of the repository, with or without a test behind `::`.
fn is_path(span: &str) -> bool {
    FOLDERS.iter().any(|folder| span.starts_with(folder)) && !span.contains(char::is_whitespace)
}

#[test]
fn every_path_on_a_page_exists() {
    let mut missing = Vec::new();
    let mut seen = 0;
    for (name, page) in pages() {
        for span in code_spans(&page).into_iter().filter(|span| is_path(span)) {
            let path = span.split("::").next().unwrap_or(span);
            seen += 1;
            if !repository().join(without_placeholders(path)).exists() {
                missing.push(format!("{name}: `{span}`"));
            }
        }
    }
    assert!(missing.is_empty(), "not in the repository:\n{}", missing.join("\n"));
    assert!(seen > 20, "only {seen} paths were found: are they still in backticks?");
}

#[test]
fn every_test_on_a_page_exists() {
    let mut missing = Vec::new();
    for (name, page) in pages() {
        for span in code_spans(&page) {
            for (ending, keyword) in [("rs", "fn"), ("py", "def")] {
                let Some((path, test)) = span.split_once(&format!(".{ending}::")) else { continue };
                let source = std::fs::read_to_string(repository().join(format!("{path}.{ending}")));
                if !source.is_ok_and(|source| source.contains(&format!("{keyword} {test}("))) {
                    missing.push(format!("{name}: `{span}`"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
}

#[test]
fn every_invariant_names_its_test() {
    let page = std::fs::read_to_string(repository().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let invariants: Vec<&str> =
        page.split("\n\n").filter(|part| part.starts_with("**Invariant:**")).collect();
    for invariant in &invariants {
        let held = invariant.contains(".rs::")
            || invariant.contains(".py::")
            || invariant.contains("by the types")
            || invariant.contains("(#batch-invariance)");
        assert!(held, "an invariant without a test:\n{invariant}");
    }
    assert!(invariants.len() > 20, "only {} invariants were found", invariants.len());
}

#[test]
fn the_readme_names_every_crate() {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("README.md");
    for entry in std::fs::read_dir(repository().join("crates")).expect("crates") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name in UTF-8");
        let row = format!("\n| `crates/{name}/` |");
        assert!(readme.contains(&row), "README.md has no row for `crates/{name}/`");
    }
}

#[test]
fn placeholders_end_a_path() {
    let cut = |path| without_placeholders(path).to_string_lossy().into_owned();
    assert_eq!(cut("wit/X.wit"), "wit");
    assert_eq!(cut("crates/scheduler/src/policy/NAME.rs"), "crates/scheduler/src/policy");
    assert_eq!(cut("inferlets/NAME/src"), "inferlets");
    assert_eq!(cut("inferlets/README.md"), "inferlets/README.md");
    assert_eq!(cut("docs/api.md"), "docs/api.md");
    assert!(is_path("crates/cli/tests/documents.rs::placeholders_end_a_path"));
    assert!(!is_path("inferlets/a b") && !is_path("target/release"));
}

//! Builds the programs of `inferlets/`, and bundles them and the source of the SDK with the binary.
//!
//! They are built where `cargo xtask guests` builds them, so that is done once.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";

fn main() {
    let root = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).expect("the checkout");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let written = |name: &str, table: String| {
        fs::write(out.join(name), table).expect("the folder is cargo's own");
    };
    written("programs.rs", programs(&root));
    written("sdk.rs", sdk(&root));
}

/// A table of names and WebAssembly.
fn programs(root: &Path) -> String {
    let inferlets = root.join("inferlets");
    let mut programs = BTreeSet::new();
    for entry in fs::read_dir(&inferlets).expect("the folder of programs").flatten() {
        if entry.path().join("Cargo.toml").exists() {
            println!("cargo::rerun-if-changed={}", entry.path().display());
            programs.insert(entry.file_name().into_string().expect("names of programs are text"));
        }
    }
    for file in ["Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", inferlets.join(file).display());
    }

    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo runs this"));
    cargo.args(["build", "--release", "--locked", "--target", TARGET, "--manifest-path"]);
    cargo.arg(inferlets.join("Cargo.toml")).arg("--target-dir").arg(inferlets.join("target"));
    // What is meant for the host, or for the build that is under way.
    for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    let built = cargo.status().expect("cargo starts");
    assert!(
        built.success(),
        "the programs of `inferlets/` do not build; `rustup target add {TARGET}` adds their target"
    );

    let mut table = "&[".to_string();
    for program in programs {
        let file = inferlets.join("target").join(TARGET).join("release").join(program.replace('-', "_"));
        let file = fs::canonicalize(file.with_extension("wasm")).expect("cargo has built it");
        write!(table, "({program:?}, include_bytes!({file:?}).as_slice()),").expect("into a text");
    }
    table + "]"
}

/// A table of paths below `sdk/` and the text of each file.
fn sdk(root: &Path) -> String {
    let sdk = root.join("sdk");
    let mut files = Vec::new();
    for package in ["rust", "openai"] {
        walk(&sdk.join(package), &mut files);
    }
    files.sort();
    let mut table = "&[".to_string();
    for file in files {
        let path = file.strip_prefix(&sdk).expect("found below it");
        write!(table, "({path:?}, include_str!({file:?})),").expect("into a text");
    }
    table + "]"
}

/// Files of a package, but for what was built.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the SDK").flatten() {
        let path = entry.path();
        match (path.is_dir(), entry.file_name().to_str()) {
            (true, Some("target")) => {}
            (true, _) => walk(&path, files),
            (false, _) => {
                println!("cargo::rerun-if-changed={}", path.display());
                files.push(path);
            }
        }
    }
}

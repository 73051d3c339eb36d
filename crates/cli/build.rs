//! Builds the programs that answer the API's routes, to bundle them with the binary.
//!
//! They are built where `cargo xtask guests` builds them, so that is done once.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

const ROUTES: &[(&str, &str)] = include!("src/api/routes.rs");
const TARGET: &str = "wasm32-wasip2";

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let inferlets = root.join("inferlets");
    let programs: BTreeSet<&str> = ROUTES.iter().map(|(_, program)| *program).collect();

    let watched = ["wit", "sdk/rust/src", "sdk/rust/macros/src", "sdk/openai/src", "inferlets/Cargo.lock"];
    for path in watched {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    for program in &programs {
        println!("cargo::rerun-if-changed={}", inferlets.join(program).display());
    }
    println!("cargo::rerun-if-changed=src/api/routes.rs");

    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo runs this"));
    cargo.args(["build", "--release", "--locked", "--target", TARGET, "--manifest-path"]);
    cargo.arg(inferlets.join("Cargo.toml")).arg("--target-dir").arg(inferlets.join("target"));
    for program in &programs {
        cargo.args(["-p", program]);
    }
    // What is meant for the host, or for the build that is under way.
    for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    let built = cargo.status().expect("cargo starts");
    assert!(
        built.success(),
        "the programs of the API do not build; `rustup target add {TARGET}` adds their target"
    );

    let mut table = "&[".to_string();
    for program in programs {
        let file = inferlets.join("target").join(TARGET).join("release").join(program.replace('-', "_"));
        let file = fs::canonicalize(file.with_extension("wasm")).expect("cargo has built it");
        write!(table, "({program:?}, include_bytes!({file:?}).as_slice()),").expect("into a text");
    }
    let out = env::var_os("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("programs.rs"), table + "]").expect("the folder is cargo's own");
}

//! Who may depend on whom: the table of ARCHITECTURE.md, compared with the manifests.

use std::process::Command;

/// Each crate, the crates of the workspace it may use, and the boundary libraries that have their one home there.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    ("kernels", &[], &[]),
    ("model", &["kernels"], &["memmap2", "tokenizers", "minijinja", "safetensors"]),
    ("model-store", &["kernels", "model"], &["reqwest", "rustls", "sha2", "zip"]),
    ("backend", &[], &[]),
    ("backend-cpu", &["backend", "kernels", "model"], &["core_affinity"]),
    ("scheduler", &["backend"], &[]),
    (
        "runtime",
        &["backend", "model", "scheduler"],
        &["wasmtime", "wasmtime-wasi", "wasmtime-wasi-http", "llguidance", "redb"],
    ),
    ("server", &["runtime"], &["axum", "hyper", "hyper-util"]),
    (
        "cli",
        &["backend", "backend-cpu", "kernels", "model", "model-store", "runtime", "scheduler", "server"],
        &["clap", "reedline", "toml", "etcetera", "tracing-subscriber"],
    ),
    ("xtask", &[], &[]),
];

#[test]
fn crates_depend_only_on_those_below_and_libraries_have_one_home() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .output()
        .expect("cargo metadata runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert_eq!(packages.len(), TABLE.len(), "a crate is missing in this table, or gone");
    let crates: Vec<&str> = TABLE.iter().map(|(name, ..)| *name).collect();
    for package in packages {
        let name = package["name"].as_str().expect("name");
        let row = TABLE.iter().find(|(known, ..)| *known == name);
        let (_, allowed, own) = row.unwrap_or_else(|| panic!("`{name}` is missing in this table"));
        let used = package["dependencies"].as_array().expect("dependencies").iter();
        let used = used.filter(|d| d["kind"].is_null()).filter_map(|d| d["name"].as_str());
        for used in used {
            if crates.contains(&used) {
                assert!(allowed.contains(&used), "`{name}` must not depend on `{used}`");
            }
            let home = TABLE.iter().find(|(_, _, own)| own.contains(&used));
            assert!(
                home.is_none() || own.contains(&used),
                "`{used}` has its home in `{}`, not in `{name}`",
                home.unwrap().0
            );
        }
    }
}

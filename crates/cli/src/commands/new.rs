//! `pie new`: the folder of a program that builds, runs and has a test.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::bundled::SDK;
use crate::develop::sdk;
use crate::home::Home;
use crate::output;

/// Flags of `pie new`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie new my-program
  cd my-program && pie test && pie run . -- --question \"What is a token?\"")]
pub(crate) struct NewFlags {
    /// Name of the program, and of its folder; or a path whose last part is the name.
    path: PathBuf,
}

/// Where a file of the template goes, and what it is.
const TEMPLATE: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../../templates/program/Cargo.toml")),
    ("src/lib.rs", include_str!("../../templates/program/src/lib.rs")),
    (".gitignore", include_str!("../../templates/program/gitignore")),
];

/// The longest name, in bytes.
const NAME_BYTES: usize = 64;

pub(crate) fn new(flags: &NewFlags) -> Result<()> {
    let path = &flags.path;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    check_name(name)?;
    ensure!(!path.exists(), "{} is there already: `pie new` makes a new folder", path.display());
    let sdk = sdk::unpack(&Home::find()?)?;
    write(path, name, &sdk).with_context(|| format!("cannot make {}", path.display()))?;
    output::line(format_args!(
        "made {path}: src/lib.rs is the program\n\n  cd {path}\n  pie test\n  pie run .\n  pie run --watch .     # again after each edit",
        path = path.display()
    ))
}

/// The names that cargo and the folder of programs take.
fn check_name(name: &str) -> Result<()> {
    let taken = ["inferlet", "test", "core", "std", "alloc", "proc_macro"];
    let is_word =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(is_word) {
        bail!("the name `{name}`: expected 1 to {NAME_BYTES} of a-z, 0-9, - and _");
    }
    ensure!(name.as_bytes()[0].is_ascii_lowercase(), "the name `{name}`: expected a letter at its beginning");
    ensure!(!taken.contains(&name), "the name `{name}` is that of a crate that programs depend on");
    Ok(())
}

fn write(path: &Path, name: &str, sdk: &Path) -> Result<()> {
    let sdk = sdk.to_str().context("the path of PIE_HOME is not text, which Cargo.toml must be")?;
    // The path stands between quotes in TOML.
    let sdk = sdk.replace('\\', "\\\\").replace('"', "\\\"");
    for (file, text) in TEMPLATE {
        let file = path.join(file);
        fs::create_dir_all(file.parent().expect("below the folder"))?;
        fs::write(file, text.replace("{name}", name).replace("{sdk}", &sdk))?;
    }
    fs::write(path.join("Cargo.lock"), lock(name)?)?;
    Ok(())
}

/// The versions that the SDK is tested with, for the program too: what is in cargo's cache is enough then.
fn lock(name: &str) -> Result<String> {
    const BEGIN: &str = "[[package]]\n";
    let (_, of_sdk) =
        SDK.iter().find(|(path, _)| *path == "rust/Cargo.lock").context("the SDK has no Cargo.lock")?;
    let mut packages = of_sdk.split(BEGIN);
    let head = packages.next().unwrap_or_default();
    let own = format!("name = \"{name}\"\nversion = \"0.1.0\"\ndependencies = [\n \"inferlet\",\n]\n");
    let mut packages: Vec<&str> = packages.map(str::trim_end).chain([own.trim_end()]).collect();
    // By name, as cargo writes them.
    packages.sort_by_key(|package| package.lines().next());
    let packages: Vec<String> = packages.iter().map(|package| format!("{BEGIN}{package}\n")).collect();
    Ok(format!("{head}{}", packages.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_cargo() {
        for good in ["a", "my-program", "tree_2"] {
            check_name(good).unwrap();
        }
        for bad in ["", ".", "My", "2nd", "-x", "a b", "a/b", "é", "inferlet", "test", &"a".repeat(65)] {
            assert!(check_name(bad).is_err(), "`{bad}`");
        }
    }

    #[test]
    fn nothing_of_the_template_is_left_open() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("p"), "p", Path::new("/a \"b\"/sdk")).unwrap();
        let manifest = fs::read_to_string(folder.path().join("p/Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some("p"));
        assert_eq!(manifest["dependencies"]["inferlet"]["path"].as_str(), Some("/a \"b\"/sdk/rust"));
        let lock = fs::read_to_string(folder.path().join("p/Cargo.lock")).unwrap();
        let lock: toml::Table = lock.parse().unwrap();
        let names: Vec<_> =
            lock["package"].as_array().unwrap().iter().map(|package| package["name"].as_str()).collect();
        assert!(
            names.is_sorted() && names.contains(&Some("p")) && names.contains(&Some("inferlet")),
            "{names:?}"
        );
    }
}

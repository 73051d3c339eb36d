//! `cargo xtask dist`: what a user without Rust installs. One tree of files, and the same tree as a tarball, a Debian
//! package and a Python wheel; and their checksums.

mod archive;
mod check;
mod deb;
mod wheel;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::{root, run};

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A file of the packages.
pub(crate) struct Packed {
    /// Below the prefix (`usr` of a system).
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_program: bool,
}

/// What the binary needs of a machine.
pub(crate) struct Needs {
    /// As Rust names it: `x86_64`.
    pub(crate) processor: &'static str,
    /// The minor version of glibc 2 at least.
    pub(crate) glibc: u32,
}

/// Writes packages of the built pie to `target/dist`, and installs and runs each in an empty folder.
///
/// # Errors
/// When pie was not built, something that a package needs cannot be had, or pie does not answer where it was installed.
pub(crate) fn dist() -> Result<()> {
    let pie = root().join("target/release/pie");
    ensure!(pie.is_file(), "{} is not there: `cargo xtask dist` without `--built` builds it", pie.display());
    let folder = root().join("target/dist");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let binary = stripped(&folder)?;
    let needs = Needs { processor: std::env::consts::ARCH, glibc: glibc(&binary)? };
    let files = files(binary)?;

    let tarball = archive::write(&folder, &needs, &files)?;
    let deb = deb::write(&folder, &needs, &files)?;
    let wheel = wheel::write(&folder, &needs, &files)?;
    let mut sums = String::new();
    for package in [&tarball, &deb, &wheel] {
        let (bytes, name) = (fs::read(package)?, file_name(package));
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        sums += &format!("{hash}  {name}\n");
        println!("{:>6.1} MB  target/dist/{name}", bytes.len() as f64 / 1e6);
    }
    fs::write(folder.join("SHA256SUMS"), sums)?;
    println!(
        "           target/dist/SHA256SUMS\nThey need glibc 2.{} or newer, on {}.",
        needs.glibc, needs.processor
    );
    check::tarball(&tarball)?;
    check::deb(&deb)?;
    check::wheel(&wheel)
}

/// The binary without symbols.
fn stripped(folder: &Path) -> Result<Vec<u8>> {
    let file = folder.join("pie");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&file).arg(root().join("target/release/pie"));
    run(&mut strip).context("`strip` is a part of binutils")?;
    let bytes = fs::read(&file)?;
    fs::remove_file(&file)?;
    Ok(bytes)
}

/// The newest glibc that a symbol of the binary asks for.
fn glibc(binary: &[u8]) -> Result<u32> {
    const NAME: &[u8] = b"GLIBC_2.";
    let named = binary.windows(NAME.len() + 3).filter(|window| window.starts_with(NAME)).map(|window| {
        let digits = window[NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
    });
    named.max().context("the binary names no version of glibc: packages are made on Linux with glibc")
}

/// All files, from the binary and the documents of the repository.
fn files(binary: Vec<u8>) -> Result<Vec<Packed>> {
    let text = |path: &str, from: &str| -> Result<Packed> {
        let bytes = fs::read(root().join(from)).with_context(|| format!("cannot read {from}"))?;
        Ok(Packed { path: path.to_string(), bytes, is_program: false })
    };
    let mut files = vec![
        text("share/doc/pie/README.md", "README.md")?,
        text("share/doc/pie/copyright", "LICENSE")?,
        text("share/doc/pie/example_config.toml", "example_config.toml")?,
    ];
    let pie = root().join("target/release/pie");
    for (shell, path) in [
        ("bash", "share/bash-completion/completions/pie"),
        ("zsh", "share/zsh/vendor-completions/_pie"),
        ("fish", "share/fish/vendor_completions.d/pie.fish"),
    ] {
        let said = Command::new(&pie).args(["completions", shell]).output()?;
        ensure!(said.status.success() && !said.stdout.is_empty(), "`pie completions {shell}` failed");
        files.push(Packed { path: path.to_string(), bytes: said.stdout, is_program: false });
    }
    let man = root().join("target/dist/man");
    run(Command::new(&pie).arg("man").arg(&man))?;
    let mut pages: Vec<_> = fs::read_dir(&man)?.flatten().map(|entry| entry.path()).collect();
    pages.sort();
    for page in pages {
        let path = format!("share/man/man1/{}", file_name(&page));
        files.push(Packed { path, bytes: fs::read(&page)?, is_program: false });
    }
    fs::remove_dir_all(&man)?;
    files.push(Packed { path: "bin/pie".to_string(), bytes: binary, is_program: true });
    Ok(files)
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A file's mode.
pub(crate) fn mode(is_program: bool) -> u32 {
    if is_program { 0o755 } else { 0o644 }
}

//! Installs a package in an empty folder and lets a program of it answer, with nothing of this checkout in sight.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;

use super::VERSION;
use crate::{MODEL, pie, run};

/// Unpacked, it runs from its folder.
pub(super) fn tarball(package: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    tar::Archive::new(GzDecoder::new(File::open(package)?)).unpack(folder.path())?;
    let unpacked = fs::read_dir(folder.path())?.next().context("the tarball is empty")??;
    answers(&unpacked.path().join("bin/pie"))
}

/// Its files are as dpkg reads them. Nothing is installed into this system.
pub(super) fn deb(package: &Path) -> Result<()> {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        println!("not checked: {}, since there is no dpkg-deb here", package.display());
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let about = Command::new("dpkg-deb")
        .args(["--field".as_ref(), package.as_os_str(), "Version".as_ref()])
        .output()?;
    ensure!(about.stdout.trim_ascii() == VERSION.as_bytes(), "dpkg-deb does not read the package's version");
    run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(folder.path()))?;
    for file in ["usr/lib/systemd/system/pie.service", "etc/pie/config.toml", "usr/share/man/man1/pie.1"] {
        ensure!(folder.path().join(file).is_file(), "the package has no {file}");
    }
    answers(&folder.path().join("usr/bin/pie"))
}

/// pip installs it, and `pie` is beside the interpreter.
pub(super) fn wheel(package: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    run(Command::new("python3").args(["-m", "venv"]).arg(folder.path()))?;
    let bin = folder.path().join("bin");
    run(Command::new(bin.join("pip")).args(["install", "--quiet", "--no-index"]).arg(package))?;
    answers(&bin.join("pie"))
}

/// A bundled program answers, with a home that has only the default model.
fn answers(binary: &Path) -> Result<()> {
    let home = tempfile::tempdir()?;
    let model = pie().args(["model", "info", MODEL, "--path"]).output()?;
    ensure!(model.status.success(), "the default model is not there: `pie model add {MODEL}` fetches it");
    let model = String::from_utf8(model.stdout)?;
    let mut command = Command::new(binary);
    command.args(["run", "--model", model.trim(), "text-completion", "--", "--max-tokens", "8"]);
    command.args(["--prompt", "What is the capital of France?"]).current_dir(home.path());
    let said =
        command.env_clear().env("PIE_HOME", home.path()).output().context("the binary does not start")?;
    let text = String::from_utf8_lossy(&said.stdout);
    ensure!(
        said.status.success() && text.contains("Paris"),
        "{} answered {text}{}",
        binary.display(),
        String::from_utf8_lossy(&said.stderr)
    );
    println!("installed in an empty folder, it answers: {}", text.lines().next().unwrap_or_default());
    Ok(())
}

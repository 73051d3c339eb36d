//! Cargo, as commands that build and test programs run it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::home::Home;

use super::sdk;

/// The target of programs.
const TARGET: &str = "wasm32-wasip2";

/// The package of a program, with the tools that it needs.
pub(crate) struct Package {
    manifest: PathBuf,
}

/// A line of cargo's messages, as far as they matter here.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

impl Package {
    /// The package in a folder. Unpacks the SDK, on which it may depend.
    ///
    /// # Errors
    /// When the folder has no `Cargo.toml`, or Rust is not installed.
    pub(crate) fn open(folder: &Path) -> Result<Package> {
        let manifest = folder.join("Cargo.toml");
        ensure!(
            manifest.is_file(),
            "{} has no Cargo.toml: expected the folder of a program, as `pie new NAME` makes it",
            folder.display()
        );
        let manifest = std::fs::canonicalize(&manifest)?;
        let found =
            Command::new("cargo").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        ensure!(
            found.is_ok_and(|status| status.success()),
            "`cargo` does not run: programs are built with Rust, which https://rustup.rs installs"
        );
        sdk::unpack(&Home::find()?)?;
        Ok(Package { manifest })
    }

    fn folder(&self) -> &Path {
        self.manifest.parent().expect("a file is in a folder")
    }

    /// Builds the program; what the compiler says goes to stderr as it comes. The component's file. Other tasks of this
    /// thread go on elsewhere meanwhile.
    ///
    /// # Errors
    /// When it does not build, or is no program.
    pub(crate) fn build(&self) -> Result<PathBuf> {
        tokio::task::block_in_place(|| self.run_build())
    }

    fn run_build(&self) -> Result<PathBuf> {
        self.add_target()?;
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--target", TARGET]);
        cargo.args(["--message-format", "json-render-diagnostics", "--manifest-path"]).arg(&self.manifest);
        let mut building = cargo.stdout(Stdio::piped()).spawn().context("cargo does not start")?;
        let mut component = None;
        for line in BufReader::new(building.stdout.take().expect("it is piped")).lines() {
            // What is no message of cargo's, a build script may have written.
            let Ok(message) = serde_json::from_str::<Message>(&line?) else { continue };
            if message.reason == "compiler-artifact" && message.manifest_path == self.manifest {
                let wasm = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "wasm");
                component = message.filenames.into_iter().find(wasm).or(component);
            }
        }
        let ended = building.wait()?;
        ensure!(ended.success(), "the program does not build; what is wrong stands above");
        component.with_context(|| {
            format!(
                "{} builds no component: a program is a library with `crate-type = [\"cdylib\"]`",
                self.manifest.display()
            )
        })
    }

    /// Runs the program's own tests, on this machine and over the scripted host of the SDK.
    ///
    /// # Errors
    /// When one fails.
    pub(crate) fn test(&self, arguments: &[String]) -> Result<()> {
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--manifest-path"]).arg(&self.manifest).arg("--").args(arguments);
        let ended = cargo.status().context("cargo does not start")?;
        ensure!(ended.success(), "the program's tests fail; what is wrong stands above");
        Ok(())
    }

    /// Adds the target of programs where it is missing.
    fn add_target(&self) -> Result<()> {
        let mut rustc = Command::new("rustc");
        rustc.args(["--print", "target-libdir", "--target", TARGET]).current_dir(self.folder());
        let libraries = rustc.output().context("cannot run rustc")?.stdout;
        if Path::new(String::from_utf8_lossy(&libraries).trim()).exists() {
            return Ok(());
        }
        let mut rustup = Command::new("rustup");
        let added = rustup.args(["target", "add", TARGET]).current_dir(self.folder()).status();
        if !added.is_ok_and(|status| status.success()) {
            bail!("the target {TARGET} is not installed, and `rustup target add {TARGET}` failed");
        }
        Ok(())
    }

    /// When any of its sources was changed last, and how many there are: what is different after an edit.
    pub(crate) fn version(&self) -> (usize, Option<std::time::SystemTime>) {
        let mut files = Vec::new();
        sources(self.folder(), &mut files);
        let changed = files.iter().filter_map(|file| std::fs::metadata(file).ok()?.modified().ok());
        (files.len(), changed.max())
    }
}

/// Files of a package, but for hidden ones and what was built.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name == "target" || name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match entry.path() {
            path if path.is_dir() => sources(&path, files),
            path => files.push(path),
        }
    }
}

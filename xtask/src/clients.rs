//! `cargo xtask test --clients`: the tests of `tests/clients`, in a virtual environment with the packages they name.
//!
//! The environment is made once, and again when `requirements.txt` changes: a copy of that file in it says what it has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{prepare_tests, root, run};

const TESTS: &str = "tests/clients";

/// Runs the tests with these arguments of pytest.
///
/// # Errors
/// When Python or the packages cannot be had, and when a test fails.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    // What fails sooner comes first.
    let environment = environment()?;
    let models = prepare_tests()?;
    let mut command = Command::new(environment.join("bin/python"));
    command.args(["-m", "pytest", "-p", "no:cacheprovider", TESTS]).args(arguments).current_dir(root());
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("PIE_BIN", root().join("target/release/pie")).env("PIE_TEST_MODELS", models);
    run(&mut command)
}

/// The virtual environment, with exactly the packages of `requirements.txt` and what they need.
fn environment() -> Result<PathBuf> {
    let folder = root().join("target/clients-venv");
    let requirements = root().join(TESTS).join("requirements.txt");
    let wanted = fs::read_to_string(&requirements).context("cannot read requirements.txt")?;
    let stamp = folder.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    let created = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder).status();
    let created = created.context("the tests of clients need `python3`, which cannot be run")?;
    ensure!(
        created.success(),
        "`python3 -m venv` failed: the tests of clients need Python 3.11 with venv and pip"
    );
    install(&folder, &requirements)?;
    fs::write(&stamp, wanted).context("cannot write into the environment")?;
    Ok(folder)
}

fn install(folder: &Path, requirements: &Path) -> Result<()> {
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements);
    run(&mut pip)
        .context("the packages of tests/clients cannot be installed: is the package index (PyPI) reachable?")
}

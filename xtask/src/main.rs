//! Tasks of the project: `cargo xtask demo | test | guests | bench | dist | docs`.

#![expect(clippy::print_stdout, reason = "this program talks to a terminal")]

mod clients;
mod dist;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

const HELP: &str = "\
cargo xtask TASK

  demo      build everything, fetch the default model, and let an inferlet answer a question
  test      every test: the crates', the guests' and those on the real model
  test --clients
            a server, and the Python clients that applications use (tests/clients); arguments go to pytest
  test --aarch64
            the kernels, built for aarch64 and run under qemu, on a CPU with `smmla` and `sdot`, one with `sdot` and one
            without; arguments go to `cargo test`. It needs qemu-user, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross
  guests    build the example inferlets and the test programs for wasm32-wasip2
  bench     build and run `pie bench` on the default model; arguments are passed on
  dist      what a user without Rust installs, in target/dist: a tarball, a Debian package and a Python wheel; each is
            unpacked in an empty folder, and answers there
  dist --built
            the same of the binary that is there, as `test` leaves one
  docs      write the tables of docs/config.md and docs/operating.md, and example_config.toml, from the code

Nothing needs installing by hand beyond Rust, a C compiler, and Python 3 with pip and venv.";

const TARGET: &str = "wasm32-wasip2";
const MODEL: &str = "smollm2-135m-instruct";

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match task.as_str() {
        "demo" => demo(),
        "test" => match rest.split_first() {
            Some((first, rest)) if first == "--clients" => clients::test(rest),
            Some((first, rest)) if first == "--aarch64" => test_aarch64(rest),
            _ => test(&rest),
        },
        "guests" => guests(),
        "bench" => bench(&rest),
        "docs" => docs(),
        "dist" => match rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => {
                println!("building pie (about ten minutes the first time)");
                build()?;
                dist::dist()
            }
            ["--built"] => dist::dist(),
            _ => bail!("`dist` takes `--built` or nothing\n{HELP}"),
        },
        "" | "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        unknown => bail!("unknown task `{unknown}`\n{HELP}"),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace").to_path_buf()
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

fn cargo(folder: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root().join(folder));
    command
}

/// Lets rustc compile for a target, where it cannot yet.
fn add_target(target: &str) -> Result<()> {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", target]).current_dir(root());
    let folder = rustc.output().context("cannot run rustc")?.stdout;
    if !Path::new(String::from_utf8_lossy(&folder).trim()).exists() {
        run(Command::new("rustup").args(["target", "add", target]).current_dir(root()))?;
    }
    Ok(())
}

/// Builds the guests.
fn guests() -> Result<()> {
    add_target(TARGET)?;
    for folder in ["inferlets", "tests/programs"] {
        run(cargo(folder).args(["build", "--release", "--target", TARGET, "--locked"]))?;
    }
    Ok(())
}

fn build() -> Result<()> {
    // The whole workspace: another selection may choose other features, and compile wasmtime again.
    run(cargo("").args(["build", "--release", "--locked", "--workspace"]))
}

/// The built binary, with the example inferlets known by name. Files go to PIE_HOME as usual.
fn pie() -> Command {
    let mut command = Command::new(root().join("target/release/pie"));
    command.env("PIE_PROGRAMS", root().join("inferlets/target").join(TARGET).join("release"));
    command
}

fn demo() -> Result<()> {
    println!("building pie (about ten minutes the first time)");
    build()?;
    println!("building the inferlets");
    guests()?;
    run(pie().args(["model", "add", MODEL]))?;
    let question = ["--prompt", "What is the capital of France?"];
    println!("\npie run text-completion -- --prompt \"{}\"\n", question[1]);
    run(pie().args(["run", "text-completion", "--"]).args(question))
}

fn bench(arguments: &[String]) -> Result<()> {
    build()?;
    run(pie().args(["model", "add", MODEL]))?;
    run(pie().args(["bench", MODEL]).args(arguments))
}

/// Lets the tests that compare these documents with the code write them.
fn docs() -> Result<()> {
    // Selected as in `build`, for the same reason.
    let tests = ["test", "--release", "--locked", "--workspace", "--bin", "pie", "config::documents"];
    run(cargo("").args(tests).env("PIE_UPDATE_DOCUMENTS", "1"))
}

/// Runs every test in the release profile, which the demo builds as well.
fn test(arguments: &[String]) -> Result<()> {
    let models = prepare_tests()?;
    // The SDK is a workspace of its own; its tests run on the host.
    run(cargo("sdk/rust").args(["test", "--locked", "--workspace"]))?;
    run(cargo("sdk/openai").args(["test", "--locked"]))?;
    run(cargo("inferlets").args(["test", "--locked", "--package", "text-completion"]))?;
    let mut command = cargo("");
    command.args(["test", "--release", "--locked", "--workspace"]).args(arguments);
    run(command.env("PIE_TEST_MODELS", models))
}

/// Runs the tests of `kernels` as an ARM processor would. They say nothing of its speed.
fn test_aarch64(arguments: &[String]) -> Result<()> {
    const TARGET: &str = "aarch64-unknown-linux-gnu";
    add_target(TARGET)?;
    for cpu in ["max", "cortex-a76", "cortex-a53"] {
        println!("as a {cpu}");
        let mut command = cargo("");
        command.args(["test", "--release", "--locked", "--package", "kernels", "--target", TARGET]);
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc").env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
            format!("qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu {cpu}"),
        );
        run(command.args(arguments))?;
    }
    Ok(())
}

/// Builds the guests and the binary, and gives the folder with the model that tests use.
fn prepare_tests() -> Result<PathBuf> {
    guests()?;
    // With the tests beside the binary: what only they depend on adds features to some libraries, and a binary built
    // without them would mean to compile these, and all that stands on them, twice.
    let targets = ["--bins", "--tests", "--examples"];
    run(cargo("").args(["build", "--release", "--locked", "--workspace"]).args(targets))?;
    run(pie().args(["model", "add", MODEL]))?;
    let found = pie().args(["model", "info", MODEL, "--path"]).output().context("cannot run pie")?;
    ensure!(found.status.success(), "`pie model info` failed");
    let model = PathBuf::from(String::from_utf8(found.stdout)?.trim());
    models_for_tests(&model)
}

/// A folder with the default model under the name that tests look for.
fn models_for_tests(model: &Path) -> Result<PathBuf> {
    let folder = root().join("target/test-models");
    std::fs::create_dir_all(&folder)?;
    let link = folder.join("smollm2-135m-q4_1.gguf");
    if !link.exists() {
        let _ = std::fs::remove_file(&link);
        std::fs::hard_link(model, &link).or_else(|_| std::fs::copy(model, &link).map(|_| ()))?;
    }
    Ok(folder)
}

//! What each attack costs a stream of another user:
//! `cargo run --release --workspace --example hostile -- [MODEL.gguf] [ATTACK…]`.
//!
//! For each attack of the table that the tests use, or each that is named, a server of its own in this process: the steps
//! of a stream alone and of the same stream beside the attacker, in five rounds in turn, of which the table has medians (and
//! of the ratio of 99th percentiles the spread); the memory of the process, the pages held before and after, and how long
//! the attacker takes to end once it is killed, at most. Without a model, the tiny one. The programs are built by
//! `cargo xtask guests`. The answers are compared, the times are only printed: they are the machine's.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a table for the terminal")]

#[path = "../../runtime/tests/common/attacks.rs"]
#[allow(dead_code, reason = "the tests read the rest of the table")]
mod attacks;
#[path = "../../runtime/tests/common/memory.rs"]
mod memory;
#[path = "../../runtime/tests/common/tools.rs"]
mod tools;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use attacks::ATTACKS;
use backend_cpu::{CpuBackend, CpuOptions};
use clap::Parser;
use memory::{Peak, resident_bytes};
use model::Model;
use runtime::{Inferlet, InferletLimits, LaunchOptions, Program, Runtime, RuntimeConfig, ServedModel};
use scheduler::{Engine, EngineConfig, EngineHandle, SchedulerConfig};

/// Steps of a stream: enough for a 99th percentile.
const STEPS: u32 = 300;
/// Rounds of a row, each alone and beside: the machine's own noise doubles a single 99th percentile.
const ROUNDS: usize = 5;
/// How long an attack goes on before the stream begins.
const HEAD_START: Duration = Duration::from_millis(300);

struct Server {
    runtime: Runtime,
    program: Arc<Program>,
    engine: EngineHandle,
    _engine: Engine,
}

impl Server {
    async fn start(model: &Arc<Model>, cache: &Path, wasm: &[u8]) -> Result<Server> {
        let options = CpuOptions { pages: 2048, ..CpuOptions::default() };
        let backend = CpuBackend::open(&model.hyperparameters, &model.weights, &options, |_| ())?;
        let scheduler = SchedulerConfig { tenant_pages: Some(1024), ..SchedulerConfig::default() };
        let (handle, engine) = Engine::start(Box::new(backend), scheduler, EngineConfig::default())?;
        let limits = InferletLimits { memory_bytes: 512 << 20, ..InferletLimits::default() };
        let cache = Some(cache.to_path_buf());
        let mcp = vec![tools::server()];
        let config = RuntimeConfig { cache, limits, inferlets: 256, mcp, ..RuntimeConfig::default() };
        let served = ServedModel::new("model", model.clone(), handle.clone(), "measured");
        let runtime = Runtime::start(config, vec![served]).await?;
        let program = runtime.load(wasm.to_vec(), Some("test-programs".into())).await?;
        Ok(Server { runtime, program, engine: handle, _engine: engine })
    }

    fn launch(&self, user: &str, words: &[&str]) -> Result<Inferlet> {
        let arguments = words.iter().map(ToString::to_string).collect();
        let options = LaunchOptions { arguments, user: user.into(), limits: None };
        Ok(self.runtime.launch(&self.program, options)?)
    }

    /// A stream that has its place, and waits.
    async fn begin_stream(&self) -> Result<Inferlet> {
        let mut stream = self.launch("innocent", &["decode", &STEPS.to_string()])?;
        stream.next_event().await.context("it says that it is there")?;
        Ok(stream)
    }

    async fn stream(&self) -> Result<(String, Vec<f64>)> {
        steps_of(self.begin_stream().await?).await
    }

    /// Pages that are held once no program is there any more.
    async fn pages_held(&self) -> Result<i64> {
        loop {
            let stats = self.engine.stats().await??;
            if stats.owners == 0 {
                return Ok(stats.pages_held as i64);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Lets a stream go on. Its tokens, and its steps in milliseconds, sorted.
async fn steps_of(mut stream: Inferlet) -> Result<(String, Vec<f64>)> {
    drop(stream.take_input());
    let answer = stream.outcome().await?;
    let (tokens, times) = answer.split_once('\n').context("tokens and times")?;
    let times: Vec<f64> = times.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let mut times: Vec<f64> = times.into_iter().map(|us| us / 1000.0).collect();
    times.sort_by(f64::total_cmp);
    Ok((tokens.to_string(), times))
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// What each attack costs a stream of another user
#[derive(Parser)]
struct Flags {
    /// A model, `FILE.gguf`, the tiny one by default; then the attacks, all by default
    #[arg(value_name = "MODEL.gguf | ATTACK")]
    arguments: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = Flags::parse().arguments;
    let folder = std::env::temp_dir().join(format!("pie-hostile-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = match arguments.first().filter(|first| first.ends_with(".gguf")) {
        Some(_) => arguments.remove(0).into(),
        None => {
            let path = folder.join("tiny.gguf");
            model::test_model::write(&path, kernels::DType::Q8_0, 1)?;
            path
        }
    };
    let model = Arc::new(Model::open(&path)?);
    let guests =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs/target/wasm32-wasip2/release");
    let wasm = std::fs::read(guests.join("test_programs.wasm")).context("`cargo xtask guests` builds it")?;
    let listed = ATTACKS.iter().map(|row| row.name).filter(|_| arguments.is_empty());
    let names: Vec<&str> = listed.chain(arguments.iter().map(String::as_str)).collect();

    println!(
        "| attack | p50 ms alone | p50 ms beside | p99 ms alone | p99 ms beside | p99 | MiB more | pages after | kill ms |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for name in names {
        match measure(&model, &folder, &wasm, name).await {
            Ok(row) => println!("{row}"),
            Err(error) => eprintln!("{name}: {error:#}"),
        }
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

/// What one round of a row found: sorted steps alone and beside the attacker, and how long the end of it took.
struct Round {
    alone: Vec<f64>,
    beside: Vec<f64>,
    kill: f64,
}

impl Round {
    fn ratio(&self) -> f64 {
        percentile(&self.beside, 0.99) / percentile(&self.alone, 0.99)
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 0.5)
}

async fn measure(model: &Arc<Model>, folder: &Path, wasm: &[u8], name: &str) -> Result<String> {
    let server = Server::start(model, folder, wasm).await?;
    // The first one warms everything up.
    server.stream().await?;
    let (memory, pages, peak) = (resident_bytes(), server.pages_held().await?, Peak::new());
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(round(&server, name).await?);
    }
    let left = server.pages_held().await? - pages;
    let of = |f: &dyn Fn(&Round) -> f64| median(rounds.iter().map(f));
    let mut ratios: Vec<f64> = rounds.iter().map(Round::ratio).collect();
    ratios.sort_by(f64::total_cmp);
    Ok(format!(
        "| {name} | {:.2} | {:.2} | {:.2} | {:.2} | x {:.1} [{:.1}-{:.1}] | {} | {left} | {:.1} |",
        of(&|round| percentile(&round.alone, 0.5)),
        of(&|round| percentile(&round.beside, 0.5)),
        of(&|round| percentile(&round.alone, 0.99)),
        of(&|round| percentile(&round.beside, 0.99)),
        of(&Round::ratio),
        ratios[0],
        ratios[ratios.len() - 1],
        peak.bytes().saturating_sub(memory) >> 20,
        rounds.iter().map(|round| round.kill).fold(0.0, f64::max),
    ))
}

/// A stream alone, then the same beside the attacker, who is killed at its end.
async fn round(server: &Server, name: &str) -> Result<Round> {
    let (tokens, alone) = server.stream().await?;
    // It may be an attack that takes all places.
    let innocent = server.begin_stream().await?;
    let attacker = server.launch("attacker", &["attack", &format!("{name}/forever")])?;
    tokio::time::sleep(HEAD_START).await;
    let (same, beside) = steps_of(innocent).await?;
    ensure!(same == tokens, "the stream has other tokens");

    let killed = Instant::now();
    attacker.kill();
    let _ = attacker.outcome().await;
    let kill = killed.elapsed().as_secs_f64() * 1000.0;
    while !server.runtime.list().is_empty() {
        for inferlet in server.runtime.list() {
            server.runtime.kill(&inferlet.id);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.launch("attacker", &["random", "clean"])?.outcome().await?;
    Ok(Round { alone, beside, kill })
}

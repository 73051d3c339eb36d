//! Prefill and decode speed of a GGUF model: `speed FILE [threads] [repeats]`. Prints the best of the repeats.
//!
//! The rows are named as llama-bench and llama-batched-bench name theirs: `pp512` processes a prompt of 512 tokens,
//! `tg64` generates 64 tokens a sequence, `b8` in 8 sequences together, each after a prompt of so many tokens. The last
//! column counts the time of all threads instead of the clock on the wall, which on a busy machine says more.

#![allow(clippy::print_stdout, reason = "prints its results")]

use backend::{
    Backend, Batch, Output, OutputKind, OutputRequest, PageId, PageSlots, SamplingParams, SequenceSpan, Value,
};
use backend_cpu::{CpuBackend, CpuOptions};
use model::gguf::Gguf;
use model::{Hyperparameters, Weights};
use std::error::Error;
use std::time::Instant;

/// Pages per sequence: 4096 tokens for one, 512 for each of 32.
const PAGES: u32 = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: speed FILE [threads] [repeats]")?;
    let mut options = CpuOptions { pages: PAGES, ..CpuOptions::default() };
    if let Some(threads) = args.next() {
        options.threads = threads.parse()?;
    }
    let repeats: usize = args.next().map_or(Ok(3), |repeats| repeats.parse())?;
    let gguf = Gguf::open(file.as_ref())?;
    let (hyper, began) = (Hyperparameters::from_gguf(&gguf)?, Instant::now());
    let mut backend = CpuBackend::open(&hyper, &Weights::from_gguf(&gguf), &options, |_| ())?;
    println!("{file}: {} threads, {}, loaded in {:.2?}", options.threads, backend.isa(), began.elapsed());

    for tokens in [128, 512, 2048] {
        let best = best_of(repeats, || {
            let mut sequences = [Sequence::new(0, PAGES)];
            prefill(&mut backend, &mut sequences, tokens)
        })?;
        println!("pp{tokens:<5} {}", speed(tokens, best));
    }
    for (count, context) in [(1, 16), (1, 2048), (8, 128), (32, 128)] {
        let best = best_of(repeats, || {
            let each = PAGES / count;
            let mut sequences: Vec<_> = (0..count).map(|i| Sequence::new(i * each, each)).collect();
            prefill(&mut backend, &mut sequences, context)?;
            decode(&mut backend, &mut sequences, 64)
        })?;
        let gigabytes = backend.bytes_per_step() as f64 * 64.0 / best.wall / 1e9;
        println!(
            "tg64 b{count:<3} after {context:<5} {}, {gigabytes:.1} GB/s of weights",
            speed(count * 64, best)
        );
    }
    Ok(())
}

fn speed(tokens: u32, best: Seconds) -> String {
    let tokens = f64::from(tokens);
    format!("{:8.1} tokens/s, {:8.1} per second of a thread", tokens / best.wall, tokens / best.threads)
}

/// Seconds on the wall and of all threads together.
#[derive(Clone, Copy)]
struct Seconds {
    wall: f64,
    threads: f64,
}

/// The least of each over the repeats.
fn best_of(
    repeats: usize,
    mut run: impl FnMut() -> Result<Seconds, Box<dyn Error>>,
) -> Result<Seconds, Box<dyn Error>> {
    let mut best = run()?;
    for _ in 1..repeats {
        let again = run()?;
        best = Seconds { wall: best.wall.min(again.wall), threads: best.threads.min(again.threads) };
    }
    Ok(best)
}

struct Stopwatch {
    began: Instant,
    threads: f64,
}

impl Stopwatch {
    fn start() -> Stopwatch {
        Stopwatch { began: Instant::now(), threads: thread_seconds() }
    }

    fn stop(self) -> Seconds {
        Seconds { wall: self.began.elapsed().as_secs_f64(), threads: thread_seconds() - self.threads }
    }
}

/// Time that all threads of this process have run (Linux; elsewhere 0).
fn thread_seconds() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let nanoseconds = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    };
    tasks.flatten().filter_map(|task| nanoseconds(task.path())).sum::<f64>() / 1e9
}

struct Sequence {
    pages: Vec<PageSlots>,
    filled: u32,
    next: u32,
}

impl Sequence {
    fn new(first: u32, count: u32) -> Sequence {
        let pages = (first..first + count).map(|page| PageSlots { page: PageId(page), live: 0 }).collect();
        Sequence { pages, filled: 0, next: 1 }
    }

    /// Adds rows, and asks for the next token after the last one.
    fn push(&mut self, batch: &mut Batch, tokens: impl IntoIterator<Item = u32>) {
        let (first_page, first_row, before) = (batch.pages.len(), batch.rows(), self.filled);
        for token in tokens {
            batch.tokens.push(token);
            batch.positions.push(self.filled);
            batch.slots.push(self.filled);
            self.filled += 1;
        }
        batch.pages.extend(&self.pages[..self.filled.div_ceil(16) as usize]);
        for slot in before..self.filled {
            self.pages[slot as usize / 16].live |= 1 << (slot % 16);
        }
        let (pages, rows) = (first_page..batch.pages.len(), first_row..batch.rows());
        batch
            .outputs
            .push(OutputRequest { row: rows.end - 1, kind: OutputKind::Token(SamplingParams::greedy()) });
        batch.sequences.push(SequenceSpan { pages, rows, adapter: None });
    }
}

/// Processes a prompt of `tokens` tokens in each sequence, 512 rows at a time; returns the time.
fn prefill(
    backend: &mut CpuBackend,
    sequences: &mut [Sequence],
    tokens: u32,
) -> Result<Seconds, Box<dyn Error>> {
    let watch = Stopwatch::start();
    let mut output = Output::default();
    for sequence in sequences {
        while sequence.filled < tokens {
            let mut batch = Batch::default();
            let (from, to) = (sequence.filled, tokens.min(sequence.filled + 512));
            sequence.push(&mut batch, (from..to).map(|i| i * 37 % 1000 + 100));
            backend.run(&batch, &mut output)?;
        }
    }
    Ok(watch.stop())
}

/// Decodes `steps` tokens in every sequence together; returns the time.
fn decode(
    backend: &mut CpuBackend,
    sequences: &mut [Sequence],
    steps: u32,
) -> Result<Seconds, Box<dyn Error>> {
    let watch = Stopwatch::start();
    let (mut batch, mut output) = (Batch::default(), Output::default());
    for _ in 0..steps {
        batch.clear();
        for sequence in sequences.iter_mut() {
            let token = sequence.next;
            sequence.push(&mut batch, [token]);
        }
        backend.run(&batch, &mut output)?;
        for (sequence, value) in sequences.iter_mut().zip(&output.values) {
            let Value::Token(sampled) = value else { return Err(format!("no token: {value:?}").into()) };
            sequence.next = sampled.token;
        }
    }
    Ok(watch.stop())
}

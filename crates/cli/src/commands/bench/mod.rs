//! `pie bench`: what llama-bench is to llama.cpp. Prefill and decode speed of one model, beside the machine's
//! limits.

mod profile;

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use backend::{
    Backend, Batch, Output, OutputKind, OutputRequest, PageId, PageSlots, SamplingParams, SequenceSpan, Value,
};
use backend_cpu::{CpuBackend, KvType, Quantize};
use clap::Args;
use comfy_table::{Table, presets};
use serde::Serialize;

use crate::assemble::{load, model_path};
use crate::config::ModelSettings;
use crate::home::Home;
use crate::progress;
use profile::Profiler;

/// Flags of `pie bench`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie bench smollm2-135m-instruct
  pie bench model.gguf --prompt 512 --generate 128 --batch 1,8,32 --threads 2 --json
  pie bench model.gguf --prompt 2048 --chunk 24 --generate 64 --batch 16 --profile")]
pub(crate) struct BenchFlags {
    /// A name of `pie model list`, or a file.
    model: String,
    /// Lengths of prompts to prefill, in tokens.
    #[arg(short, long, value_delimiter = ',', default_value = "128,512,2048")]
    prompt: Vec<u32>,
    /// Tokens to decode in each sequence.
    #[arg(short, long, value_delimiter = ',', default_value = "128")]
    generate: Vec<u32>,
    /// Sequences decoded together.
    #[arg(short, long, value_delimiter = ',', default_value = "1,2,4,8,16,32")]
    batch: Vec<u32>,
    /// Tokens in each sequence before decoding begins.
    #[arg(short, long, value_delimiter = ',', default_value = "0")]
    context: Vec<u32>,
    /// Compute threads; all cores by default.
    #[arg(short, long)]
    threads: Option<usize>,
    /// What matrices of floats become when they are loaded.
    #[arg(long, value_name = "FORMAT", value_parser = Quantize::ALL.map(Quantize::name))]
    quantize: Option<String>,
    /// The format of keys and values in memory.
    #[arg(
        long,
        value_name = "TYPE",
        value_parser = KvType::ALL.map(KvType::name),
        default_value = KvType::default().name()
    )]
    kv_cache_type: String,
    /// Rows of a prompt in one batch at most.
    #[arg(long, default_value_t = 512)]
    chunk: u32,
    /// Say where the time of a batch goes: each operation of it, beside the machine's limits.
    #[arg(long)]
    profile: bool,
    /// Runs of each test, after one that does not count, which touches all memory for the first time; the median counts.
    #[arg(short, long, default_value_t = 5)]
    repeat: usize,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Measurement<'a> {
    model: &'a str,
    test: &'static str,
    tokens: u32,
    batch: u32,
    context: u32,
    threads: usize,
    tokens_per_s: Speed,
    bandwidth_share: f64,
    int8_share: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a [profile::Row]>,
}

#[derive(Clone, Copy, Serialize)]
struct Speed {
    median: f64,
    min: f64,
    max: f64,
}

/// What the machine can do, measured in the same run.
#[derive(Serialize)]
struct Machine {
    isa: &'static str,
    threads: usize,
    read_gb_per_s: f64,
    int8_gop_per_s: f64,
}

pub(crate) fn bench(flags: BenchFlags) -> Result<()> {
    ensure!(flags.repeat > 0, "`--repeat` is 0: expected at least 1");
    let all = flags.prompt.iter().chain(&flags.generate).chain(&flags.batch);
    ensure!(all.clone().all(|n| *n > 0), "`--prompt`, `--generate` and `--batch` must be at least 1");
    ensure!(flags.chunk > 0, "`--chunk` is 0: expected at least 1");
    let tests = tests(&flags);
    let most = |f: fn(&Test) -> u32| tests.iter().map(f).max().unwrap_or(1);
    let pages = most(|t| t.batch * (t.context + t.tokens).div_ceil(16));
    let settings = ModelSettings {
        threads: flags.threads,
        quantize: flags.quantize.clone(),
        kv_cache_type: flags.kv_cache_type.clone(),
        max_num_kv_pages: Some(pages),
        max_batch_tokens: flags.chunk,
        ..ModelSettings::new(&flags.model)
    };
    let path = model_path(&Home::find()?, &flags.model)?;
    let (model, mut backend) = load(&path, &settings, None)?;
    let limits = backend.limits();
    for test in &tests {
        let longest = test.context + test.tokens;
        ensure!(
            longest <= limits.context_tokens,
            "{longest} tokens exceed the model's context of {}",
            limits.context_tokens
        );
        ensure!(
            test.batch <= limits.batch_sequences,
            "a batch of {} exceeds {}",
            test.batch,
            limits.batch_sequences
        );
    }

    let threads = backend.threads();
    let machine = Machine {
        isa: backend.isa().name(),
        threads,
        read_gb_per_s: kernels::measure::read_bandwidth(backend.isa(), threads, 512 << 20) / 1e9,
        int8_gop_per_s: kernels::measure::int8_rate(backend.isa(), threads) / 1e9,
    };
    match flags.json {
        true => println!("{}", serde_json::to_string(&serde_json::json!({ "machine": machine }))?),
        false => println!(
            "machine: {}, {} threads, reads {:.1} GB/s, {:.0} int8 GOP/s",
            machine.isa, machine.threads, machine.read_gb_per_s, machine.int8_gop_per_s
        ),
    }

    let work = Work::of(&backend);
    let mut profiler = flags.profile.then(|| Profiler::of(&mut backend));
    let mut profiles = Vec::new();
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["test", "tokens", "batch", "context", "tokens/s", "min", "max", "bandwidth", "int8"]);
    let bar = progress::spinner("");
    for test in &tests {
        let mut speeds = Vec::new();
        for run in 0..=flags.repeat {
            let which = match run {
                0 => "warm-up".to_string(),
                run => format!("run {run} of {}", flags.repeat),
            };
            bar.set_message(format!("{} {} x{} {which}", test.name(), test.tokens, test.batch));
            let speed = test.run(&mut backend, profiler.as_ref())?;
            if run > 0 {
                speeds.push(speed);
                profiler.iter_mut().for_each(Profiler::take);
            }
        }
        let rows = profiler.as_mut().map(|profiler| profiler.rows(test, &backend, &machine));
        speeds.sort_by(f64::total_cmp);
        let speed = Speed { median: speeds[speeds.len() / 2], min: speeds[0], max: speeds[speeds.len() - 1] };
        let measured = Measurement {
            model: &model.name,
            test: test.name(),
            tokens: test.tokens,
            batch: test.batch,
            context: test.context,
            threads,
            tokens_per_s: speed,
            bandwidth_share: work.bytes(test) / f64::from(test.all_tokens()) * speed.median
                / 1e9
                / machine.read_gb_per_s,
            int8_share: work.operations(test) / f64::from(test.all_tokens()) * speed.median
                / 1e9
                / machine.int8_gop_per_s,
            profile: rows.as_deref(),
        };
        match flags.json {
            true => println!("{}", serde_json::to_string(&measured)?),
            false => {
                _ = table.add_row([
                    measured.test.to_string(),
                    measured.tokens.to_string(),
                    measured.batch.to_string(),
                    measured.context.to_string(),
                    format!("{:.1}", speed.median),
                    format!("{:.1}", speed.min),
                    format!("{:.1}", speed.max),
                    format!("{:.0} %", measured.bandwidth_share * 100.0),
                    format!("{:.0} %", measured.int8_share * 100.0),
                ])
            }
        }
        if let Some(rows) = rows {
            let title = format!("{} {} x{} context {}", test.name(), test.tokens, test.batch, test.context);
            profiles.push((title, profile::table(&rows)));
        }
    }
    bar.finish_and_clear();
    if !flags.json {
        println!("{} ({})\n{table}", model.name, path.display());
        println!("median of {} runs; shares of the machine's read bandwidth and int8 rate", flags.repeat);
        for (title, table) in profiles {
            println!("\n{title}\n{table}");
        }
    }
    Ok(())
}

/// What a model costs: by it, speeds become shares of what the machine can do.
struct Work {
    /// Multiplications of all layers' matrices for a row, and of the output matrix for a row that asks.
    layer_products: f64,
    output_products: f64,
    /// Bytes of weights: all layers, and the output matrix.
    layer_bytes: f64,
    output_bytes: f64,
    /// Bytes of keys and values of one token.
    kv_bytes: f64,
    /// Most rows of a batch.
    batch_tokens: u32,
}

impl Work {
    fn of(backend: &CpuBackend) -> Work {
        let (limits, products, bytes) = (backend.limits(), backend.multiplications(), backend.weight_bytes());
        Work {
            layer_products: products.0 as f64,
            output_products: products.1 as f64,
            layer_bytes: bytes.0 as f64,
            output_bytes: bytes.1 as f64,
            kv_bytes: limits.page_bytes as f64 / f64::from(limits.page_tokens),
            batch_tokens: limits.batch_tokens,
        }
    }

    /// Multiplications and additions of all matrix products of a run, counted as two, without attention. A
    /// prompt asks for an output once, a decoded token each time.
    fn operations(&self, test: &Test) -> f64 {
        let outputs = match test.kind {
            Kind::Prefill => test.batch,
            Kind::Decode => test.all_tokens(),
        };
        2.0 * (self.layer_products * f64::from(test.all_tokens()) + self.output_products * f64::from(outputs))
    }

    /// Bytes that a run reads at least: the weights once a batch, and the keys and values that its rows
    /// attend to, those of each sequence once a batch.
    fn bytes(&self, test: &Test) -> f64 {
        // Tokens of each sequence at the end of each batch.
        let lengths: Vec<u32> = match test.kind {
            Kind::Prefill => {
                let most = (self.batch_tokens / test.batch).max(1);
                (1..=test.tokens.div_ceil(most)).map(|batch| (batch * most).min(test.tokens)).collect()
            }
            Kind::Decode => (1..=test.tokens).map(|token| test.context + token).collect(),
        };
        let outputs = match test.kind {
            Kind::Prefill => 1,
            Kind::Decode => lengths.len(),
        };
        let attended = lengths.iter().map(|&length| f64::from(length)).sum::<f64>() * f64::from(test.batch);
        self.layer_bytes * lengths.len() as f64
            + self.output_bytes * outputs as f64
            + self.kv_bytes * attended
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Prefill,
    Decode,
}

/// One row of the table.
struct Test {
    kind: Kind,
    tokens: u32,
    batch: u32,
    context: u32,
}

fn tests(flags: &BenchFlags) -> Vec<Test> {
    let prefill =
        flags.prompt.iter().map(|&tokens| Test { kind: Kind::Prefill, tokens, batch: 1, context: 0 });
    let decode = flags.context.iter().flat_map(|&context| {
        flags.generate.iter().flat_map(move |&tokens| {
            flags.batch.iter().map(move |&batch| Test { kind: Kind::Decode, tokens, batch, context })
        })
    });
    prefill.chain(decode).collect()
}

impl Test {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Prefill => "prefill",
            Kind::Decode => "decode",
        }
    }

    /// Tokens of all sequences that the speed counts.
    fn all_tokens(&self) -> u32 {
        self.tokens * self.batch
    }

    /// Batches of one run.
    fn batches(&self, backend: &CpuBackend) -> u32 {
        match self.kind {
            Kind::Prefill => self.tokens.div_ceil((backend.limits().batch_tokens / self.batch).max(1)),
            Kind::Decode => self.tokens,
        }
    }

    /// Tokens per second of one run.
    fn run(&self, backend: &mut CpuBackend, profiler: Option<&Profiler>) -> Result<f64> {
        let mut sequences = Sequences::new(self.batch, self.context + self.tokens);
        let reset = || profiler.iter().for_each(|profiler| profiler.reset());
        reset();
        match self.kind {
            Kind::Prefill => {
                let start = Instant::now();
                sequences.prefill(backend, self.tokens)?;
                Ok(f64::from(self.tokens) / start.elapsed().as_secs_f64())
            }
            Kind::Decode => {
                if self.context > 0 {
                    sequences.prefill(backend, self.context)?;
                    reset();
                }
                let start = Instant::now();
                for _ in 0..self.tokens {
                    sequences.step(backend)?;
                }
                Ok(f64::from(self.all_tokens()) / start.elapsed().as_secs_f64())
            }
        }
    }
}

/// Sequences that grow together, each on pages of its own.
struct Sequences {
    pages_each: u32,
    length: u32,
    next: Vec<u32>,
    batch: Batch,
    output: Output,
}

impl Sequences {
    fn new(count: u32, tokens: u32) -> Sequences {
        let next = (0..count).map(|i| 100 + i).collect();
        let (batch, output) = (Batch::default(), Output::default());
        Sequences { pages_each: tokens.div_ceil(16), length: 0, next, batch, output }
    }

    /// Adds a row to sequence `index`; its pages are added with its first row.
    fn row(&mut self, index: u32, token: u32, slot: u32) {
        self.batch.tokens.push(token);
        self.batch.positions.push(slot);
        self.batch.slots.push(slot);
        let rows = self.batch.tokens.len();
        match self.batch.sequences.get_mut(index as usize) {
            Some(sequence) => sequence.rows.end = rows,
            None => {
                let start = self.batch.pages.len();
                let page = |page: u32| PageSlots {
                    page: PageId(index * self.pages_each + page),
                    live: (1u64 << self.length.saturating_sub(page * 16).min(16)) - 1,
                };
                self.batch.pages.extend((0..self.pages_each).map(page));
                let pages = start..self.batch.pages.len();
                self.batch.sequences.push(SequenceSpan { pages, rows: rows - 1..rows, adapter: None });
            }
        }
    }

    fn want_token(&mut self) {
        let row = self.batch.tokens.len() - 1;
        self.batch.outputs.push(OutputRequest { row, kind: OutputKind::Token(SamplingParams::greedy()) });
    }

    /// Runs the batch and takes the tokens drawn: a wrong number of them is an error, so no run counts that
    /// did nothing.
    fn finish(&mut self, backend: &mut CpuBackend) -> Result<Vec<u32>> {
        backend.run(&self.batch, &mut self.output)?;
        ensure!(self.output.values.len() == self.batch.outputs.len(), "the backend answered too little");
        self.output
            .values
            .iter()
            .map(|value| match value {
                Value::Token(sampled) if sampled.log_prob.is_finite() && sampled.log_prob <= 1e-3 => {
                    Ok(sampled.token)
                }
                other => bail!("asked for a token, got {other:?}"),
            })
            .collect()
    }

    /// One sequence after the other, as chunks of the most rows a batch takes.
    fn prefill(&mut self, backend: &mut CpuBackend, tokens: u32) -> Result<()> {
        let most = backend.limits().batch_tokens / self.next.len() as u32;
        let vocabulary = backend.limits().vocabulary;
        ensure!(most > 0, "more sequences than rows of a batch");
        while self.length < tokens {
            let chunk = most.min(tokens - self.length);
            let last = self.length + chunk == tokens;
            self.batch.clear();
            for index in 0..self.next.len() as u32 {
                for slot in self.length..self.length + chunk {
                    self.row(index, (slot * 7919 + index * 31 + 11) % vocabulary, slot);
                }
                if last {
                    self.want_token();
                }
            }
            let drawn = self.finish(backend)?;
            if last {
                self.next = drawn;
            }
            self.length += chunk;
        }
        Ok(())
    }

    fn step(&mut self, backend: &mut CpuBackend) -> Result<()> {
        self.batch.clear();
        for index in 0..self.next.len() as u32 {
            self.row(index, self.next[index as usize], self.length);
            self.want_token();
        }
        self.next = self.finish(backend).context("decode")?;
        self.length += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SmolLM2-135M in 4 bits.
    const WORK: Work = Work {
        layer_products: 106_168_320.0,
        output_products: 28_311_552.0,
        layer_bytes: 66e6,
        output_bytes: 30e6,
        kv_bytes: 23_040.0,
        batch_tokens: 512,
    };

    fn prefill(tokens: u32) -> Test {
        Test { kind: Kind::Prefill, tokens, batch: 1, context: 0 }
    }

    fn decode(tokens: u32, batch: u32, context: u32) -> Test {
        Test { kind: Kind::Decode, tokens, batch, context }
    }

    #[test]
    fn the_output_matrix_counts_for_rows_that_ask() {
        assert_eq!(WORK.operations(&prefill(2048)), 2.0 * (106_168_320.0 * 2048.0 + 28_311_552.0));
        assert_eq!(WORK.operations(&decode(10, 4, 100)), 2.0 * 40.0 * (106_168_320.0 + 28_311_552.0));
    }

    #[test]
    fn bytes_are_weights_once_a_batch_and_the_keys_and_values_of_all_sequences() {
        // Batches of 512, 512 and 176 rows, the last of which asks.
        let kv = 23_040.0 * (512.0 + 1024.0 + 1200.0);
        assert_eq!(WORK.bytes(&prefill(1200)), 3.0 * 66e6 + 30e6 + kv);
        assert_eq!(WORK.bytes(&prefill(10)), 96e6 + 23_040.0 * 10.0);
        // At 4096 tokens of context the keys and values weigh as much as the weights.
        assert_eq!(WORK.bytes(&decode(1, 1, 4095)), 96e6 + 23_040.0 * 4096.0);
        let kv = 23_040.0 * 32.0 * (257.0 + 258.0 + 259.0);
        assert_eq!(WORK.bytes(&decode(3, 32, 256)), 3.0 * 96e6 + kv);
    }
}

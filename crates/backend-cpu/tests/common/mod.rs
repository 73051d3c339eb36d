//! What the tests share: tiny random models, a plain reference, and sequences that are run in pieces.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod naive;

use backend::{
    AdapterId, Backend, Batch, Output, OutputKind, OutputRequest, PageId, PageSlots, RowMask, SequenceSpan,
    Value as Answer,
};
use backend_cpu::{CpuBackend, CpuOptions, KvType};
use kernels::DType;
use model::gguf::writer::GgufWriter;
use model::gguf::{Gguf, Value};
use model::test_model::SplitMix64;
use model::{Architecture, Hyperparameters, Part, Weights};

pub(crate) const LAYERS: usize = 2;
pub(crate) const HIDDEN: usize = 64;
pub(crate) const HEADS: usize = 4;
pub(crate) const KV_HEADS: usize = 2;
pub(crate) const HEAD_DIM: usize = 32;
pub(crate) const FFN: usize = 96;
pub(crate) const VOCAB: usize = 104;
/// Less than the prompts of the tests have tokens, and no multiple of a page.
pub(crate) const WINDOW: u32 = 21;

/// The matrices of a layer that adapters change.
pub(crate) const LINEARS: [Part; 7] =
    [Part::Q, Part::K, Part::V, Part::AttentionOutput, Part::Gate, Part::Up, Part::Down];

/// The architecture of this name.
pub(crate) fn architecture(name: &str) -> Architecture {
    Architecture::find(name).unwrap()
}

/// The architectures that generate, and those that read: the first have logits and go on, the others have whole texts.
pub(crate) fn decoders() -> impl Iterator<Item = Architecture> {
    Architecture::all().filter(|architecture| !is_encoder(*architecture))
}

pub(crate) fn encoders() -> impl Iterator<Item = Architecture> {
    Architecture::all().filter(|architecture| is_encoder(*architecture))
}

fn is_encoder(architecture: Architecture) -> bool {
    Hyperparameters::from_gguf(&Tiny::new(architecture, DType::F32).gguf()).unwrap().encoder
}

/// Numbers uniform in `[-scale, scale)`.
pub(crate) fn values(random: &mut SplitMix64, count: usize, scale: f32) -> Vec<f32> {
    (0..count).map(|_| random.uniform() * scale).collect()
}

/// Tokens of the tiny models.
pub(crate) fn tokens_of(random: &mut SplitMix64, count: usize) -> Vec<u32> {
    (0..count).map(|_| (random.next() % VOCAB as u64) as u32).collect()
}

/// The same tokens for each seed.
pub(crate) fn random_tokens(seed: u64, count: usize) -> Vec<u32> {
    tokens_of(&mut SplitMix64(seed), count)
}

/// What distinguishes a tiny model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiny {
    pub(crate) architecture: Architecture,
    /// Format of the matrices: F32, F16 or Q8_0.
    pub(crate) dtype: DType,
    pub(crate) seed: u64,
    /// Whether `rope_freqs.weight` is given, as in Llama 3.
    pub(crate) rope_factors: bool,
    pub(crate) tied: bool,
}

impl Tiny {
    pub(crate) fn new(architecture: Architecture, dtype: DType) -> Tiny {
        Tiny { architecture, dtype, seed: 1, rope_factors: false, tied: true }
    }

    pub(crate) fn gguf(self) -> Gguf {
        Gguf::parse(self.writer().to_bytes()).unwrap()
    }

    /// The file, its tensors drawn at random in the order in which the architecture lists them.
    fn writer(self) -> GgufWriter {
        let mut writer = GgufWriter::new();
        let mut random = SplitMix64(self.seed);
        metadata(self.architecture, &mut writer);
        self.tensor(&mut writer, &mut random, "token_embd.weight", &[VOCAB, HIDDEN]);
        if !self.tied {
            self.tensor(&mut writer, &mut random, "output.weight", &[VOCAB, HIDDEN]);
        }
        if self.rope_factors {
            let values: Vec<f32> = values(&mut random, HEAD_DIM / 2, 0.3).iter().map(|v| v + 2.0).collect();
            writer.tensor_f32("rope_freqs.weight", &[HEAD_DIM / 2], &values);
        }
        let hyper = Hyperparameters::from_gguf_metadata(&Gguf::parse(writer.to_bytes()).unwrap()).unwrap();
        let written = ["token_embd.weight", "output.weight"];
        for (name, shape) in hyper.tensors().iter().filter(|(name, _)| !written.contains(&name.as_str())) {
            self.tensor(&mut writer, &mut random, name, shape);
            if has_bias(self.architecture, name) {
                let values = values(&mut random, shape[0], 0.3);
                writer.tensor_f32(&name.replace(".weight", ".bias"), &shape[..1], &values);
            }
        }
        writer
    }

    fn tensor(self, writer: &mut GgufWriter, random: &mut SplitMix64, name: &str, shape: &[usize]) {
        let of = |ends: &[&str]| ends.iter().any(|end| name.contains(end));
        let scale = match name {
            "token_embd.weight" => 1.0,
            "output.weight" => 0.5,
            _ if of(&["norm", "attn_q", "attn_k"]) => 0.3,
            _ => 0.2,
        };
        let mut values = values(random, shape.iter().product(), scale);
        match (self.dtype, shape) {
            // Norms are around 1, and in F32 in all files.
            (_, [_]) => {
                values.iter_mut().for_each(|value| *value += 1.0);
                writer.tensor_f32(name, shape, &values)
            }
            (DType::F32, _) => writer.tensor_f32(name, shape, &values),
            (DType::F16, _) => writer.tensor_f16(name, shape, &values),
            (DType::Q8_0, _) => writer.tensor(name, DType::Q8_0, shape, q8_0(&values)),
            (other, _) => panic!("no writer for {other:?}"),
        };
    }

    pub(crate) fn open(self, threads: usize) -> CpuBackend {
        open(&self.gguf(), threads)
    }
}

/// The numbers of the tiny model, and those that only some architectures have.
fn metadata(architecture: Architecture, writer: &mut GgufWriter) {
    let name = architecture.name();
    writer.metadata_str("general.architecture", name);
    for (key, value) in [
        ("block_count", LAYERS),
        ("embedding_length", HIDDEN),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", KV_HEADS),
        ("attention.key_length", HEAD_DIM),
        ("attention.value_length", HEAD_DIM),
        ("rope.dimension_count", HEAD_DIM),
        ("feed_forward_length", FFN),
        ("context_length", 4096),
    ] {
        writer.metadata_u32(&format!("{name}.{key}"), value as u32);
    }
    let counts: &[(&str, u32)] = match name {
        "mistral" | "gemma2" => &[("attention.sliding_window", WINDOW)],
        "gemma3" => &[("attention.sliding_window", WINDOW), ("attention.sliding_window_pattern", 2)],
        "qwen3moe" => &[("expert_count", 5), ("expert_used_count", 2), ("expert_feed_forward_length", 64)],
        _ => &[],
    };
    let floats: &[(&str, f32)] = match name {
        "gemma2" => &[("attn_logit_softcapping", 5.0), ("final_logit_softcapping", 15.0)],
        "granite" => &[
            ("embedding_scale", 2.0),
            ("residual_scale", 0.6),
            ("attention.scale", 0.2),
            ("logit_scale", 0.5),
        ],
        _ => &[],
    };
    for (key, value) in counts {
        writer.metadata_u32(&format!("{name}.{key}"), *value);
    }
    for (key, value) in [
        ("attention.layer_norm_rms_epsilon", 1e-5),
        ("attention.layer_norm_epsilon", 1e-5),
        ("rope.freq_base", 10_000.0),
    ]
    .iter()
    .chain(floats)
    {
        writer.metadata(&format!("{name}.{key}"), Value::F32(*value));
    }
}

/// Whether files of the architecture have a bias beside the weight.
fn has_bias(architecture: Architecture, name: &str) -> bool {
    match architecture.name() {
        "qwen2" => ["attn_q.", "attn_k.", "attn_v."].iter().any(|part| name.contains(part)),
        "gpt2" | "opt" => !name.contains("_embd"),
        "bert" => !["token_embd.", "position_embd.", "token_types."].iter().any(|part| name.contains(part)),
        _ => false,
    }
}

/// A backend all of whose threads take part in every batch, however small.
pub(crate) fn open(gguf: &Gguf, threads: usize) -> CpuBackend {
    open_with(gguf, threads, 0)
}

/// A backend with [`CpuOptions::one_thread`].
pub(crate) fn open_with(gguf: &Gguf, threads: usize, one_thread: u64) -> CpuBackend {
    open_as(gguf, &CpuOptions { threads, one_thread, ..CpuOptions::default() })
}

/// A backend whose pages hold keys and values in a format.
pub(crate) fn open_kv(gguf: &Gguf, kv_cache_type: KvType, threads: usize) -> CpuBackend {
    open_as(gguf, &CpuOptions { threads, one_thread: 0, kv_cache_type, ..CpuOptions::default() })
}

fn open_as(gguf: &Gguf, options: &CpuOptions) -> CpuBackend {
    let options = CpuOptions { pages: 128, ..options.clone() };
    let hyper = Hyperparameters::from_gguf(gguf).unwrap();
    CpuBackend::open(&hyper, &Weights::from_gguf(gguf), &options, |_| ()).unwrap()
}

/// Rounds to Q8_0: per 32 values an f16 scale and 8-bit codes.
pub(crate) fn q8_0(values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    kernels::quantize_q8_0(kernels::Isa::SCALAR, DType::F32, &bytes)
}

/// A sequence under test: its pages, and which slots are live.
#[derive(Clone)]
pub(crate) struct Sequence {
    pub(crate) pages: Vec<PageSlots>,
    pub(crate) next_slot: u32,
    pub(crate) next_position: u32,
    pub(crate) adapter: Option<AdapterId>,
}

impl Sequence {
    pub(crate) fn new(pages: impl IntoIterator<Item = u32>) -> Sequence {
        let pages = pages.into_iter().map(|p| PageSlots { page: PageId(p), live: 0 }).collect();
        Sequence { pages, next_slot: 0, next_position: 0, adapter: None }
    }

    pub(crate) fn with_adapter(mut self, adapter: u32) -> Sequence {
        self.adapter = Some(AdapterId(adapter));
        self
    }

    /// Adds `tokens` to `batch` and notes them as live from the next batch on. Returns the rows.
    pub(crate) fn push(&mut self, batch: &mut Batch, tokens: &[u32]) -> std::ops::Range<usize> {
        let rows = batch.rows()..batch.rows() + tokens.len();
        let pages = batch.pages.len()..batch.pages.len() + self.pages.len();
        batch.pages.extend(&self.pages);
        batch.tokens.extend(tokens);
        for _ in tokens {
            batch.positions.push(self.next_position);
            batch.slots.push(self.next_slot);
            self.pages[self.next_slot as usize / 16].live |= 1 << (self.next_slot % 16);
            self.next_position += 1;
            self.next_slot += 1;
        }
        batch.sequences.push(SequenceSpan { pages, rows: rows.clone(), adapter: self.adapter });
        rows
    }

    /// Takes slots out of attention.
    pub(crate) fn remove(&mut self, slots: std::ops::Range<u32>) {
        for slot in slots {
            self.pages[slot as usize / 16].live &= !(1 << (slot % 16));
        }
    }
}

pub(crate) fn ask(batch: &mut Batch, rows: std::ops::Range<usize>, kind: &OutputKind) {
    batch.outputs.extend(rows.map(|row| OutputRequest { row, kind: kind.clone() }));
}

pub(crate) fn run(backend: &mut CpuBackend, batch: &Batch) -> Vec<Answer> {
    let mut output = Output::default();
    backend.run(batch, &mut output).unwrap();
    output.values
}

/// The logits of every row of `tokens`, run in chunks.
pub(crate) fn logits(
    backend: &mut CpuBackend,
    sequence: &mut Sequence,
    tokens: &[u32],
    chunk: usize,
) -> Vec<Vec<f32>> {
    let mut rows = Vec::new();
    for tokens in tokens.chunks(chunk) {
        let mut batch = Batch::default();
        let range = sequence.push(&mut batch, tokens);
        ask(&mut batch, range, &OutputKind::Logits);
        rows.extend(run(backend, &batch).into_iter().map(into_logits));
    }
    rows
}

/// The hidden rows of a text, computed in one batch.
pub(crate) fn hidden(backend: &mut CpuBackend, sequence: &mut Sequence, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut batch = Batch::default();
    let range = sequence.push(&mut batch, tokens);
    ask(&mut batch, range, &OutputKind::Hidden);
    run(backend, &batch).into_iter().map(into_hidden).collect()
}

pub(crate) fn into_hidden(value: Answer) -> Vec<f32> {
    match value {
        Answer::Hidden(values) => values,
        other => panic!("asked for a hidden row, got {other:?}"),
    }
}

pub(crate) fn into_logits(value: Answer) -> Vec<f32> {
    match value {
        Answer::Logits(logits) => logits,
        other => panic!("asked for logits, got {other:?}"),
    }
}

/// A mask that attends to the given slots.
pub(crate) fn mask(row: usize, pages: usize, slots: impl IntoIterator<Item = u32>) -> RowMask {
    let mut attend = vec![0; pages];
    for slot in slots {
        attend[slot as usize / 16] |= 1 << (slot % 16);
    }
    RowMask { row, attend }
}

/// Compares bits, so that -0 and 0 or two NaN are told apart.
pub(crate) fn assert_same_bits(a: &[Vec<f32>], b: &[Vec<f32>], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (row, (a, b)) in a.iter().zip(b).enumerate() {
        let differing = a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        assert_eq!(differing, 0, "{what}: row {row} differs in {differing} of {} values", a.len());
    }
}

/// The largest difference.
pub(crate) fn distance(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!(a.len(), b.len());
    let values = a.iter().flatten().zip(b.iter().flatten());
    values.map(|(a, b)| (a - b).abs()).fold(0.0, |m, d| if d.is_nan() { f32::INFINITY } else { m.max(d) })
}

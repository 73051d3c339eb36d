//! A tiny model with random weights, for tests of everything above: a whole GGUF file in under a second.
//!
//! It is a llama with 2 layers, hidden width 64, 4 heads, 2 key-value heads, feed-forward width 128, a
//! context of 2048 tokens and a byte-level vocabulary of 288 tokens, in ChatML. What it says is noise, but
//! always the same noise.

use std::io;
use std::path::Path;

use kernels::DType;

use crate::gguf::writer::GgufWriter;
use crate::gguf::{Array, Value};
use crate::tokenizer::byte_level_char;

/// Transformer layers.
pub const LAYERS: usize = 2;
/// Width of the residual stream.
pub const HIDDEN: usize = 64;
/// Query heads.
pub const HEADS: usize = 4;
/// Key and value heads.
pub const KV_HEADS: usize = 2;
/// Width of the feed-forward layer.
pub const FFN: usize = 128;
/// Most positions.
pub const CONTEXT_LENGTH: usize = 2048;
/// Tokens: the 256 bytes, the results of [`MERGES`], the control tokens, and unused rows up to a multiple of
/// 32.
pub const VOCABULARY: usize = 288;

/// Pairs that the tokenizer joins, in order; `Ġ` is a space.
pub const MERGES: &[(&str, &str)] = &[
    ("Ġ", "t"),
    ("h", "e"),
    ("i", "n"),
    ("r", "e"),
    ("o", "n"),
    ("e", "r"),
    ("Ġt", "he"),
    ("Ġ", "a"),
    ("l", "l"),
    ("o", "r"),
    ("Ġ", "w"),
    ("a", "t"),
    ("in", "g"),
    ("he", "ll"),
    ("hell", "o"),
    ("Ġ", "Ġ"),
];

/// Control tokens, the first at id 272.
pub const CONTROL: &[&str] = &["<|im_start|>", "<|im_end|>", "<|endoftext|>"];

/// The model's chat template.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\n' }}{% endif %}";

/// Writes the model to `path`, its matrices in `dtype`. The same `dtype` and `seed` give the same bytes.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] when rows of 64 values are not whole blocks of `dtype`, which has no
/// quantizer here for other types than F32, F16, BF16, Q8_0, Q4_0 and Q4_1; else what the operating system
/// says.
pub fn write(path: &Path, dtype: DType, seed: u64) -> io::Result<()> {
    build(dtype, seed)?.write(path)
}

/// Bytes of a mapped file that are in this process's memory; none where it is not mapped.
///
/// # Errors
/// Whatever the operating system says about telling it.
#[cfg(target_os = "linux")]
pub fn resident(path: &Path) -> io::Result<Option<usize>> {
    let maps = std::fs::read_to_string("/proc/self/smaps")?;
    let name = path.to_string_lossy();
    let mut of_file = maps.lines().skip_while(|line| !line.ends_with(name.as_ref()));
    let kib =
        of_file.find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    Ok(kib.map(|kib| kib << 10))
}

/// The model as a writer, to change something before it is written.
///
/// # Errors
/// As [`write`].
pub fn build(dtype: DType, seed: u64) -> io::Result<GgufWriter> {
    let mut writer = GgufWriter::new();
    put_metadata(&mut writer);
    put_tokenizer(&mut writer);
    let mut random = SplitMix64(seed);
    let (q, kv) = (HIDDEN, HIDDEN / HEADS * KV_HEADS);
    // Larger embeddings and output than a trained model of this width would have, so that some tokens are
    // clearly likelier than others.
    let matrix = |writer: &mut GgufWriter, random: &mut SplitMix64, name: &str, rows: usize, cols: usize| {
        let scale = 1.5 / (cols as f32).sqrt();
        let values: Vec<f32> = (0..rows * cols).map(|_| random.normal() * scale).collect();
        let bytes = encode(dtype, &values).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("a test model cannot be made in {dtype:?}"))
        })?;
        writer.tensor(name, dtype, &[rows, cols], bytes);
        Ok::<_, io::Error>(())
    };
    let norm = |writer: &mut GgufWriter, random: &mut SplitMix64, name: &str| {
        let values: Vec<f32> = (0..HIDDEN).map(|_| 1.0 + 0.1 * random.normal()).collect();
        writer.tensor_f32(name, &[HIDDEN], &values);
    };
    matrix(&mut writer, &mut random, "token_embd.weight", VOCABULARY, HIDDEN)?;
    for layer in 0..LAYERS {
        let name = |suffix: &str| format!("blk.{layer}.{suffix}.weight");
        norm(&mut writer, &mut random, &name("attn_norm"));
        matrix(&mut writer, &mut random, &name("attn_q"), q, HIDDEN)?;
        matrix(&mut writer, &mut random, &name("attn_k"), kv, HIDDEN)?;
        matrix(&mut writer, &mut random, &name("attn_v"), kv, HIDDEN)?;
        matrix(&mut writer, &mut random, &name("attn_output"), HIDDEN, q)?;
        norm(&mut writer, &mut random, &name("ffn_norm"));
        matrix(&mut writer, &mut random, &name("ffn_gate"), FFN, HIDDEN)?;
        matrix(&mut writer, &mut random, &name("ffn_up"), FFN, HIDDEN)?;
        matrix(&mut writer, &mut random, &name("ffn_down"), HIDDEN, FFN)?;
    }
    norm(&mut writer, &mut random, "output_norm.weight");
    Ok(writer)
}

fn put_metadata(writer: &mut GgufWriter) {
    writer.metadata_str("general.architecture", "llama");
    writer.metadata_str("general.name", "test-tiny");
    writer.metadata_u32("llama.block_count", LAYERS as u32);
    writer.metadata_u32("llama.context_length", CONTEXT_LENGTH as u32);
    writer.metadata_u32("llama.embedding_length", HIDDEN as u32);
    writer.metadata_u32("llama.feed_forward_length", FFN as u32);
    writer.metadata_u32("llama.attention.head_count", HEADS as u32);
    writer.metadata_u32("llama.attention.head_count_kv", KV_HEADS as u32);
    writer.metadata_u32("llama.rope.dimension_count", (HIDDEN / HEADS) as u32);
    writer.metadata("llama.rope.freq_base", Value::F32(10_000.0));
    writer.metadata("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
}

/// The vocabulary, merges, control tokens and chat template, as metadata.
pub fn put_tokenizer(writer: &mut GgufWriter) {
    let mut tokens: Vec<String> = (0..=255).map(|byte| byte_level_char(byte).to_string()).collect();
    tokens.extend(MERGES.iter().map(|(left, right)| format!("{left}{right}")));
    let mut types = vec![1_i32; tokens.len()];
    let first_control = tokens.len() as u32;
    tokens.extend(CONTROL.iter().map(|token| (*token).to_owned()));
    types.resize(tokens.len(), 3);
    tokens.extend((tokens.len()..VOCABULARY).map(|id| format!("[PAD{id}]")));
    types.resize(tokens.len(), 5);
    let merges = MERGES.iter().map(|(left, right)| format!("{left} {right}")).collect();

    writer.metadata_str("tokenizer.ggml.model", "gpt2");
    writer.metadata_str("tokenizer.ggml.pre", "qwen2");
    writer.metadata("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    writer.metadata("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    writer.metadata("tokenizer.ggml.merges", Value::Array(Array::String(merges)));
    writer.metadata_u32("tokenizer.ggml.bos_token_id", first_control);
    writer.metadata_u32("tokenizer.ggml.eos_token_id", first_control + 1);
    writer.metadata("tokenizer.ggml.add_bos_token", Value::Bool(false));
    writer.metadata_str("tokenizer.chat_template", CHAT_TEMPLATE);
}

/// `values` in `dtype`, rounded the simple way; `None` for a type without a rule here.
fn encode(dtype: DType, values: &[f32]) -> Option<Vec<u8>> {
    let f16 = |value: f32| half::f16::from_f32(value).to_le_bytes();
    let blocks = values.chunks_exact(32);
    Some(match dtype {
        DType::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|&value| f16(value)).collect(),
        DType::BF16 => values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect(),
        // A scale, then 32 signed bytes.
        DType::Q8_0 => blocks
            .flat_map(|block| {
                let scale = largest(block) / 127.0;
                let codes = block.iter().map(move |value| (value / scale).round() as i8 as u8);
                f16(scale).into_iter().chain(codes)
            })
            .collect(),
        // A scale, then 16 bytes with two codes each: value i low, value i + 16 high, 8 being zero.
        DType::Q4_0 => blocks
            .flat_map(|block| {
                let scale = largest(block) / 7.0;
                let code = |value: f32| (value / scale + 8.0).round().clamp(0.0, 15.0) as u8;
                let codes: Vec<u8> = (0..16).map(|i| code(block[i]) | code(block[i + 16]) << 4).collect();
                f16(scale).into_iter().chain(codes)
            })
            .collect(),
        // A scale and a minimum, then codes as above.
        DType::Q4_1 => blocks
            .flat_map(|block| {
                let least = block.iter().copied().fold(f32::INFINITY, f32::min);
                let most = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let scale = (most - least) / 15.0;
                let code = |value: f32| ((value - least) / scale).round().clamp(0.0, 15.0) as u8;
                let codes: Vec<u8> = (0..16).map(|i| code(block[i]) | code(block[i + 16]) << 4).collect();
                f16(scale).into_iter().chain(f16(least)).chain(codes)
            })
            .collect(),
        _ => return None,
    })
}

fn largest(block: &[f32]) -> f32 {
    block.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

/// The generator of random weights. It is written out here, not taken from a library, whose numbers may
/// change with its version: tests of the crates above expect what these weights say, and some hold bounds
/// that f16 keys which round the other way would break.
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends, and nobody iterates over it")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [-1, 1).
    pub fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    /// About normal with variance 1: the sum of twelve uniform numbers, which needs no library function whose
    /// last bit differs between platforms.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32).sum::<f32>() - 6.0
    }
}

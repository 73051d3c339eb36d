//! Writes a few good inputs for each target to `corpus/`, which the fuzzer then changes.

#[expect(dead_code, reason = "what the examples say is for the tests")]
#[path = "../../crates/model/tests/formats/examples.rs"]
mod examples;

use std::fs;
use std::path::Path;

use fuzz::{SEPARATOR, TEMPLATES};
use kernels::DType;
use model::formats::Format;
use model::gguf::writer::GgufWriter;
use model::gguf::{Array, Value};
use model::test_model;
use serde_json::json;

fn main() -> std::io::Result<()> {
    let put = |target: &str, name: &str, parts: &[&[u8]]| {
        let folder = Path::new("corpus").join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), parts.join(SEPARATOR))
    };

    let mut tokenizer = GgufWriter::new();
    test_model::put_tokenizer(&mut tokenizer);
    put("weight_file", "tokenizer", &[&tokenizer.to_bytes()])?;
    put("weight_file", "sentence-piece", &[&sentence_piece().to_bytes()])?;
    for dtype in [DType::F32, DType::Q8_0, DType::Q4_0] {
        if let Ok(writer) = test_model::build(dtype, 1) {
            put("weight_file", dtype.name(), &[&writer.to_bytes()])?;
        }
    }
    let mut small = GgufWriter::new();
    small.metadata_str("general.architecture", "llama");
    small.metadata("words", Value::Array(Array::String(vec!["a".into(), "bc".into()])));
    small.tensor_f32("a", &[2, 3], &[1.0; 6]);
    put("weight_file", "small", &[&small.to_bytes()])?;

    let config = json!({"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 16, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0, "sliding_window": 64, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}});
    let weights = safetensors(&[
        ("model.embed_tokens.weight", 9, 8),
        ("model.norm.weight", 1, 8),
        ("model.layers.0.input_layernorm.weight", 1, 8),
        ("model.layers.0.self_attn.q_proj.weight", 8, 8),
        ("model.layers.0.self_attn.k_proj.weight", 4, 8),
        ("model.layers.0.self_attn.v_proj.weight", 4, 8),
        ("model.layers.0.self_attn.o_proj.weight", 8, 8),
        ("model.layers.0.post_attention_layernorm.weight", 1, 8),
        ("model.layers.0.mlp.gate_proj.weight", 16, 8),
        ("model.layers.0.mlp.up_proj.weight", 16, 8),
        ("model.layers.0.mlp.down_proj.weight", 8, 16),
    ]);
    put("weight_folder", "llama", &[config.to_string().as_bytes(), &weights])?;

    let said = &[0, 1, 2, 3, 4, 5, 6, 7][..];
    for (name, grammar) in [
        (
            "gbnf",
            "\0root ::= item (\",\" item)* # a list\nitem ::= [a-z0-9]+ | \"\\\"\" [^\"\\n]{1,8} \"\\\"\"",
        ),
        ("lark", "\x01start: A b+\nA: /[a-f]{2,3}/\nb: \"x\" | \"y\" A"),
        ("regex", "\x02(ab|c[d-f]){1,5}[^0-9]?"),
        (
            "schema",
            "\x03{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":-3},\"b\":{\"type\":\"array\",\
             \"items\":{\"enum\":[\"x\",null,1.5]},\"maxItems\":3}},\"required\":[\"a\"],\"additionalProperties\":false}",
        ),
    ] {
        put("grammar", name, &[grammar.as_bytes(), said])?;
    }

    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}});
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": true,
            "normalized": false, "special": true})
    };
    let byte_level = json!({"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(4, "<s>"), special(5, "</s>")], "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null, "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
            "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": {"H": 0, "e": 1, "l": 2, "He": 3}, "merges": [["H", "e"]]}});
    put("tokenizer", "byte-level", &[config.to_string().as_bytes(), byte_level.to_string().as_bytes()])?;
    let mut unigram = byte_level.clone();
    unigram["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"});
    unigram["decoder"] = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"});
    unigram["model"] =
        json!({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["▁", -1.0], ["H", -2.0]]});
    put("tokenizer", "unigram", &[b"{}", unigram.to_string().as_bytes()])?;

    let names = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|im_", "end|>", "</x>", "\u{fdd0}", "hi"];
    for template in 0..TEMPLATES.len() as u8 {
        for start in 0..names.len() {
            let texts: Vec<&str> = (0..16).map(|index| names[(start + index) % names.len()]).collect();
            let bytes = [&[template], texts.join("\0").as_bytes()].concat();
            put("chat", &format!("{template}-{start}"), &[&bytes])?;
        }
    }

    for (index, examples::Example(name, text, _)) in examples::EXAMPLES.iter().enumerate() {
        let format = Format::all().position(|format| format.name() == *name).unwrap_or(0) as u8;
        put("formats", &format!("{index}"), &[&[&[format, 0, 1, 6], text.as_bytes()].concat()])?;
    }

    // Each line: a message, a tab, the same in MessagePack.
    for (index, line) in include_str!("../../crates/protocol/tests/golden.txt").lines().enumerate() {
        let (text, digits) = line.split_once('\t').expect("a line has a tab");
        let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits");
        let packed: Vec<u8> = (0..digits.len()).step_by(2).map(digit).collect();
        put("frame", &format!("{index}.json"), &[text.as_bytes()])?;
        put("frame", &format!("{index}.msgpack"), &[&packed])?;
    }

    let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4.0, "use_rslora": true});
    let layer = "base_model.model.model.layers.0.self_attn.q_proj";
    let tensors = safetensors(&[
        (&format!("{layer}.lora_A.weight"), 2, 64),
        (&format!("{layer}.lora_B.weight"), 64, 2),
    ]);
    put("adapter", "peft", &[config.to_string().as_bytes(), &tensors])?;
    let mut gguf = GgufWriter::new();
    gguf.metadata_str("general.type", "adapter");
    gguf.metadata_str("adapter.type", "lora");
    gguf.metadata("adapter.lora.alpha", Value::F32(4.0));
    gguf.tensor_f32("blk.0.attn_q.weight.lora_a", &[2, 64], &[0.5; 128]);
    gguf.tensor_f32("blk.0.attn_q.weight.lora_b", &[64, 2], &[0.5; 128]);
    put("adapter", "gguf", &[b"", &gguf.to_bytes()])
}

/// A vocabulary with scores.
fn sentence_piece() -> GgufWriter {
    let tokens = ["<unk>", "<s>", "</s>", "<0x0A>", "▁", "h", "e", "he", "▁he"];
    let mut writer = GgufWriter::new();
    writer.metadata_str("tokenizer.ggml.model", "llama");
    let strings = tokens.map(str::to_owned).to_vec();
    writer.metadata("tokenizer.ggml.tokens", Value::Array(Array::String(strings)));
    let scores = (0..tokens.len()).map(|id| -(id as f32)).collect();
    writer.metadata("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
    writer.metadata("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![2, 3, 3, 6, 1, 1, 1, 1, 4])));
    writer.metadata_u32("tokenizer.ggml.bos_token_id", 1);
    writer
}

/// A safetensors file of F32 matrices.
fn safetensors(tensors: &[(&str, usize, usize)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut offset = 0;
    for &(name, rows, cols) in tensors {
        let end = offset + rows * cols * 4;
        let shape = if rows == 1 { json!([cols]) } else { json!([rows, cols]) };
        header
            .insert(name.to_owned(), json!({"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}));
        offset = end;
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; offset]].concat()
}

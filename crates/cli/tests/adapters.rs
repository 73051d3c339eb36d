//! Low-rank adapters, from their files through a program to the logits, compared with a model whose weights
//! are merged.

mod common;

use std::path::{Path, PathBuf};

use kernels::DType;
use model::gguf::Value as Metadata;
use model::gguf::writer::GgufWriter;
use model::test_model::{self, FFN, HEADS, HIDDEN, KV_HEADS};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use serde_json::{Value, json};

const RANK: usize = 4;
const ALPHA: f32 = 8.0;
const HEAD_DIM: usize = HIDDEN / HEADS;
const KV: usize = KV_HEADS * HEAD_DIM;

/// The adapted weights: name in GGUF, name in PEFT, outputs, inputs. Between both layers every kind of
/// matrix.
const WEIGHTS: [(&str, &str, usize, usize); 9] = [
    ("blk.0.attn_q", "layers.0.self_attn.q_proj", HIDDEN, HIDDEN),
    ("blk.0.attn_v", "layers.0.self_attn.v_proj", KV, HIDDEN),
    ("blk.0.ffn_down", "layers.0.mlp.down_proj", HIDDEN, FFN),
    ("blk.1.attn_k", "layers.1.self_attn.k_proj", KV, HIDDEN),
    ("blk.1.attn_q", "layers.1.self_attn.q_proj", HIDDEN, HIDDEN),
    ("blk.1.attn_output", "layers.1.self_attn.o_proj", HIDDEN, HIDDEN),
    ("blk.1.ffn_gate", "layers.1.mlp.gate_proj", FFN, HIDDEN),
    ("blk.1.ffn_up", "layers.1.mlp.up_proj", FFN, HIDDEN),
    ("blk.1.ffn_down", "layers.1.mlp.down_proj", HIDDEN, FFN),
];

/// The matrices of one weight: `a` is `[RANK][inputs]`, `b` is `[outputs][RANK]`, rows in the order of GGUF.
struct Pair {
    a: Vec<f32>,
    b: Vec<f32>,
}

/// Values between -0.2 and 0.2: the product changes a weight by about as much as it is.
fn pairs(seed: u64) -> Vec<Pair> {
    let mut state = seed;
    let mut value = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) * 0.4
    };
    let mut values = |count: usize| (0..count).map(|_| value()).collect();
    WEIGHTS.iter().map(|(.., rows, cols)| Pair { a: values(RANK * cols), b: values(rows * RANK) }).collect()
}

fn gguf(pairs: &[Pair]) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.metadata_str("general.type", "adapter").metadata_str("adapter.type", "lora");
    writer.metadata_str("general.architecture", "llama");
    writer.metadata("adapter.lora.alpha", Metadata::F32(ALPHA));
    for ((name, _, rows, cols), pair) in WEIGHTS.iter().zip(pairs) {
        writer.tensor_f32(&format!("{name}.weight.lora_a"), &[RANK, *cols], &pair.a);
        writer.tensor_f32(&format!("{name}.weight.lora_b"), &[*rows, RANK], &pair.b);
    }
    writer.to_bytes()
}

/// `adapter_config.json` and `adapter_model.safetensors`. Hugging Face stores the rows of a query or key head
/// with the first values of all rotated pairs before the second ones, a GGUF llama pair after pair.
fn peft(pairs: &[Pair]) -> (String, Vec<u8>) {
    let mut tensors = Vec::new();
    for ((name, path, rows, cols), pair) in WEIGHTS.iter().zip(pairs) {
        let mut b = pair.b.clone();
        if name.ends_with("attn_q") || name.ends_with("attn_k") {
            for row in 0..*rows {
                let (head, within) = (row / HEAD_DIM, row % HEAD_DIM);
                let target = head * HEAD_DIM + within / 2 + within % 2 * (HEAD_DIM / 2);
                b[target * RANK..][..RANK].copy_from_slice(&pair.b[row * RANK..][..RANK]);
            }
        }
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let path = format!("base_model.model.model.{path}");
        tensors.push((format!("{path}.lora_A.weight"), vec![RANK, *cols], bytes(&pair.a)));
        tensors.push((format!("{path}.lora_B.weight"), vec![*rows, RANK], bytes(&b)));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    let config = json!({ "peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": ["q_proj"] });
    (config.to_string(), serialize(views, None).unwrap())
}

/// Adds `scale * B A` to the weights.
fn merge(writer: &mut GgufWriter, pairs: &[Pair]) {
    let scale = f64::from(ALPHA) / RANK as f64;
    for ((name, _, rows, cols), pair) in WEIGHTS.iter().zip(pairs) {
        writer.change_f32(&format!("{name}.weight"), |weight| {
            assert_eq!(weight.len(), rows * cols);
            for (index, value) in weight.iter_mut().enumerate() {
                let (row, col) = (index / cols, index % cols);
                let term = |r: usize| f64::from(pair.b[row * RANK + r]) * f64::from(pair.a[r * cols + col]);
                *value = (f64::from(*value) + scale * (0..RANK).map(term).sum::<f64>()) as f32;
            }
        });
    }
}

fn home() -> PathBuf {
    common::home("adapters")
}

/// What the case `adapted` answers for these adapters.
fn run(model: &Path, sources: &Value) -> Value {
    let model = model.to_str().expect("a path in UTF-8");
    let answers = common::ask(&home(), model, &["adapted"], &[sources.to_string()]);
    let [answer] = answers.try_into().expect("one line");
    answer
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The logits of an answer as numbers.
fn logits(answer: &Value) -> Vec<f32> {
    let bits = answer["logits"].as_array().unwrap_or_else(|| panic!("no logits: {answer}"));
    bits.iter().map(|bits| f32::from_bits(bits.as_u64().unwrap() as u32)).collect()
}

fn largest_difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
}

#[test]
fn an_adapter_does_what_merged_weights_do_and_changes_nobody_else() {
    let (folder, pairs) = (home().join("adapters"), pairs(7));
    std::fs::create_dir_all(folder.join("as-peft")).unwrap();
    let (config, tensors) = peft(&pairs);
    std::fs::write(folder.join("as-gguf.gguf"), gguf(&pairs)).unwrap();
    std::fs::write(folder.join("as-peft/adapter_config.json"), &config).unwrap();
    std::fs::write(folder.join("as-peft/adapter_model.safetensors"), &tensors).unwrap();
    let (base, merged) = (home().join("base.gguf"), home().join("merged.gguf"));
    let mut writer = test_model::build(DType::F32, 1).unwrap();
    writer.write(&base).unwrap();
    merge(&mut writer, &pairs);
    writer.write(&merged).unwrap();

    let expected = run(&merged, &json!([]));
    let sources = json!([
        { "name": "as-gguf.gguf" },
        { "name": "as-peft" },
        { "gguf": hex(&gguf(&pairs)) },
        { "peft": [config, hex(&tensors)] },
    ]);
    let found = run(&base, &sources);
    assert_eq!(found["available"], json!(["as-gguf.gguf", "as-peft"]));

    let (plain, target) = (logits(&found["plain"]), logits(&expected["plain"]));
    let size = target.iter().fold(0.0f32, |size, logit| size.max(logit.abs()));
    // The product of A and x is rounded, and so is each merged weight: about 1e-6 of the logits (measured:
    // 7e-7). More can come of keys and values, which are kept with 11 bits: where the two fall on different
    // sides of a rounding, one value differs by 2^-11 of itself. A wrong scale, row order or matrix gives
    // differences of the size of the logits.
    let tolerance = size / 4096.0;
    let answers = found["adapted"].as_array().unwrap();
    assert_eq!(answers.len(), 4);
    let mut names: Vec<String> = WEIGHTS.iter().map(|(name, ..)| format!("{name}.weight")).collect();
    names.sort();
    for (source, answer) in ["GGUF by name", "PEFT by name", "GGUF bytes", "PEFT bytes"].iter().zip(answers) {
        let difference = largest_difference(&logits(answer), &target);
        assert!(difference <= tolerance, "{source}: {difference} off, the logits reach {size}");
        assert_eq!(answer["tokens"], expected["plain"]["tokens"], "{source}");
        assert_eq!(answer["logits"], answers[0]["logits"], "{source}: the same numbers in another file");
        assert_eq!((&answer["rank"], &answer["tensors"]), (&json!(RANK), &json!(names)), "{source}");
    }
    let without = largest_difference(&plain, &target);
    assert!(without > size / 4.0, "without the adapter the logits differ by {without} of {size} only");
    assert_ne!(found["plain"]["tokens"], expected["plain"]["tokens"]);

    // All adapters and none in one call: the bits of each alone.
    let alone: Vec<&Value> =
        answers.iter().chain([&found["plain"]]).map(|answer| &answer["logits"]).collect();
    let together: Vec<&Value> = found["together"].as_array().unwrap().iter().collect();
    assert_eq!(together, alone);
}

#[test]
fn an_adapter_that_does_not_fit_the_model_is_refused_with_its_tensor() {
    std::fs::create_dir_all(home()).unwrap();
    let model = home().join("fitting.gguf");
    test_model::write(&model, DType::F32, 1).unwrap();
    let adapter = |tensor: &str, rows: usize, cols: usize, rank: usize| {
        let mut writer = GgufWriter::new();
        writer.metadata_str("general.type", "adapter").metadata_str("adapter.type", "lora");
        writer.metadata("adapter.lora.alpha", Metadata::F32(ALPHA));
        writer.tensor_f32(&format!("{tensor}.lora_a"), &[rank, cols], &vec![0.1; rank * cols]);
        writer.tensor_f32(&format!("{tensor}.lora_b"), &[rows, rank], &vec![0.1; rows * rank]);
        json!({ "gguf": hex(&writer.to_bytes()) })
    };
    let cases = [
        ("blk.0.attn_q.weight", HIDDEN, FFN, 2, "inputs"),
        ("blk.0.attn_v.weight", HIDDEN, HIDDEN, 2, "outputs"),
        ("blk.2.attn_q.weight", HIDDEN, HIDDEN, 2, "none that an adapter can change"),
        ("output_norm.weight", 1, HIDDEN, 2, "none that an adapter can change"),
        ("blk.0.attn_q.weight", HIDDEN, HIDDEN, HIDDEN + 1, "rank 65"),
    ];
    let sources: Vec<Value> =
        cases.iter().map(|(tensor, rows, cols, rank, _)| adapter(tensor, *rows, *cols, *rank)).collect();
    let found = run(&model, &json!(sources));
    for ((tensor, .., expected), answer) in cases.iter().zip(found["adapted"].as_array().unwrap()) {
        let said = answer["error"].as_str().unwrap_or_else(|| panic!("{tensor} was taken: {answer}"));
        assert!(said.contains("InvalidArgument"), "{said}");
        assert!(said.contains(tensor) && said.contains(expected), "{tensor}, {expected}: {said}");
    }
}

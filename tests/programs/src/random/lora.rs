//! Adapter files for the tiny model, whole and damaged.

use super::draw::Random;

const RANK: usize = 2;
const WIDTH: usize = 64;

/// A GGUF adapter of one matrix, `blk.0.attn_output`.
pub(crate) fn gguf(seed: u64) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    // Tensors and facts.
    out.extend(2u64.to_le_bytes());
    out.extend(4u64.to_le_bytes());
    let facts = [("general.type", "adapter"), ("adapter.type", "lora"), ("general.architecture", "llama")];
    for (key, value) in facts {
        text(&mut out, key);
        // The type of texts.
        out.extend(8u32.to_le_bytes());
        text(&mut out, value);
    }
    text(&mut out, "adapter.lora.alpha");
    // The type of 32-bit floats.
    out.extend(6u32.to_le_bytes());
    out.extend(2f32.to_le_bytes());
    for (index, (suffix, shape)) in [("a", [WIDTH, RANK]), ("b", [RANK, WIDTH])].into_iter().enumerate() {
        text(&mut out, &format!("blk.0.attn_output.weight.lora_{suffix}"));
        out.extend(2u32.to_le_bytes());
        out.extend(shape.iter().flat_map(|size| (*size as u64).to_le_bytes()));
        out.extend(0u32.to_le_bytes());
        out.extend(((index * RANK * WIDTH * 4) as u64).to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(values(seed, 2 * RANK * WIDTH));
    out
}

/// `adapter_config.json` and `adapter_model.safetensors` of the same matrix.
pub(crate) fn peft(seed: u64) -> (String, Vec<u8>) {
    let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["o_proj"]}"#;
    let name = "base_model.model.model.layers.0.self_attn.o_proj.lora";
    let half = RANK * WIDTH * 4;
    let header = format!(
        r#"{{"{name}_A.weight":{{"dtype":"F32","shape":[{RANK},{WIDTH}],"data_offsets":[0,{half}]}},"{name}_B.weight":{{"dtype":"F32","shape":[{WIDTH},{RANK}],"data_offsets":[{half},{}]}}}}"#,
        2 * half
    );
    let header = format!("{header:width$}", width = header.len().next_multiple_of(8));
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.as_bytes());
    out.extend(values(seed, 2 * RANK * WIDTH));
    (config.into(), out)
}

fn values(seed: u64, count: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..count).flat_map(|_| (random.below(1000) as f32 / 1000.0 - 0.5).to_le_bytes()).collect()
}

/// Cuts a file off, or changes bytes of it, as often as not at its beginning.
pub(super) fn damage(random: &mut Random, file: &mut Vec<u8>) {
    if random.chance(50) {
        file.truncate(random.index(file.len()));
    }
    for _ in 0..random.below(4) {
        let end = if random.chance(50) { file.len().min(200) } else { file.len() };
        if end > 0 {
            let at = random.index(end);
            file[at] = random.next() as u8;
        }
    }
}
